"""What each network of the zoo gets from each method: exact, slow or refused.

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
#: Networks whose gradients are taken sample by sample, with the layer that is named.
SLOW: dict[str, str] = {}
#: Networks that no method takes, with what the sentence names.
REFUSED: dict[str, str] = {}
#: Networks that methods with second derivatives do not take, with the layer that is named.
ONCE_DIFFERENTIABLE: dict[str, str] = {}
#: Networks that are taken apart layer by layer, so that EK-FAC has a block a layer.
BY_LAYER: set[str] = set()


def outcome(network: str, method: str) -> str:
    """Return what a network gets from a gradient method."""
    assert network in NETWORKS and method in GRADIENT_METHODS
    if network in REFUSED or (network in ONCE_DIFFERENTIABLE and method in ("hessian", "lissa")):
        return "refused"
    return "slow" if network in SLOW else "exact"
