"""Which layer of a model does what: where a pass fails, what reads values, what mixes a batch.

A score belongs to one training and one test sample, so a model has to treat each sample by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from tda_utils.inputs import Structured
from tda_utils.models.states import check_no_batch_norm, copied_model

# Of so many samples logits are compared, alone and in company; where a model reads values, of more.
COMPANY, COMPANY_OF_READERS = 4, 100
# They are compared once more among so many, as far as their inputs are no more numbers than that:
# a model may mix large batches only. Of large models a tenth is taken.
CROWD, CROWD_NUMBERS = 200, 1_000_000
# Models of more parameters are looked at in their own type of number first.
LARGE = 1_000_000
# A model that draws at random is called so often.
REPEATS = 20
# Differences of first derivatives are taken over that part of a parameter's size.
STEP = 1e-4
# Python asks a tensor for its value by one of these.
READS = frozenset(
    "__array__ __bool__ __complex__ __contains__ __float__ __index__ __int__ item nonzero numpy "
    "tolist".split()
)


class Call(NamedTuple):
    """One call of one layer: what it took and gave."""

    name: str
    taken: Any  # Arguments by position and by name.
    given: Any


def layer_of(model: nn.Module, name: str) -> str:
    """Say which layer that is, and of which kind.

    Examples
    --------
    >>> layer_of(nn.Sequential(nn.Linear(2, 1)), "0")
    "layer '0' (Linear)"
    >>> layer_of(nn.Linear(2, 1), "")
    'the model itself (Linear)'
    """
    kind = type(dict(model.named_modules())[name]).__name__
    return f"layer {name!r} ({kind})" if name else f"the model itself ({kind})"


@contextmanager
def _hooked(
    model: nn.Module,
    before: Callable[[str, Any], object],
    after: Callable[[str, Any], object],
) -> Iterator[None]:
    """Call functions with the name of each layer and what it takes, and then what it gives."""
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        # What a hook returns would stand in for what it watches, so these return nothing.
        def enter(_: nn.Module, taken: Any, named: Any) -> None:
            before(name, (taken, named))

        def leave(_: nn.Module, taken: Any, named: Any, given: Any) -> None:
            after(name, given)

        hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave, with_kwargs=True))

    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            watch(name, module)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def failing_layer(model: nn.Module, run: Callable[[], object]) -> tuple[Exception, str] | None:
    """Return the error of a pass through the model and the innermost layer it arose in, or None.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> failing_layer(model, lambda: model(torch.ones(1, 3)))[1]
    '1'
    """
    within: list[str] = []
    with _hooked(model, lambda name, _: within.append(name), lambda *_: within.pop()):
        try:
            run()
        except Exception as problem:
            return problem, within[-1] if within else ""
    return None


def overwriting_layer(model: nn.Module, inputs: Tensor) -> str:
    """Return the first layer in whose call the model's inputs are overwritten.

    Examples
    --------
    >>> overwriting_layer(nn.Sequential(nn.ReLU(inplace=True), nn.Tanh()), torch.ones(1, 2))
    '0'
    """
    own = inputs.clone()
    begun, found = [], []

    def leave(name: str, _: Any) -> None:
        if begun.pop() != own._version:
            found.append(name)

    with _hooked(model, lambda *_: begun.append(own._version), leave):
        model(own)
    return found[0] if found else ""


def _calls(model: nn.Module, inputs: Tensor) -> list[Call]:
    """Return the calls of layers in a pass, in the order in which they end."""
    ended: list[Call] = []
    begun: list[Any] = []
    # Copies: what follows may overwrite them in place.
    with _hooked(
        model,
        lambda _, taken: begun.append(tree_map_only(Tensor, Tensor.clone, taken)),
        lambda name, given: ended.append(
            Call(name, begun.pop(), tree_map_only(Tensor, Tensor.clone, given))
        ),
    ):
        model(inputs.clone())
    return ended


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and dictionaries."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class _Reads(TorchFunctionMode):
    """Notes whether Python asks for the value of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Note the name, then do what was asked."""
        name = getattr(func, "__name__", "")
        mask = name in ("__getitem__", "__setitem__") and _has_mask(args[1])
        self.seen |= name in READS or mask or name in ("masked_select", "unique")
        return func(*args, **(kwargs or {}))


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


@torch.no_grad()
def reads_values(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether a pass through the model reads values of tensors, so that it may branch.

    What two samples show of such a model need not hold of a third.

    Examples
    --------
    >>> reads_values(nn.ReLU(), torch.ones(1, 2))
    False
    """
    with _Reads() as reads:
        model(inputs.clone())
    return reads.seen


def check_each_by_itself(model: nn.Module, *inputs: Tensor) -> None:
    """Raise a `ValueError` unless logits of a sample are the same alone and in company.

    Parameters
    ----------
    model : nn.Module
        Takes ``inputs[0][:1]``; a copy of it is called, in evaluation mode.
    *inputs : Tensor, shape (n, ...)
        Samples, of which some are looked at.

    Examples
    --------
    >>> check_each_by_itself(nn.Softmax(dim=1), torch.rand(3, 2))
    >>> check_each_by_itself(nn.Softmax(dim=0), torch.rand(3, 2))
    Traceback (most recent call last):
    ValueError: model gives a sample other logits in company than alone, since the model itself \
(Softmax) mixes the samples of a batch; each sample must be treated by itself.
    """
    parameters = list(model.parameters())
    kind = parameters[0].dtype if parameters else inputs[0].dtype
    large, problem = _is_large(model), None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Rounding cannot mislead in float64, which of a large model only says the last word.
        for dtype in (kind, torch.float64) if large else (torch.float64, kind):
            own = copied_model(model).to(dtype)
            own.eval()
            parts = [some.to(dtype) for some in _distinct(inputs, COMPANY)]
            try:
                alone = own(parts[0][:1].clone())
            except (RuntimeError, ValueError, TypeError):
                continue  # A layer that takes one type of number only.
            problem = _other_each_time(own, parts[0][:1], alone)
            if problem is None and reads_values(own, parts[0][:1].clone()):
                parts = [some.to(dtype) for some in _distinct(inputs, COMPANY_OF_READERS)]
            for some in parts:
                problem = problem or _other_in_company(own, some, len(some))
            for split in inputs:
                problem = problem or _other_in_company(own, _crowd(split, large).to(dtype), COMPANY)
            if problem is None or dtype == torch.float64:
                break
    if problem is not None:
        raise ValueError(problem)


def _other_each_time(model: nn.Module, inputs: Tensor, before: Tensor) -> str | None:
    """Say which layer makes a sample have other logits each time, or None."""
    drawing = _drawing_layer(model, inputs)
    # Few units may be dropped alike by chance.
    for _ in range(1 if drawing is None else REPEATS):
        if not _alike(model(inputs.clone()), before):
            if drawing is None:
                drawing = _differing_layer(_calls(model, inputs), _calls(model, inputs))
            return (
                f"model gives a sample other logits each time, since {layer_of(model, drawing)} "
                "draws at random or remembers earlier calls, in evaluation mode as well; a sample "
                "must have one loss."
            )
    return None


def _drawing_layer(model: nn.Module, inputs: Tensor) -> str | None:
    """Return the innermost layer that draws from PyTorch's global random state, or None."""
    begun, drawing = [], []

    def leave(name: str, _: Any) -> None:
        if not torch.equal(begun.pop(), torch.get_rng_state()):
            drawing.append(name)

    with _hooked(model, lambda *_: begun.append(torch.get_rng_state()), leave):
        model(inputs.clone())
    return drawing[0] if drawing else None


def _other_in_company(model: nn.Module, inputs: Tensor, rows: int) -> str | None:
    """Say which layer makes one of the first samples have other logits in company, or None."""
    try:
        together = model(inputs.clone())
    except (RuntimeError, ValueError, IndexError) as problem:
        said = " ".join(str(problem).split())
        return f"model takes one sample, but not {len(inputs)} at once ({said[:200]})."
    if len(together) != len(inputs):
        return (
            f"model gives outputs of shape {tuple(together.shape)} for {len(inputs)} samples; they "
            "must be logits, one row a sample."
        )
    for row in range(min(rows, len(inputs))):
        one = inputs[row : row + 1]
        if not _alike(together[row : row + 1], model(one.clone())):
            layer = _differing_layer(_calls(model, inputs), _calls(model, one), row)
            return (
                "model gives a sample other logits in company than alone, since "
                f"{layer_of(model, layer)} mixes the samples of a batch; each sample must be "
                "treated by itself."
            )
    return None


def _distinct(inputs: Sequence[Tensor | Structured], most: int) -> list[Tensor | Structured]:
    """Return samples of all the inputs that differ, as far as there are any, spread evenly.

    They are one batch; of inputs that may differ in length, one of each split, at other places.
    """
    if any(isinstance(split, Structured) for split in inputs):
        return [_spread(split, most) for split in inputs]
    kept: list[Tensor] = []
    for number, split in enumerate(inputs, start=1):
        for one in split[:: max(len(split) // (2 * most), 1)]:
            enough = len(kept) >= most * number // len(inputs)
            if not enough and not any(torch.equal(one, other) for other in kept):
                kept.append(one)
    return [torch.stack(kept)]


def _spread(inputs: Tensor | Structured, most: int) -> Tensor | Structured:
    positions = torch.arange(0, len(inputs), max(-(-len(inputs) // most), 1))
    return _some(inputs, positions)


def _some(inputs: Tensor | Structured, positions: Tensor) -> Tensor | Structured:
    """Return some samples; those of a data set unread, so that each can be read alone."""
    return inputs.take(positions) if hasattr(inputs, "source") else inputs[positions]


def _crowd(inputs: Tensor | Structured, large: bool) -> Tensor | Structured:
    """Return as many samples as are looked at together."""
    most = min(CROWD, CROWD_NUMBERS // max(inputs[0].numel(), 1)) // (10 if large else 1)
    most = min(max(most, COMPANY), len(inputs))
    return inputs[:most] if isinstance(inputs, Tensor) else _some(inputs, torch.arange(most))


def check_alone_in_training(model: nn.Module, inputs: Tensor, what: str) -> None:
    """Raise a `ValueError` if the model, while it trains, mixes the samples of a batch.

    A sample of weight zero would still take part in what becomes of the others. Batch normalisation
    does so, and it is looked for by name; others are found by their logits, without dropout.

    Parameters
    ----------
    model : nn.Module
        Copies of it are called, in training mode.
    inputs : Tensor, shape (n, ...)
        Training samples, of which some are looked at.
    what : str
        What cannot be, as the second half of the sentence.

    Examples
    --------
    >>> check_alone_in_training(nn.Softmax(dim=0), torch.rand(3, 2), "leave-one-out cannot")
    Traceback (most recent call last):
    ValueError: model mixes the samples of a batch while it trains, in the model itself (Softmax); \
leave-one-out cannot.
    """
    check_no_batch_norm(model, what)
    own = copied_model(model).double()
    own.train()
    for module in own.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()

    def logits(samples: Tensor) -> Tensor:
        # Each time of a fresh copy: what a layer remembers of a call is no mixing.
        return copied_model(own)(samples.clone())

    crowd = _crowd(inputs, large=_is_large(model))
    if isinstance(inputs, Tensor):
        crowd = torch.cat([*_distinct([inputs], COMPANY), crowd])[: len(crowd)]
    some = crowd.double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            alone = [logits(some[row : row + 1]) for row in range(min(COMPANY, len(some)))]
            if not _alike(logits(some[:1]), alone[0]):
                return  # It draws at random, which training says by itself.
            together = logits(some)
        except Exception:  # What is wrong with the model in training, training says.
            return
        for row, single in enumerate(alone):
            if not _alike(together[row : row + 1], single):
                calls = (_calls(copied_model(own), part) for part in (some, some[row : row + 1]))
                raise ValueError(
                    "model mixes the samples of a batch while it trains, in "
                    f"{layer_of(model, _differing_layer(*calls, row))}; {what}."
                )


def _is_large(model: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) > LARGE


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether values agree to the rounding of their type of number."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() and not one.is_complex():
        return torch.equal(one, other)
    tolerance = max(1e-9, 1e3 * torch.finfo(one.dtype).eps)
    largest = other.abs().nan_to_num(0, 0, 0).amax().item() if other.numel() else 0.0
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def _differing_layer(some: Sequence[Call], others: Sequence[Call], row: int = 0) -> str:
    """Return the first layer that took the same of a sample in two passes, and gave other.

    The sample is a `row` of the batch in the first pass, and alone in the second.
    """
    for many, one in zip(some, others, strict=False):
        if many.name != one.name:
            break
        if _same_sample(many.taken, one.taken, row) and not _same_sample(
            many.given, one.given, row
        ):
            return one.name
    return ""


def _same_sample(many: Any, one: Any, row: int) -> bool:
    """Return whether tensors of a batch hold, in one row, those of a sample alone."""
    return all(
        _alike(_row_of(batch, single, row), single)
        for batch, single in zip(_tensors(many), _tensors(one), strict=False)
    )


def _row_of(batch: Tensor, single: Tensor, row: int) -> Tensor:
    """Return a sample's part of a tensor, whichever dimension the batch is."""
    if batch.shape == single.shape or batch.ndim != single.ndim:
        return batch
    dim = next(d for d in range(batch.ndim) if batch.shape[d] != single.shape[d])
    return batch.narrow(dim, row * single.shape[dim], single.shape[dim])


def check_twice_differentiable(model: nn.Module, inputs: Tensor, what: str) -> None:
    """Raise a `ValueError` that names the layer unless logits have a second derivative.

    It is held against differences of first derivatives, in float64 if the model takes that, since
    some are wrong without a word: PyTorch's own of weight normalisation, or those of a backward
    pass of one's own that hides what it depends on.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; a copy of it is called.
    inputs : Tensor, shape (n, ...)
        The first is taken.
    what : str
        Says what needs it, as the first half of the sentence.

    Examples
    --------
    >>> check_twice_differentiable(nn.Linear(2, 1), torch.ones(1, 2), "solver is 'hessian'")
    """
    own, one = copied_model(model).double(), inputs[:1].double()
    try:
        with torch.no_grad():
            own(one)
    except Exception:  # A layer that takes one type of number only.
        own = copied_model(model)
        one = inputs[:1].to(next(own.parameters()).dtype)
    wrong = _wrong_second_derivative(lambda: own(one.clone()), list(own.parameters()))
    if wrong is not None:
        layer, wrong = _layer_with_wrong_second_derivative(own, one, wrong)
        raise ValueError(
            f"{what}, which needs second derivatives; {layer_of(own, layer)} has none that are "
            f"right ({wrong})."
        )


def _wrong_second_derivative(run: Callable[[], Any], leaves: Sequence[Tensor]) -> str | None:
    """Say what is wrong with the second derivatives of what `run` gives by these leaves, or None.

    Differences of two sizes are taken: where they differ a kink is near, and they say nothing.
    """
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    generator = torch.Generator().manual_seed(0)
    along = [
        torch.randn(leaf.shape, generator=generator).to(leaf) * _size(leaf.detach())
        for leaf in leaves
    ]

    def first(**options: bool) -> list[Tensor]:
        value = sum(part.abs().square().sum() for part in _tensors(run()) if part.requires_grad)
        if not leaves or not isinstance(value, Tensor):
            return []
        return list(torch.autograd.grad(value, leaves, materialize_grads=True, **options))

    def moved(size: float) -> list[Tensor]:
        with torch.no_grad():
            for leaf, step in zip(leaves, along, strict=True):
                leaf.add_(step, alpha=size)
        return first()

    try:
        gradients = first(create_graph=True)
        products = [(g * v).sum() for g, v in zip(gradients, along, strict=False)]
        products = [product for product in products if product.requires_grad]
        if not products:
            return None
        second = torch.autograd.grad(
            sum(products), leaves, retain_graph=True, materialize_grads=True
        )
        # All the way to every leaf: on the way to some of them errors are passed by.
        sum(products).backward()
    except RuntimeError as problem:
        return " ".join(str(problem).split())[:150]
    found = _flat(second)
    if found.dtype != torch.float64:
        return None
    ahead, behind = moved(STEP), moved(-2 * STEP)
    far = (_flat(ahead) - _flat(behind)) / (2 * STEP)
    ahead, behind = moved(1.1 * STEP), moved(-0.2 * STEP)
    near = (_flat(ahead) - _flat(behind)) / (0.2 * STEP)
    rounding = 1e-4 * max(far.norm(), found.norm()) + 1e-8 * _flat(gradients).norm()
    smooth = (near - far).norm() <= rounding
    if smooth and (found - far).norm() > 10 * rounding:
        return "differences of first derivatives are others than autograd's"
    return None


def _size(values: Tensor) -> float:
    """Return the root of the mean square, or 1 of zeros."""
    return float(values.square().mean().sqrt()) or 1.0 if values.numel() else 1.0


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _layer_with_wrong_second_derivative(
    model: nn.Module, inputs: Tensor, wrong: str
) -> tuple[str, str]:
    """Return the innermost layer whose own second derivative is wrong, and why."""
    modules = dict(model.named_modules())
    for call in _calls(model, inputs):
        taken = tree_map_only(Tensor, _leaf, call.taken)

        def run(module: nn.Module = modules[call.name], taken: Any = taken) -> Any:
            arguments, named = tree_map_only(Tensor, Tensor.clone, taken)
            return module(*arguments, **named)

        own = _wrong_second_derivative(run, [*modules[call.name].parameters(), *_tensors(taken)])
        if own is not None:
            return call.name, own
    return "", wrong


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_(value.is_floating_point())
