"""A training run, run again as it was: forwards, and backwards from the last step to the first.

Going back takes the state before each step, which cannot all be kept. So a first pass keeps the
state of every so many steps, and each stretch between two of them is run once more when its turn
comes: two trainings, and memory for about twice the square root of the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tda_utils.data.task import Task
from tda_utils.engine.modules import Learner
from tda_utils.engine.noise import access_to_images
from tda_utils.engine.recipe import Job, Recipe
from tda_utils.engine.training import network_of
from tda_utils.models.states import AdamState, State


class Step(NamedTuple):
    """One training step.

    Parameters
    ----------
    number : int
        Counted from zero.
    batch : Tensor, int64
        Positions of its samples.
    inputs : object
        The samples, as the engine's learner takes them.
    rate : float
        Factor on the recipe's learning rate.
    noise : sequence of Tensor
        The state of the stream of dropout masks before the step, empty where there is none.
    before : State
        Parameters and buffers before it.
    remembered : AdamState or None
        What Adam remembered before it; None before the first step.
    after : AdamState
        What it remembers after it.
    """

    number: int
    batch: Tensor
    inputs: Any
    rate: float
    noise: Sequence[Tensor]
    before: State
    remembered: AdamState | None
    after: AdamState


class Moment(NamedTuple):
    """All that training goes on from: state, Adam's memory, and the streams of random numbers."""

    number: int
    state: State
    adam: AdamState | None
    noise: list[Tensor]
    crops: Tensor | None


class Replay:
    """A training run that can be run again.

    Parameters
    ----------
    model : nn.Module
        The architecture.
    task : Task
        Its training samples.
    recipe : Recipe
        How it was trained.
    job : Job
        The run.

    Examples
    --------
    >>> from tda_utils import load_task
    >>> from tda_utils.engine.recipe import batch_order
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> model, recipe = nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), Recipe(3, keep_last=1)
    >>> job = Job(model.state_dict(), batch_order(446, task.n_train, recipe))
    >>> replay = Replay(model, task, recipe, job)
    >>> [step.number for step in replay.backwards()]
    [2, 1, 0]
    """

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, job: Job) -> None:
        #: What it is trained with.
        self.network = network_of(model, task.train_x, recipe, [job], task.objective)
        self._prepared = self.network.prepare(task.train_x)
        self._labels, self._recipe, self._job = task.train_y, recipe, job
        self._batches = [batch for epoch in job.order for batch in epoch]
        self._rates = list(recipe.rates(job.order))
        ends = torch.tensor([len(epoch) for epoch in job.order]).cumsum(0).tolist()
        #: Steps that have been taken at each checkpoint.
        self.ends = ends[-recipe.keep_last :]
        #: States at the checkpoints, after a first pass.
        self.states: list[State] = []
        self._kept: list[Moment] = []

    @property
    def start(self) -> State:
        """The state that training starts from."""
        return self._job.state

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self._batches)

    def weights_of(self, batch: Tensor) -> Tensor | None:
        """Return the weights of a batch's samples; None for ones."""
        return None if self._job.weights is None else self._job.weights[batch]

    def run(self) -> list[State]:
        """Run all of it, keep what going back needs, and return the states at the checkpoints."""
        if not self.states:
            length, states = math.isqrt(self.steps) + 1, []
            walker = _Walker(self, self._start)
            for number in range(self.steps + 1):
                # An epoch has at least one batch, so no two checkpoints fall together.
                if number in self.ends:
                    states.append(walker.learner.state())
                if number == self.steps:
                    break
                if number % length == 0:
                    self._kept.append(walker.moment(number))
                walker.take(number)
            self.states = states
        return self.states

    def forwards(self, first: int = 0, stop: int | None = None) -> Iterator[Step]:
        """Yield the steps from number `first` to before number `stop`."""
        kept = [moment for moment in self._kept if moment.number <= first]
        start = kept[-1] if kept else self._start
        walker = _Walker(self, start)
        for number in range(start.number, first):
            walker.take(number)
        for number in range(first, self.steps if stop is None else stop):
            yield walker.step(number)

    def backwards(self, first: int = 0) -> Iterator[Step]:
        """Yield the steps from the last one to number `first`."""
        self.run()
        stop = self.steps
        for moment in reversed(self._kept):
            if stop <= first:
                return
            start = max(moment.number, first)
            yield from reversed(list(self.forwards(start, stop)))
            stop = start

    @property
    def _start(self) -> Moment:
        return Moment(0, self._job.state, self._job.adam, [], None)


class _Walker:
    """Training that goes on from a moment."""

    def __init__(self, replay: Replay, moment: Moment) -> None:
        self._replay = replay
        job, recipe = replay._job, replay._recipe
        self.learner: Learner = replay.network.learner(
            recipe, moment.state, moment.adam, job.noise_seed
        )
        self._adam = moment.adam
        self._access = access_to_images(recipe.crop, job.noise_seed)
        dropout = self.learner.generator
        self._noise = [] if dropout is None else [dropout]
        self._crops = getattr(self._access, "generator", None)
        for generator, state in zip(self._noise, moment.noise, strict=False):
            generator.set_state(state)
        if moment.crops is not None:
            self._crops.set_state(moment.crops)

    def moment(self, number: int) -> Moment:
        """Return what training goes on from, before the step of that number."""
        crops = None if self._crops is None else self._crops.get_state()
        noise = [generator.get_state() for generator in self._noise]
        return Moment(number, self.learner.state(), self.learner.adam(), noise, crops)

    def take(self, number: int) -> Any:
        """Take a step, and return the samples as it saw them."""
        replay = self._replay
        batch = replay._batches[number]
        inputs, labels = self._access(replay._prepared[batch]), replay._labels[batch]
        self.learner.step(inputs, labels, replay.weights_of(batch), replay._rates[number])
        return inputs

    def step(self, number: int) -> Step:
        """Take a step and return all about it."""
        replay, before = self._replay, self.learner.state()
        noise = [generator.get_state() for generator in self._noise]
        inputs = self.take(number)
        adam = self.learner.adam()
        step = Step(
            number,
            replay._batches[number],
            inputs,
            replay._rates[number],
            noise,
            before,
            self._adam,
            adam,
        )
        self._adam = adam
        return step
