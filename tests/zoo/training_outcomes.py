"""What each network of the zoo gets from the methods that train.

Exact is the value of a plain loop with PyTorch's Adam, refused is one sentence. On a CPU no network
needs a slower way: what the compiled passes do not know is trained by autograd, as the loop is.
"""

from tests.zoo.networks import NETWORKS

#: The methods that train, by the names of columns.
TRAINING_METHODS = ("sample_posterior", "losses", "loo", "ats")
#: Networks that cannot be trained, with facts of the sentence, in order.
UNTRAINED: dict[str, list[str]] = {
    "inputs overwritten": ["overwrites the inputs", "the model itself (OverInputs)"],
    "activation overwritten": ["'first' (Linear)", "modified by an inplace operation"],
    "no parameters": ["no parameter"],
    "frozen parameters only": ["no", "trainable parameter"],
    "transformer encoder layer": ["'layer.self_attn' (MultiheadAttention)", "nn.Dropout"],
    "one logit": ["one logit"],
    "branch by batch": ["mixes the samples"],
    "logits that remember earlier calls": ["remembers earlier calls"],
    "centred by the batch": ["'3' (Centring)", "mixes the samples"],
    "dropout in evaluation": ["draws at random", "evaluation mode"],
    "softmax over the batch": ["Attending", "mixes the samples"],
    "batch norm without statistics": ["'1'", "track_running_stats=False"],
}
#: Of these, networks whose losses can be looked at, if they were trained elsewhere.
LOOKED_AT = ("activation overwritten", "frozen parameters only", "transformer encoder layer")
#: Networks that are trained, but not with a sample left out or by a step on one sample.
UNLESS_WHOLE: dict[str, list[str]] = {"batch norm": ["batch normalisation", "'1'"]}


def training_outcome(network: str, method: str) -> str:
    """Return what a network gets from a method that trains."""
    assert network in NETWORKS and method in TRAINING_METHODS
    if method == "losses" and network in LOOKED_AT:
        return "exact"
    refused = network in UNTRAINED or (network in UNLESS_WHOLE and method in ("loo", "ats"))
    return "refused" if refused else "exact"
