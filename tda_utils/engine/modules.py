"""What the engine trains: one model at a time, behind one small interface.

A `Network` is what all models of one architecture share, a `Learner` is one model with its
optimiser. Any `nn.Module` becomes a `ModuleNetwork`; networks like the paper's, whoever wrote them,
become a `tda_utils.engine.fused.FusedNetwork`, which gives the same results with less work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tda_utils.data.losses import MEMORY, ObjectiveError
from tda_utils.data.objective import CROSS_ENTROPY, Objective
from tda_utils.engine.noise import (
    SeededDropout,
    check_own_randomness,
    noise_generator,
    with_seeded_dropout,
)
from tda_utils.engine.recipe import Recipe
from tda_utils.models.probes import failing_layer, layer_of
from tda_utils.models.states import (
    AdamState,
    State,
    copied,
    copied_model,
    largest_finite,
    load_state,
    state_of,
    trainable_parameters,
)

# Activations of that many images fit the cache of one core; larger and smaller batches are slower.
EVALUATION_BATCH = 50


class Learner(Protocol):
    """One model with its optimiser, used by one thread."""

    @property
    def generator(self) -> torch.Generator | None:
        """Where dropout masks come from; None where there are none."""

    def step(
        self, inputs: Tensor, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step of the optimiser on the mean of the (weighted) losses of a batch.

        `rate` is a factor on the recipe's learning rate.
        """

    def losses(self, prepared: Any, labels: Tensor) -> Tensor:
        """Return what is measured on each sample, its loss, shape (n,), in evaluation mode."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of trainable parameters and buffers."""

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""


class Network(Protocol):
    """What all models of one architecture share."""

    def prepare(self, images: Tensor) -> Any:
        """Bring images into the form that learners take; indexed by positions or by a slice."""

    def learner(
        self,
        recipe: Recipe,
        state: State,
        adam: AdamState | None = None,
        noise_seed: int | None = None,
    ) -> Learner:
        """Return a model with these parameters, and a fresh optimiser or one with that state."""


class ModuleNetwork:
    """Any `nn.Module`, trained with autograd and PyTorch's fused optimisers.

    Frozen parameters are shared between all its learners; only what is trained is copied.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied.
    images : Tensor
        Some images, to see whether the model takes channels_last, the faster layout.
    dtype : torch.dtype
        Type of the parameters.
    objective : Objective
        The loss that is trained, and what is measured in evaluation mode.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        dtype: torch.dtype,
        objective: Objective = CROSS_ENTROPY,
    ) -> None:
        self._model = copied_model(model).to(dtype)
        self._dtype, self._objective = dtype, objective
        self.memory_format = _memory_format(self._model, images)

    def check_training(self, images: Tensor) -> None:
        """Raise a `ValueError` if the model draws from the global random state in training."""
        check_own_randomness(self._model, images.to(self._dtype))

    def prepare(self, images: Tensor) -> Tensor:
        """Return the images in the model's type and layout."""
        return images.to(self._dtype).contiguous(memory_format=self.memory_format)

    def learner(
        self,
        recipe: Recipe,
        state: State,
        adam: AdamState | None = None,
        noise_seed: int | None = None,
    ) -> ModuleLearner:
        """Return a copy of the model with these parameters."""
        model = load_state(copied_model(self._model), state).to(memory_format=self.memory_format)
        return ModuleLearner(model, recipe, adam, noise_seed, self._objective)


class ModuleLearner:
    """One copy of a module, trained with autograd.

    Parameters
    ----------
    model : nn.Module
        Changed by `step`.
    recipe : Recipe
        Learning rate and weight decay.
    adam : AdamState, optional
        State of the optimiser to start from.
    noise_seed : int, optional
        Of the dropout masks; needed to train a model that has dropout.
    objective : Objective
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        adam: AdamState | None,
        noise_seed: int | None = None,
        objective: Objective = CROSS_ENTROPY,
    ) -> None:
        self._objective = objective
        self._model, self._lr = with_seeded_dropout(model, noise_seed), recipe.lr
        self._trainable = trainable_parameters(self._model)
        # A model with nothing to train may still be looked at.
        self._optimizer = (
            optimizer_of(self._trainable.values(), recipe) if self._trainable else None
        )
        self._steps = 0.0 if adam is None else float(adam.step)
        for name in adam.exp_avg if adam is not None else ():
            parameter = self._trainable[name]
            # In the parameter's layout: the fused step walks both in memory order.
            self._optimizer.state[parameter] = memory_of(
                adam, name, lambda mean, like=parameter: torch.empty_like(like).copy_(mean)
            )

    def step(
        self, inputs: Tensor, labels: Tensor, weights: Tensor | None, rate: float = 1.0
    ) -> None:
        """Take one step of the optimiser on the mean of the (weighted) losses of a batch."""
        self._model.train()
        set_rate(self._optimizer, self._lr * rate)
        self._optimizer.zero_grad()
        try:
            losses = self._objective.losses(self._model(inputs), labels, in_training=True)
            if weights is not None:
                losses = losses * weights
            losses.mean().backward()
        except (*MEMORY, ObjectiveError):
            raise
        except Exception as problem:  # Whatever a stranger's model may raise.
            raise explained(problem, self._model, inputs) from problem
        for parameter in self._trainable.values():
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                parameter.grad = parameter.grad.to_dense()  # As of a sparse embedding.
        self._optimizer.step()
        self._steps += 1

    @property
    def generator(self) -> torch.Generator | None:
        """Where dropout masks come from; None where the model has no dropout."""
        return noise_generator(self._model)

    @torch.no_grad()
    def losses(self, prepared: Tensor, labels: Tensor) -> Tensor:
        """Return what is measured, shape (n,); memory does not grow with the number of samples."""
        self._model.eval()
        return torch.cat(
            [
                self._objective.measured(self._model(images), targets, in_training=True)
                for images, targets in zip(
                    prepared.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
                )
            ]
        )

    def state(self) -> dict[str, Tensor]:
        """Return copies of trainable parameters and buffers."""
        return {name: copied(value) for name, value in state_of(self._model).items()}

    def adam(self) -> AdamState:
        """Return a copy of what the optimiser remembers."""
        memory = self._optimizer.state
        known = {name: memory[p] for name, p in self._trainable.items() if p in memory}
        return adam_state(known, self._steps)


def explained(problem: Exception, model: nn.Module, inputs: Tensor) -> Exception:
    """Return one sentence on a training step that failed: the layer, and why.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> print(explained(RuntimeError("no"), layer, torch.ones(1, 3)))
    model cannot be trained on a batch of 1 sample(s): in the model itself (Linear), mat1 and mat2 \
shapes cannot be multiplied (1x3 and 2x1).
    """
    failed = failing_layer(model, lambda: model(inputs.clone()))
    if failed is not None:
        problem, name = failed
        if isinstance(model.get_submodule(name), SeededDropout):
            return problem
        where = f"in {layer_of(model, name)}"
    else:
        outputs = model(inputs.clone())
        if not isinstance(outputs, Tensor):
            return ValueError(
                f"model gives a {type(outputs).__name__} in training mode; it must give a tensor "
                "of logits, as in evaluation mode."
            )
        name = _unreached_layer(model, inputs)
        where = f"no gradient comes back to what {layer_of(model, name)} gives"
    said = " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
    return ValueError(
        f"model cannot be trained on a batch of {len(inputs)} sample(s): {where}, {said[:300]}."
    )


def _unreached_layer(model: nn.Module, inputs: Tensor) -> str:
    """Return the last layer whose output the gradient does not come back to."""
    called, reached = [], set()

    def watch(name: str, output: Any) -> None:
        called.append(name)
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _: reached.add(name))

    hooks = [
        module.register_forward_hook(lambda *given, name=name: watch(name, given[-1]))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        model(inputs.clone()).sum().backward()
    except Exception:  # It is known to fail.
        return next((name for name in reversed(called) if name not in reached), "")
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def optimizer_of(
    parameters: Iterable[nn.Parameter], recipe: Recipe, *, recordable: bool = False
) -> torch.optim.Optimizer:
    """Return a fresh optimiser as the recipe has it; one fused step walks memory once.

    With `recordable` its steps can be part of a CUDA graph: all that changes between steps, the
    learning rate too, then lies on the card.
    """
    parameters = list(parameters)
    rate = torch.tensor(recipe.lr, device=parameters[0].device) if recordable else recipe.lr
    shared = {"lr": rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **shared)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, capturable=recordable, **shared)


def adam_state(
    memory: Mapping[str, Mapping[str, Any]],
    count: float,
    own: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> AdamState:
    """Return copies of what an optimiser remembers of each parameter that has taken a step.

    Of several models in step, `own` picks one model's part of a running mean. Momentum is one, the
    first; its optimiser does not count its steps, which are `count`.
    """
    momenta = {
        name: copied(own(state["momentum_buffer"]))
        for name, state in memory.items()
        if state.get("momentum_buffer") is not None
    }
    counted = {name: state for name, state in memory.items() if "step" in state}
    if not counted:
        return AdamState(count, momenta, {})
    steps = {name: float(state["step"]) for name, state in counted.items()}
    means = {
        moment: {name: copied(own(state[moment])) for name, state in counted.items()}
        for moment in ("exp_avg", "exp_avg_sq")
    }
    most = max(steps.values(), default=0.0)
    return AdamState(most, **means, steps=steps if set(steps.values()) - {most} else None)


def memory_of(
    adam: AdamState, name: str, placed: Callable[[Tensor], Tensor], device: Any = None
) -> dict[str, Tensor]:
    """Return what an optimiser of PyTorch's remembers of a parameter; `adam_state` took it."""
    if name not in adam.exp_avg_sq:
        return {"momentum_buffer": placed(adam.exp_avg[name])}
    return {
        "step": torch.tensor(float(adam.step_of(name)), device=device),
        "exp_avg": placed(adam.exp_avg[name]),
        "exp_avg_sq": placed(adam.exp_avg_sq[name]),
    }


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def _memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """Return channels_last, the faster layout for convolutions, where the model can take it.

    A model that reshapes its activations with ``view`` cannot: it raises, and keeps the usual
    layout. So does one whose logits it would change.
    """
    if images.ndim != 4:
        return torch.contiguous_format
    probe = copied_model(model)
    probe.eval()
    sample = images[:2].to(next(probe.parameters()).dtype)
    try:
        with torch.no_grad():
            usual = probe(sample.clone())
            probe.to(memory_format=torch.channels_last)
            logits = probe(sample.clone(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    alike = torch.allclose(logits, usual, rtol=1e-2, atol=1e-2 * largest_finite(usual))
    return torch.channels_last if alike else torch.contiguous_format
