"""A posterior sample as gradient methods are handed it, and labelled scores from what they return.

A method that works with gradients is a function of one `Sample`; `over_samples` calls it for all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.blocks import Block, gram
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import GradientMethod, like_parameters, of_chunks
from tda_utils.checks import check_choice
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording, recurrent_on
from tda_utils.engine.parallel import (
    chosen_device,
    float32_arithmetic,
    parallel_map_nested,
    workers_on,
)
from tda_utils.labels import as_scores
from tda_utils.models.states import all_finite, float_dtype, trainable_parameters
from tda_utils.models.wrappers import unwrapped
from tda_utils.posterior import Posterior, check_model
from tda_utils.terms import PROTOCOLS

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Sample:
    """One posterior sample: its module, the data as it sees them, and the way to its gradients.

    Parameters
    ----------
    posterior, member, checkpoint : Posterior, int, int
        The sample is at these positions of it.
    task : Task
        As this sample sees it, see `Posterior.seen`.
    gradients : GradientMethod
    device : torch.device
        Where gradients are computed.
    workers : int
        Threads that this sample may use.
    """

    posterior: Posterior
    member: int
    checkpoint: int
    task: Task
    gradients: GradientMethod
    device: torch.device
    workers: int

    def module(self, dtype: torch.dtype | None = None) -> nn.Module:
        """Return a copy of the model on the device; each thread needs its own."""
        model = module_of(self.posterior, self.member, self.checkpoint).to(self.device)
        return model if dtype is None else model.to(dtype)

    @property
    def finite(self) -> bool:
        """Whether its parameters are finite numbers."""
        return all_finite(self.posterior.states[self.member][self.checkpoint])

    @property
    def weights(self) -> Tensor | None:
        """Factors on the losses of the training samples; None for ones."""
        weights = self.posterior.weights
        return None if weights is None else weights[self.member]

    @property
    def where(self) -> str:
        """What to call it in a message."""
        member = self.posterior.member_labels[self.member]
        return f"member {member}, checkpoint {self.posterior.epochs[self.checkpoint]}"

    def positions(self, split: str) -> Tensor:
        """Return positions of the test samples, or of the training samples that get scores."""
        return self.task.rows if split == "train" else torch.arange(self.task.n_test)

    def chosen(self, split: str, rows: slice) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some of these samples."""
        inputs, labels, _ = self.task.split(split)
        positions = self.positions(split)[rows]
        return inputs[positions], labels[positions]

    def training_data(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Return all training inputs and labels, on the device and in the model's type."""
        inputs = like_parameters(model, self.task.train_x)
        return inputs, self.task.train_y.to(inputs.device)

    def weights_like(self, values: Tensor) -> Tensor:
        """Return the weights of the training samples in the type of `values`, ones if none."""
        ones = values.new_ones(self.task.n_train)
        return ones if self.weights is None else self.weights.to(values)

    def in_chunks(self, split: str, function: Callable[[slice], Result]) -> list[Result]:
        """Call a function for slices of the samples of a split, in worker threads."""
        return of_chunks(function, len(self.positions(split)), self.workers)

    def loss_gradients(
        self, split: str, rows: slice, dtype: torch.dtype | None = None
    ) -> list[Block]:
        """Return the loss gradients of some training samples.

        Of test samples, the gradients of what the task's objective measures.
        """
        return self.gradients_with(self.module(dtype), split, rows)

    def gradients_with(self, model: nn.Module, split: str, rows: slice) -> list[Block]:
        """Return the same, with a copy of the model that is at hand."""
        methods = {
            "train": self.gradients.loss_gradients,
            "test": self.gradients.measured_gradients,
        }
        return methods[split](model, *self.chosen(split, rows))

    def dot_with(self, vectors: Tensor, split: str) -> Tensor:
        """Return the inner products, (v, samples), of vectors with the loss gradients of a split.

        The vectors, (v, parameters), are in the order of the trainable parameters, each flattened.
        """
        model, named, start = self.module(), {}, 0
        for name, parameter in trainable_parameters(model).items():
            part = vectors[:, start : start + parameter.numel()]
            named[name] = part.reshape(len(vectors), *parameter.shape)
            start += parameter.numel()
        blocks = self.gradients.vectors(model.to(vectors.dtype), named)

        def products(rows: slice) -> Tensor:
            return gram(blocks, self.loss_gradients(split, rows, vectors.dtype))

        return torch.cat(self.in_chunks(split, products), dim=1)


def module_of(posterior: Posterior, member: int, checkpoint: int) -> nn.Module:
    """Return the module of a posterior sample, as it is before it was compiled, where it was.

    Gradients are taken in ways that compilers do not know.
    """
    return unwrapped(posterior.module(member, checkpoint))


def over_samples(
    function: Callable[[Sample], Result],
    posterior: Posterior,
    task: Task,
    *,
    workers: int | None,
    device: str | torch.device,
    describe: str,
    around: Callable[[nn.Module], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> list[Result]:
    """Return what a function of one sample gives for all samples, member by member.

    Samples are worked on side by side, one a core; with fewer samples than cores, those that are
    left help within a sample. `around` gives a context for all of it.
    """
    place = chosen_device(device)

    def of(position: tuple[int, int], inner: int) -> Result:
        seen = posterior.seen(task, *position)
        return function(Sample(posterior, *position, seen, method, place, inner))

    with recording(), float32_arithmetic(place):
        model = module_of(posterior, 0, 0).to(place)
        with recurrent_on(model, place), around(model):
            inputs = posterior.seen(task, 0, 0).train_x
            method = gradient_method(model, inputs, task.train_y, task.objective)
            return parallel_map_nested(
                of, posterior.samples, workers=workers_on(place, workers), describe=describe
            )


def labelled(
    values: np.ndarray | Tensor,
    posterior: Posterior,
    task: Task,
    *,
    method: str,
    protocol: str,
    sign: str,
    **attributes: Any,
) -> xr.DataArray:
    """Return (member, checkpoint, train, test), or samples in a row, as labelled scores."""
    shape = (posterior.members, posterior.checkpoints, task.n_attributed, task.n_test)
    attributes = {
        "method": method,
        "protocol": protocol,
        "sign": sign,
        "task": task.name,
        "precision": precision_of(posterior),
        "torch_version": str(torch.__version__),
        **({} if task.objective.is_plain else {"objective": task.objective.key}),
        **attributes,
    }
    cube = np.asarray(values).reshape(shape)
    return as_scores(cube, posterior.coordinates(), task.coordinates(), attributes)


def precision_of(posterior: Posterior) -> str:
    """Return the type of number that the members were trained in, such as ``"float32"``."""
    return str(float_dtype(posterior.states[0][0])).removeprefix("torch.")


def check_inputs(posterior: Posterior, task: Task, protocol: str) -> None:
    """Raise one clear error if the arguments that every method takes do not fit together."""
    if not isinstance(posterior, Posterior):
        raise TypeError(f"posterior is a {type(posterior).__name__}; it must be a Posterior.")
    if not isinstance(task, Task):
        raise TypeError(f"task is a {type(task).__name__}; it must be a Task.")
    check_choice("protocol", protocol, PROTOCOLS)
    if posterior.weights is not None and posterior.weights.shape[1] != task.n_train:
        raise ValueError(
            f"task has {task.n_train} training samples; the posterior was trained with weights for "
            f"{posterior.weights.shape[1]}."
        )
    with recording():
        check_model(posterior.module(0, 0), task)
