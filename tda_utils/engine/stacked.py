"""Many models of one architecture in step, for a GPU that one small model would leave idle.

Parameters are stacked along a first dimension and `torch.func.vmap` maps the network over it. The
optimiser needs no change: Adam works element by element. Any `nn.Module` without buffers and
dropout will do; the fused and the general path of the engine train one model at a time, which is
faster on a CPU.

A step is some hundred small kernels, and a card runs them faster than Python can ask for them. So
after a few steps one is recorded as a CUDA graph, and from then on replayed with a single call.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.modules import (
    EVALUATION_BATCH,
    adam_state,
    memory_of,
    optimizer_of,
    set_rate,
)
from tda_utils.engine.noise import check_no_dropout
from tda_utils.engine.parallel import float32_arithmetic, progress_bar
from tda_utils.engine.recipe import Job, Recipe
from tda_utils.inputs import Structured
from tda_utils.models.states import (
    AdamState,
    State,
    copied,
    copied_model,
    float_dtype,
    largest_finite,
    load_state,
    state_of,
    tied_names,
    trainable_parameters,
)

# The memory that one stack may take on a CPU, and the share of what is free on a GPU.
CPU_BYTES = 512 * 2**20
GPU_SHARE = 0.5
# Steps before one is recorded: libraries set up their workspaces in the first ones.
WARM_UP = 3


def is_stackable(model: nn.Module) -> bool:
    """Return whether models can be stacked: buffers, such as running means, would be shared.

    Examples
    --------
    >>> is_stackable(nn.Linear(2, 1)), is_stackable(nn.BatchNorm1d(2))
    (True, False)
    """
    return not any(True for _ in model.buffers())


class _Patches(torch.autograd.Function):
    """The patch under the kernel at each position, shape (n, channels * kernel, positions).

    `torch.nn.functional.unfold` gives the same, but on a card image by image; here it is one copy.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        windows = images.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
        return windows.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        images, ctx.kernel, ctx.stride = inputs
        ctx.sides = images.shape[-2:]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return F.fold(gradient, ctx.sides, ctx.kernel, stride=ctx.stride), None, None


class UnfoldedConvolution(nn.Module):
    """A convolution as a matrix product with the patches under its kernel.

    Mapped over models, a convolution becomes one with a group a model, for which libraries have
    slow kernels; a matrix product becomes a batched one.

    Parameters
    ----------
    layer : nn.Conv2d
        Without groups and dilation, padded with zeros if at all. Its parameters are shared.

    Examples
    --------
    >>> layer, images = nn.Conv2d(1, 2, 3, padding=1), torch.rand(4, 1, 5, 6)
    >>> torch.allclose(UnfoldedConvolution(layer)(images), layer(images), atol=1e-6)
    True
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._kernel, self._stride = layer.kernel_size, layer.stride
        # As F.pad counts: from the last dimension backwards, each side on its own.
        self._padding = layer._reversed_padding_repeated_twice

    def forward(self, input: Tensor) -> Tensor:  # As PyTorch's, which models may call by keyword.
        """Return what the layer returns for images, shape (n, channels, height, width)."""
        if any(self._padding):
            input = F.pad(input, self._padding)
        sides = [
            (length - kernel) // stride + 1
            for length, kernel, stride in zip(
                input.shape[-2:], self._kernel, self._stride, strict=True
            )
        ]
        outputs = self.weight.flatten(1) @ _Patches.apply(input, self._kernel, self._stride)
        if self.bias is not None:
            outputs = outputs + self.bias[:, None]
        return outputs.unflatten(2, sides)


def is_unfoldable(layer: nn.Module) -> bool:
    """Return whether `UnfoldedConvolution` can stand for a layer.

    Examples
    --------
    >>> is_unfoldable(nn.Conv2d(2, 2, 3)), is_unfoldable(nn.Conv2d(2, 2, 3, groups=2))
    (True, False)
    """
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
        return False
    return layer.groups == 1 and layer.dilation == (1, 1)


def with_unfolded_convolutions(model: nn.Module) -> nn.Module:
    """Replace the plain convolutions in the model by matrix products, and return it.

    Examples
    --------
    >>> with_unfolded_convolutions(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()))
    Sequential(
      (0): UnfoldedConvolution()
      (1): Flatten(start_dim=1, end_dim=-1)
    )
    """
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if is_unfoldable(module):
                setattr(parent, name, UnfoldedConvolution(module))
    return model


class Batch(NamedTuple):
    """A batch for each model of a stack."""

    images: Tensor  # (models, batch, channels, height, width)
    labels: Tensor  # (models, batch)
    weights: Tensor | None  # (models, batch): factors on the losses


class StackedLearner:
    """A stack of models with one optimiser.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied.
    recipe : Recipe
        Learning rate and weight decay.
    states : sequence of mappings of str to Tensor
        The parameters of each model.
    adam : sequence of AdamState, optional
        The state of each model's optimiser; all must have taken the same number of steps.
    device : torch.device
        Where to train.
    objective : Objective
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        states: Sequence[State],
        adam: Sequence[AdamState] | None,
        device: torch.device,
        objective: Objective = CROSS_ENTROPY,
    ) -> None:
        self._objective = objective
        for state in states:
            load_state(copied_model(model), state)  # Raises where they do not fit.
        own = load_state(copied_model(model), states[0]).to(device)
        self._model, self._lr = with_unfolded_convolutions(own), recipe.lr
        self._parameters = {
            name: nn.Parameter(_stacked(states, name, device))
            for name in trainable_parameters(model)
        }
        on_card = device.type == "cuda"
        self._optimizer = optimizer_of(self._parameters.values(), recipe, recordable=on_card)
        self._steps = 0.0 if adam is None else float(adam[0].step)
        self._tied = tied_names(model)
        for name in adam[0].exp_avg if adam is not None else ():
            means = [
                {name: _stacked([getattr(one, moment) for one in adam], name, device)}
                if name in getattr(adam[0], moment)
                else {}
                for moment in ("exp_avg", "exp_avg_sq")
            ]
            together = AdamState(adam[0].step_of(name), *means)
            self._optimizer.state[self._parameters[name]] = memory_of(
                together, name, lambda mean: mean, device
            )
        self._recorded = _Recorded() if on_card else None

    def _losses_of_one(self, parameters: State, images: Tensor, labels: Tensor) -> Tensor:
        outputs = functional_call(self._model, parameters, (images,))
        return self._objective.losses(outputs, labels, in_training=True)

    def _measured_of_one(self, parameters: State, images: Tensor, labels: Tensor) -> Tensor:
        outputs = functional_call(self._model, parameters, (images,))
        return self._objective.measured(outputs, labels, in_training=True)

    def step(self, batch: Batch, rate: float = 1.0) -> None:
        """Take one step, each model on its own batch, with a factor on the learning rate."""
        set_rate(self._optimizer, self._lr * rate)
        if self._recorded is None:
            self._step(batch)
        else:
            self._recorded.take(self._step, batch)
        self._steps += 1

    def _step(self, batch: Batch) -> None:
        gradients = self.gradients(batch).values()
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            # As the fused step walks memory; it passes over what no loss depends on.
            parameter.grad = None if gradient is None else gradient.contiguous()
        self._optimizer.step()

    def gradients(self, batch: Batch) -> dict[str, Tensor | None]:
        """Return the gradient of each model's mean loss, ``(models, *parameter)``, by name.

        None where no loss depends on a parameter.
        """
        self._model.train()
        losses = vmap(self._losses_of_one)(self._parameters, batch.images, batch.labels)
        if batch.weights is not None:
            losses = losses * batch.weights
        # The sum over models keeps their gradients apart: none depends on another's parameters.
        found = torch.autograd.grad(
            losses.mean(1).sum(), list(self._parameters.values()), allow_unused=True
        )
        return dict(zip(self._parameters, found, strict=True))

    @torch.no_grad()
    def losses(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Return what is measured on each sample, on the CPU: a tensor (n,) a model."""
        self._model.eval()
        over_models = vmap(self._measured_of_one, in_dims=(0, None, None))
        parts = [
            over_models(self._parameters, own, targets)
            for own, targets in zip(
                images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
            )
        ]
        return list(torch.cat(parts, dim=1).cpu())

    def kept(self) -> list[tuple[dict[str, Tensor], AdamState]]:
        """Return copies of each model's parameters and of its optimiser's state, on the CPU."""
        memory = {
            name: self._optimizer.state[p]
            for name, p in self._parameters.items()
            if p in self._optimizer.state
        }
        count = len(next(iter(self._parameters.values())))

        def one(model: int) -> dict[str, Tensor]:
            return {
                alias: copied(tensor[model].cpu())
                for name, tensor in self._parameters.items()
                for alias in self._tied.get(name, (name,))
            }

        return [
            (one(model), adam_state(memory, self._steps, lambda mean, own=model: mean[own].cpu()))
            for model in range(count)
        ]


class _Recorded:
    """A step on a card that is recorded after a few batches of a shape, then replayed.

    The recording holds addresses, so each batch is copied to where the recorded one lay. The step
    is not held: a recording in a reference cycle would be freed whenever Python collects garbage,
    and that must not be while another is made.
    """

    def __init__(self) -> None:
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, tuple[torch.cuda.CUDAGraph, Batch]] = {}

    def take(self, step: Callable[[Batch], None], batch: Batch) -> None:
        """Take a step, always the same one."""
        shape = (batch.labels.shape, batch.weights is None)
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if shape in self._recordings:
            graph, place = self._recordings[shape]
            for old, new in zip(place, batch, strict=True):
                if old is not None:
                    old.copy_(new)
            graph.replay()
        elif self._seen[shape] <= WARM_UP:
            self._on_another_stream(step, batch)
        else:
            self._recordings[shape] = self._record(step, batch)
            self.take(step, batch)

    @staticmethod
    def _on_another_stream(step: Callable[[Batch], None], batch: Batch) -> None:
        """Take a step as recording will: CUDA graphs ask for a stream that is not the default."""
        stream = torch.cuda.Stream(batch.labels.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), warnings.catch_warnings():
            # That the optimiser can be recorded, but is not yet, costs nothing that matters.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            step(batch)
        torch.cuda.current_stream().wait_stream(stream)

    @staticmethod
    def _record(step: Callable[[Batch], None], batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch]:
        """Record a step without taking it."""
        place = Batch(*(None if one is None else one.clone() for one in batch))
        graph = torch.cuda.CUDAGraph()
        with _no_garbage_collection(), torch.cuda.graph(graph):
            step(place)
        return graph, place


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Hold off the collection of cycles: memory of a card that is freed breaks a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _stacked(states: Sequence[State], name: str, device: torch.device) -> Tensor:
    return torch.stack([state[name] for state in states]).to(device)


def train_stacked(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    jobs: Sequence[Job],
    observe: Callable[[StackedLearner], list[Any]],
    device: torch.device,
    *,
    objective: Objective = CROSS_ENTROPY,
    models_at_once: int | None = None,
    describe: str | None = None,
) -> list[list[Any]]:
    """Train one model a job, as many at once as memory allows.

    Parameters
    ----------
    model, images, labels, recipe, jobs, objective, describe
        As for `tda_utils.engine.training.train_states`.
    observe : callable
        Returns one observation a model of a stack.
    device : torch.device
        Where to train.
    models_at_once : int, optional
        Models in a stack. Default: what memory allows.

    Returns
    -------
    list of list
        ``observations[job][checkpoint]``.
    """
    if any(batches for job in jobs for batches in job.order):
        check_no_dropout(model)
    images, labels = images.to(device, float_dtype(jobs[0].state)), labels.to(device)
    what = (model, images, labels, recipe)
    if models_at_once is None:
        models_at_once = models_that_fit(model, images[: recipe.batch_size], device)
    observed: list[list[Any]] = [[] for _ in jobs]
    with progress_bar(len(jobs), describe) as bar, float32_arithmetic(device):
        for stack in _stacks(jobs, models_at_once):
            own = [jobs[i] for i in stack]
            kept = _train_stack(*what, own, observe, device, objective)
            for position, job in enumerate(stack):
                observed[job] = [checkpoint[position] for checkpoint in kept]
            bar.update(len(stack))
    return observed


def _train_stack(
    model, images, labels, recipe, jobs, observe, device, objective
) -> list[list[Any]]:
    adam = None if jobs[0].adam is None else [job.adam for job in jobs]
    states = [job.state for job in jobs]
    learner = StackedLearner(model, recipe, states, adam, device, objective)
    weights = None
    if any(job.weights is not None for job in jobs):
        ones = torch.ones(len(labels))
        rows = [ones if job.weights is None else job.weights for job in jobs]
        weights = torch.stack(rows).to(device)
    each = torch.arange(len(jobs), device=device)[:, None]
    rates = recipe.rates(jobs[0].order)
    observations = []
    for epoch, batches in enumerate(zip(*(job.order for job in jobs), strict=True), start=1):
        for rows in _rows_on(device, batches):
            own = None if weights is None else weights[each, rows]
            learner.step(Batch(images[rows], labels[rows], own), next(rates))
        if epoch > len(jobs[0].order) - recipe.keep_last:
            observations.append(observe(learner))
    return observations


def _rows_on(device: torch.device, batches: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
    """Return each step's rows, shape (models, batch), given each model's batches of an epoch.

    They go to the device together: a copy a step would make the card wait for the processor.
    """
    if not batches[0]:
        return ()
    together = torch.stack([torch.cat(own) for own in batches]).to(device)
    return together.split([len(batch) for batch in batches[0]], dim=1)


def _stacks(jobs: Sequence[Job], models_at_once: int) -> Iterable[list[int]]:
    """Return positions of jobs that can go in step: same sizes of batches, same steps taken."""
    alike: dict[Any, list[int]] = {}
    for position, job in enumerate(jobs):
        sizes = tuple(tuple(len(batch) for batch in epoch) for epoch in job.order)
        alike.setdefault((sizes, _steps_taken(job.adam)), []).append(position)
    for positions in alike.values():
        for start in range(0, len(positions), models_at_once):
            yield positions[start : start + models_at_once]


def _steps_taken(adam: AdamState | None) -> Any:
    """Return what must be the same in a stack: the steps that each parameter has taken."""
    return None if adam is None else tuple((n, adam.step_of(n)) for n in sorted(adam.exp_avg))


def why_not_in_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    training: bool,
    objective: Objective = CROSS_ENTROPY,
) -> str | None:
    """Return why models of this architecture cannot be taken in step, or None.

    Two of them are tried on the CPU, in step and one by one: losses, and in training gradients.

    Examples
    --------
    >>> images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    >>> why_not_in_step(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), images, labels, True)
    >>> why_not_in_step(nn.GRU(2, 2), images[:, 0], labels, True) is None
    False
    """
    if objective.is_callable:  # What it does is recorded once, and might depend on values.
        return "its objective is a callable"
    if isinstance(images, Structured):
        return "its inputs are no single tensor of floats"
    own = copied_model(model).cpu()
    for dtype in (torch.float64, float_dtype(state_of(own))):
        own, images, labels = own.to(dtype), images.to("cpu", dtype), labels.cpu()
        states = [{n: v * scale for n, v in state_of(own).items()} for scale in (1.0, 0.9)]
        try:
            what = (images, labels, training, objective)
            wanted = [_alone(own, state, *what) for state in states]
        except Exception:  # A layer that takes one type of number only.
            continue
        try:
            found = _in_step(own, states, *what)
        except Exception as problem:  # Whatever a stranger's model may raise where it is mapped.
            return " ".join(str(problem).split())[:200] or type(problem).__name__
        tolerance = 1e-6 if dtype == torch.float64 else 1e-2
        for one, alone in zip(found, wanted, strict=True):
            # Of all values: a gradient that is nought in exact arithmetic is rounding alone.
            largest = max(map(largest_finite, alone.values()))
            for name in {*one, *alone}:
                if (
                    name not in one
                    or name not in alone
                    or not torch.allclose(
                        one[name], alone[name], rtol=tolerance, atol=tolerance * largest
                    )
                ):
                    return f"its {f'gradient of {name!r}' if name else 'loss'} is another in step"
        return None
    return "not even one takes a step"


def _alone(
    model: nn.Module,
    state: State,
    images: Tensor,
    labels: Tensor,
    training: bool,
    objective: Objective,
) -> dict[str, Tensor]:
    """Return one model's losses under the name "", and in training its gradients by name."""
    own = load_state(copied_model(model), state)
    own.eval()
    with torch.no_grad():
        found = {"": objective.measured(own(images.clone()), labels, in_training=True)}
    if training:
        own.train()
        objective.losses(own(images.clone()), labels, in_training=True).mean().backward()
        used = {n: p.grad for n, p in trainable_parameters(own).items() if p.grad is not None}
        found |= used
    return found


def _in_step(
    model: nn.Module,
    states: Sequence[State],
    images: Tensor,
    labels: Tensor,
    training: bool,
    objective: Objective,
) -> list[dict[str, Tensor]]:
    """Return the same of each model of a stack."""
    learner = StackedLearner(model, Recipe(), states, None, torch.device("cpu"), objective)
    found = [{"": losses} for losses in learner.losses(images.clone(), labels)]
    if training:
        count = len(states)
        many = (part.expand(count, *part.shape).clone() for part in (images, labels))
        batch = Batch(*many, None)
        for name, gradients in learner.gradients(batch).items():
            for own, gradient in (
                zip(found, gradients, strict=True) if gradients is not None else ()
            ):
                own[name] = gradient
    return found


def models_that_fit(model: nn.Module, batch: Tensor, device: torch.device) -> int:
    """Return how many models a stack may have: parameters four times, and what backward needs.

    Examples
    --------
    >>> models_that_fit(nn.Flatten(), torch.ones(2, 1, 4, 4), torch.device("cpu")) > 1
    True
    """
    if device.type == "cuda":
        budget = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    else:
        budget = CPU_BYTES
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    probe = with_unfolded_convolutions(copied_model(model)).to(device, batch.dtype)
    probe.eval()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = probe(batch)
    # Parameters, their gradient and Adam's two means; activations once more for their gradients.
    parameters = 4 * sum(p.nbytes for p in trainable_parameters(probe).values())
    return max(int(budget // (parameters + 2 * saved + outputs.nbytes)), 1)
