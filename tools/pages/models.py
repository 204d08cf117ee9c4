"""Write docs/models.md: what each network of the zoo gets from each method.

And which objectives and inputs are tried. The outcomes are those that the tests of `tests/zoo`
hold, cell by cell.

    python -m tools.pages.models           write docs/models.md
    python -m tools.pages.models --check   exit with 1 if it would change
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tda_utils.engine.structure import KERNELS
from tests.engine.cnns import LEFT, TAKEN
from tests.zoo.inputs import INPUTS
from tests.zoo.networks import NETWORKS
from tests.zoo.objectives import CASES
from tests.zoo.outcomes import (
    BY_LAYER,
    GRADIENT_METHODS,
    INPUT_SLOW,
    ONCE_DIFFERENTIABLE,
    PAIRED,
    REFUSED,
    SLOW,
    input_outcome,
    outcome,
)
from tests.zoo.training_outcomes import (
    TRAINING_METHODS,
    UNLESS_WHOLE,
    UNTRAINED,
    training_outcome,
)
from tools import ROOT
from tools.pages.filling import write_or_check

MODELS = ROOT / "docs" / "models.md"
OPENING = """\
# Which models

A model is any `nn.Module` that maps inputs to logits and treats each sample by itself. Every cell
of this table is tried by the tests, on {count} tiny networks, against a plain loop over samples:
training against a loop with PyTorch's Adam, gradients against autograd in float64, Gauss-Newton
and the Hessian against a dense solve, EK-FAC and LiSSA against their definitions written plainly.

- *exact*: the value of the plain loop, by a fast way. Of EK-FAC it is said whether a block is a
  layer or a parameter.
- *slow*: the same value, by a loop over samples. The way is chosen by itself, and said once, in a
  warning that names the layer.
- *refused*: one sentence, which names the layer where it is one layer's doing.

A fast way is taken only where it agrees with autograd on the given model. All works in a caller's
`torch.no_grad()` and `torch.inference_mode()`, too.
"""
OBJECTIVES = """\
## Which objectives

`tda.Objective` says what the loss of a sample is, and what is measured on a test sample:
`Task.from_arrays(..., objective=tda.Objective("mse"))`. All methods follow. Each of these is held
against a plain loop in float64 under every method of the table above, on a network whose gradients
are taken layer by layer, on one parameter by parameter and on one sample by sample. Gauss-Newton
takes the curvature of the given loss: in closed form of those that have a name, by autograd of a
callable. Only plain cross-entropy is trained by the compiled passes.
"""
STRUCTURE = """\
## Which networks are compiled

The engine has compiled passes for convolutional networks like those of the paper, and takes them
for every model of this structure, whoever wrote it: as a class, as `nn.Sequential`, with layers,
functions or methods. It is read from a trace of the forward by `torch.fx`.

- Two or more `Conv2d` of stride one with a bias, each with ReLU or GELU and 2 x 2 max-pooling, in
  either order. Kernels after the first are {kernels} wide, square, padded with zeros if at all.
- `flatten` or `view`, then one or more `Linear` with a bias, ReLU or GELU between them.
- Square images, parameters of one type, float32 or float64, on the CPU.

All else takes the general path, without a word: dropout, buffers, hooks, frozen or shared
parameters, parametrisations, a forward that branches, draws random numbers or leaves something
behind. Both give the same numbers to rounding; `tests/engine/cnns.py` has {taken} networks that are
taken and {left} that are not.
"""
OTHER_INPUTS = """\
## Which inputs

Beside one tensor a model may take a tuple of them by place or a dict by name, with whole numbers
among them; `Task.from_datasets` reads samples of a data set of PyTorch batch by batch, of variable
length with `collate=`. A model may give an object with `.logits`. Each network of this table is
held against a loop in float64 that takes each sample alone, without padding.
"""


def outcomes(network: str) -> dict[str, str]:
    """Return what a network gets, by the method."""
    found = {method: training_outcome(network, method) for method in TRAINING_METHODS}
    found |= {method: outcome(network, method) for method in GRADIENT_METHODS}
    if found["ekfac"] != "refused":
        found["ekfac"] += ", by layer" if network in BY_LAYER else ", by parameter"
    return found


def table() -> str:
    """Return the table, a row a network and a column a method."""
    columns = [*TRAINING_METHODS, *GRADIENT_METHODS]
    lines = [
        f"| network | {' | '.join(f'`{name}`' for name in columns)} |",
        f"| --- |{' --- |' * len(columns)}",
    ]
    for network in NETWORKS:
        found = outcomes(network)
        lines.append(f"| {network} | {' | '.join(found[name] for name in columns)} |")
    return "\n".join(lines)


def rows_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def objectives() -> str:
    """Return the table of objectives: a row each, with what makes it and what it takes."""
    columns = ["objective", "targets", "outputs a sample"]
    return rows_of(columns, [[name, c.targets, str(c.outputs)] for name, c in CASES.items()])


def inputs() -> str:
    """Return the table of networks with other inputs, a row each and a column a method."""
    methods = [*TRAINING_METHODS, *GRADIENT_METHODS]
    columns = ["network", "inputs", "objectives tried", *(f"`{name}`" for name in methods)]
    rows = [
        [
            network,
            kind.inputs,
            "; ".join(PAIRED[network]),
            *(input_outcome(network, method) for method in methods),
        ]
        for network, kind in INPUTS.items()
    ]
    return rows_of(columns, rows)


def reasons(heading: str, said: Mapping[str, str]) -> str:
    """Return a part that lists networks with what is named."""
    lines = [f"- {network}: `{facts}`" for network, facts in said.items()]
    return "\n".join([f"## {heading}", "", *lines])


def page() -> str:
    """Return the whole page."""
    untrained, unless_whole = (
        {name: ", ".join(facts) for name, facts in refused.items()}
        for refused in (UNTRAINED, UNLESS_WHOLE)
    )
    of_inputs = {f"{name}, of other inputs": facts for name, facts in INPUT_SLOW.items()}
    parts = [
        OPENING.format(count=len(NETWORKS)).rstrip(),
        table(),
        "The columns `ggn`, `ekfac`, `hessian` and `lissa` are solvers of `influence`.",
        OBJECTIVES.rstrip(),
        objectives(),
        STRUCTURE.format(
            kernels=" or ".join(map(str, KERNELS)), taken=len(TAKEN), left=len(LEFT)
        ).rstrip(),
        OTHER_INPUTS.rstrip(),
        inputs(),
        "Second derivatives are tried with the first of the two objectives. A ResNet-18 of "
        "torchvision is\ntried with `grad_dot`, with all parameters and with "
        '`parameters=["fc"]`, the last layer alone.',
        reasons("What the warning of a slower way names", {**SLOW, **of_inputs}),
        reasons("What the refusals of gradient methods name", REFUSED),
        reasons("What `hessian` and `lissa` refuse besides", ONCE_DIFFERENTIABLE),
        "Second derivatives are held against differences of first ones before they are used. "
        "PyTorch's own of\nweight normalisation are others, and so they are refused.",
        reasons("What the refusals of training name", untrained),
        reasons("What `loo` and `ats` refuse besides", unless_whole),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write docs/models.md, or check it; return the exit code."""
    return write_or_check(MODELS, lambda _: page(), __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
