"""What each network of the zoo gets from each gradient method: exact, slow or refused.

Exact is the value of a plain loop over samples by a fast way, slow the same by such a loop, and
refused one sentence. The tests hold each cell; `tools.pages.models` makes the table of the docs.
"""

from tests.zoo.networks import NETWORKS

#: The gradient methods by the names of columns, with the options of `tda_utils.attribute`.
GRADIENT_METHODS = {
    "grad_dot": ("grad_dot", {}),
    "grad_cos": ("grad_cos", {}),
    "ggn": ("influence", {"solver": "ggn"}),
    "ekfac": ("influence", {"solver": "ekfac"}),
    "hessian": ("influence", {"solver": "hessian"}),
    "lissa": ("influence", {"solver": "lissa", "protocol": "released"}),
}
#: Networks whose gradients are taken sample by sample, with what the warning names.
SLOW = {
    "RNN": "layer 'cell' (RNN)",
    "GRU": "layer 'cell' (GRU)",
    "LSTM": "layer 'cell' (LSTM)",
    "LSTM, both ways, projected": "layer 'cell' (LSTM)",
    "branches by sample": "the model itself (Branching)",
    "loops by sample": "the model itself (Looping)",
    "experts by argmax": "the model itself (Experts)",
    "scripted": "the model itself (RecursiveScriptModule)",
}
#: The same of networks with other inputs than one tensor (`tests.zoo.inputs`).
INPUT_SLOW = {
    "LSTM": "layer 'cell' (LSTM)",
    "BERT (Transformers)": "layer 'bert' (BertModel)",
}
#: Two objectives of `tests.zoo.objectives` a network, so that each kind meets several inputs.
PAIRED = {
    "MLP of two inputs": ("mean squared error, three outputs", "cross-entropy"),
    "LSTM": ("binary cross-entropy, one logit", "cross-entropy, margin measured"),
    "transformer encoder": ("a callable of labels, one measured", "cross-entropy, class weights"),
    "BERT (Transformers)": ("cross-entropy", "cross-entropy, label smoothing"),
    "graph network": ("mean squared error, one output", "a callable"),
}
#: Networks that no method takes, with what the sentence names.
REFUSED = {
    "inputs overwritten": "the model itself (OverInputs)",
    "activation overwritten": "inplace operation",
    "no parameters": "no parameters",
    "frozen parameters only": "no trainable parameter",
    "dropout in evaluation": "layer '2' (AlwaysDropout)",
    "logits that remember earlier calls": "the model itself (Remembering)",
    "one logit": "one logit",
    "branch by batch": "the model itself (BatchBranch)",
    "centred by the batch": "layer '3' (Centring)",
    "softmax over the batch": "the model itself (Attending)",
    "batch norm without statistics": "layer '1' with track_running_stats=False",
}
#: Networks that methods with second derivatives do not take, with the layer that is named.
ONCE_DIFFERENTIABLE = {
    "own backward pass, once only": "layer '2' (OnceActivation)",
    "weight norm": "layer 'first.parametrizations.weight.0' (_WeightNorm)",
    "weight norm by hooks": "layer 'first' (Linear)",
}
#: Networks that are taken apart, so that EK-FAC has a block a layer, not a block a parameter.
BY_LAYER = {
    "linear",
    "mlp",
    "more logits than classes",
    "cnn",
    "strided convolution",
    "padding 'same'",
    "upsampling",
    "layer called by keyword",
    "residual block",
    "squeeze and excite",
    "low-rank adapter",
    "activation checkpointing",
    "weights made of inputs",
    "scaled dot-product attention",
    "dropout",
    "own backward pass",
    "own backward pass, once only",
    "experts gathered",
    "buffers that change",
    "compiled",
}


def outcome(network: str, method: str) -> str:
    """Return what a network gets from a gradient method."""
    assert network in NETWORKS and method in GRADIENT_METHODS
    if network in REFUSED or (network in ONCE_DIFFERENTIABLE and method in ("hessian", "lissa")):
        return "refused"
    return "slow" if network in SLOW else "exact"


def input_outcome(network: str, method: str) -> str:
    """Return what a network with other inputs gets from a method."""
    return "slow" if network in INPUT_SLOW and method in GRADIENT_METHODS else "exact"
