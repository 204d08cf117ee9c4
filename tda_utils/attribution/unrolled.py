"""Unrolled: the derivative of a test loss by a sample's weight, through all of training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution.adam import EPSILON, AdamStep
from tda_utils.attribution.blocks import dense
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import GradientMethod, like_parameters
from tda_utils.attribution.replay import Replay, Step
from tda_utils.attribution.retraining import from_scratch, retrained_losses
from tda_utils.attribution.samples import Sample, check_inputs, labelled, module_of
from tda_utils.attribution.second_order import BatchLoss, BatchLosses, batch_losses
from tda_utils.checks import check_choice, check_count, check_number
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording, recurrent_on, twice_differentiable
from tda_utils.engine.noise import CHECK_STREAM, NOISE_STREAM, derived_seed
from tda_utils.engine.parallel import available_cores, chosen_device, parallel_map
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.models.probes import check_alone_in_training, check_twice_differentiable
from tda_utils.models.states import State, trainable_parameters
from tda_utils.posterior import Posterior
from tda_utils.terms import Protocol

Mode = Literal["auto", "reverse", "forward"]
MODES = ("auto", "reverse", "forward")
MEANS = ("checkpoint", "test")
CPU = torch.device("cpu")
# Rows of five vectors, each as long as the parameters, are worked on together up to so many bytes.
ROOM = 2**28
# No fewer rows are given to a worker of its own, since each has to run the training again.
LEAST_ROWS = 8
# Samples of each member that are left out to see whether the derivative holds, and the cosine with
# what happens below which it does not.
CHECKED, HOLDS = 2, 0.5
# Run again, training ends where it did. Devices round in their own ways, which stays far below that
# share of the way that training goes.
ANOTHER_TRAINING = 0.01


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is differentiated, and how far back.

    Parameters
    ----------
    recipe : Recipe
        How members were trained.
    mode : {"reverse", "forward"}
    last_steps : int, optional
    mean_over : sequence of {"checkpoint", "test"}
    epsilon : float
        Of Adam, in the derivative of its steps.
    """

    recipe: Recipe
    mode: str
    last_steps: int | None
    mean_over: Sequence[str]
    epsilon: float

    def first(self, end: int) -> int:
        """Return the first of the steps that count, for a checkpoint after `end` steps."""
        return 0 if self.last_steps is None else max(end - self.last_steps, 0)


@recording()
def unrolled(
    posterior: Posterior,
    task: Task,
    recipe: Recipe | None = None,
    *,
    protocol: Protocol = "paired",
    mode: Mode = "auto",
    last_steps: int | None = None,
    mean_over: Sequence[str] = (),
    epsilon: float = EPSILON,
    check: int = CHECKED,
    build_model: Callable[[], nn.Module] | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Unrolled: what leave-one-out is to first order, by a derivative through the training run.

    The weight w_j of a training sample enters each step that sees it: into the gradient, into
    Adam's two running means, and from there into all that follows. This is the derivative of the
    loss on a test sample by w_j through all of that, times the change of w_j to zero.

    Parameters
    ----------
    posterior : Posterior
        The trained models.
    task : Task
        The data they were trained on, and the test samples.
    recipe : Recipe, optional
        How they were trained. Default: ``posterior.recipe``.
    protocol : {"paired"}
        Each member's own training is differentiated, as paired leave-one-out repeats it. There is
        no released counterpart.
    mode : {"auto", "reverse", "forward"}
        ``"reverse"`` carries each test loss back to all training samples, ``"forward"`` each
        training sample to all test losses; both give the same numbers but for rounding. Each takes
        about two trainings for each that it carries; ``"auto"`` is the one that carries fewer.
    last_steps : int, optional
        Only so many steps before each checkpoint count, and what came before is held fixed, as in
        SOURCE. Default: all.
    mean_over : sequence of {"checkpoint", "test"}
        Dims over which the loss is averaged before it is differentiated. Scores are the same as
        averaged afterwards, and ``"reverse"`` carries so many fewer.
    epsilon : float
        Of Adam, in the derivative of its steps alone; training stays as it was. The step turns from
        one sign of the gradient to the other within about this size, where its derivative is huge.
        A larger one looks at the step from further away. Default: Adam's own, the exact derivative.
    check : int
        So many attributed samples of each member, drawn by its seed, are left out in earnest, to
        see whether the derivative tells what happens. With 0 there is no check.
    build_model : callable, optional
        Builds a fresh model, for a posterior of a user's own checkpoints. Default:
        ``posterior.build_model``.
    workers : int, optional
        Parts worked on at the same time. Default: one a core.
    device : {"auto", "cpu", "cuda"}
        As for other methods; the training is run again on the CPU whatever it is.

    Returns
    -------
    DataArray, the members' type of number, dims (member, checkpoint, train, test)
        ``-w_j dL(z; theta) / dw_j`` in nats, removal sign: positive where z_j helps. Without the
        dims of `mean_over`. With `check`, the coordinate ``holds``, dims (member, checkpoint), is
        the cosine between the scores of the samples that were left out and the changes of the
        losses: 1 where the derivative tells all but the size, 0 where it tells nothing.

    Raises
    ------
    ValueError
        If the protocol is ``"released"``, the recipe is unknown or is not the posterior's, seeds
        are unknown, a model cannot be built, a layer mixes the samples of a batch in training or
        has no second derivative.

    Warns
    -----
    RuntimeWarning
        If ``holds`` is below one half in the median, with its number: training is then not smooth
        enough for its derivative, which is exact all the same. Or if training by the recipe does
        not lead to the posterior's states.

    Notes
    -----
    The mean of a batch is taken over all of its samples, and the weight of one of them is a factor
    on its loss, as in `loo`. Buffers, such as what spectral normalisation remembers of a weight,
    are held fixed. Reverse: with adjoints of parameters and running means after a step,
    `tda_utils.attribution.adam.AdamStep.backward` has those before it, the Hessian of the batch's
    loss times the adjoint of the gradient is added, and the inner product of that adjoint with the
    gradient of each sample of the batch is its share of the score. Source: Maclaurin, Duvenaud and
    Adams (2015) for the derivative through training, Bae et al. (2024, SOURCE) for attribution by
    it.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=2, keep_last=2), seeds=[446])
    >>> dict(unrolled(posterior, task).sizes)
    {'member': 1, 'checkpoint': 2, 'train': 30, 'test': 3}
    >>> unrolled(posterior, task, mean_over=["checkpoint"]).dims
    ('member', 'train', 'test')
    """
    posterior = check_inputs(posterior, task, protocol)
    if protocol == "released":
        raise ValueError(
            "protocol is 'released', and the released code has no derivative through training; "
            "method 'unrolled' takes 'paired' alone."
        )
    wanted, build_model = _checked(
        posterior, task, recipe, mode, last_steps, mean_over, epsilon, build_model, device
    )
    check_count("check", check, least=0)
    model = module_of(posterior, 0, 0)
    with recurrent_on(model, CPU), twice_differentiable(model):
        inputs = like_parameters(model, task.train_x[:1])
        check_twice_differentiable(model, inputs, "method is 'unrolled'")
        method = gradient_method(
            model, posterior.seen(task, 0, 0).train_x, task.train_y, task.objective
        )
        # Here and not in the workers: starts and orders are drawn from the global random state.
        jobs = [_job(posterior, task, wanted, build_model, m) for m in range(posterior.members)]
        values, apart = _by_member(posterior, task, wanted, jobs, method, workers)
    _warn_if_apart(apart, posterior)
    means = {dim: 0 for dim in MEANS if dim in mean_over}
    shape = (posterior.members, posterior.checkpoints, task.n_attributed, task.n_test)
    scores = labelled(
        np.broadcast_to(values, shape).copy(),
        posterior,
        task,
        method="unrolled",
        protocol=protocol,
        sign="removal",
        **({} if last_steps is None else {"last_steps": int(last_steps)}),
        **({} if epsilon == EPSILON else {"epsilon": float(epsilon)}),
    )
    if check:
        scores = _with_check(scores, posterior, task, wanted, jobs, min(check, task.n_attributed))
    gone = [*means, *(f"{dim}_label" for dim in means)]
    return scores.isel(means).drop_vars(gone, errors="ignore")


def _checked(
    posterior: Posterior,
    task: Task,
    recipe: Recipe | None,
    mode: str,
    last_steps: int | None,
    mean_over: Sequence[str],
    epsilon: float,
    build_model: Callable[[], nn.Module] | None,
    device: str | torch.device,
) -> tuple[Wanted, Callable[[], nn.Module]]:
    """Return what is wanted, or raise one clear error."""
    check_choice("mode", mode, MODES)
    chosen_device(device)
    check_number("epsilon", epsilon)
    if last_steps is not None:
        check_count("last_steps", last_steps)
    if isinstance(mean_over, str):
        mean_over = [mean_over]
    for dim in mean_over:
        check_choice("mean_over", dim, MEANS)
    check_alone_in_training(
        posterior.module(0, 0),
        task.train_x,
        "the derivative by the weight of one sample would go through the others of its batches, "
        "and a weight of zero would not remove it; allowed are influence, grad_dot and grad_cos",
    )
    recipe, build_model = from_scratch(posterior, recipe, build_model, "unrolled")
    if recipe.optimizer != "adam":
        raise ValueError(
            f"recipe has optimizer={recipe.optimizer!r}; unrolled differentiates steps of 'adam', "
            "and of no other."
        )
    wanted = Wanted(recipe, mode, last_steps, mean_over, float(epsilon))
    if mode == "auto":
        wanted = replace(wanted, mode=_cheaper(posterior, task, wanted))
    return wanted, build_model


def _cheaper(posterior: Posterior, task: Task, wanted: Wanted) -> str:
    """Return the mode that carries fewer vectors through fewer steps."""
    recipe = wanted.recipe
    in_epoch = math.ceil(task.n_train / recipe.batch_size)
    ends = [epoch * in_epoch for epoch in recipe.checkpoint_epochs]
    each = sum(end - wanted.first(end) for end in ends)
    all_at_once = max(ends)
    tests = 1 if "test" in wanted.mean_over else task.n_test
    merged = "checkpoint" in wanted.mean_over and wanted.last_steps is None
    reverse = tests * (all_at_once if merged else each)
    forward = task.n_attributed * (all_at_once if wanted.last_steps is None else each)
    return "forward" if forward <= reverse else "reverse"


def _by_member(
    posterior: Posterior,
    task: Task,
    wanted: Wanted,
    jobs: Sequence[Job],
    method: GradientMethod,
    workers: int | None,
) -> tuple[np.ndarray, list[float]]:
    """Return the scores of all members, with length one along a dim that is averaged over.

    And how far from each member its training ends that is run again.
    """
    rows = task.n_attributed if wanted.mode == "forward" else _tests(task, wanted)
    parameters = sum(p.numel() for p in trainable_parameters(posterior.model).values())
    most = max(ROOM // (5 * parameters * 8), 1)
    cores = available_cores() if workers is None else workers
    parts = max(-(-rows // most), min(cores // posterior.members, rows // LEAST_ROWS), 1)
    slices = [slice(rows * i // parts, rows * (i + 1) // parts) for i in range(parts)]

    def of(item: tuple[int, slice]) -> tuple[Tensor, float]:
        member, rows = item
        run = UnrolledRun.of(posterior, task, wanted, jobs[member], method, member)
        found = run.forward(rows) if wanted.mode == "forward" else run.reverse(rows)
        return found, run.apart(posterior.states[member])

    items = [(member, rows) for member in range(posterior.members) for rows in slices]
    done = parallel_map(of, items, workers=workers, describe="unrolled")
    found, apart = zip(*done, strict=True)
    dim = 1 if wanted.mode == "forward" else 2
    members = [found[start : start + parts] for start in range(0, len(found), parts)]
    return torch.stack([torch.cat(own, dim) for own in members]).numpy(), list(apart[::parts])


def _job(
    posterior: Posterior,
    task: Task,
    wanted: Wanted,
    build_model: Callable[[], nn.Module],
    member: int,
) -> Job:
    """Return the training of a member, as it was trained."""
    init_seed, order_seed = posterior.init_seeds[member], posterior.order_seeds[member]
    return Job(
        initial_state(build_model, init_seed, posterior.model),
        batch_order(order_seed, task.n_train, wanted.recipe, build_model),
        None if posterior.weights is None else posterior.weights[member],
        noise_seed=derived_seed(order_seed, NOISE_STREAM),
    )


def _warn_if_apart(apart: Sequence[float], posterior: Posterior) -> None:
    furthest = max(range(len(apart)), key=lambda member: apart[member])
    if apart[furthest] > ANOTHER_TRAINING:
        warnings.warn(
            f"unrolled: training by the recipe and the seeds of member "
            f"{posterior.member_labels[furthest]} ends {apart[furthest]:.2g} of its way from the "
            "states of the posterior; the scores are those of the recipe's training, not of these "
            "states.",
            RuntimeWarning,
            stacklevel=3,
        )


def _with_check(
    scores: xr.DataArray,
    posterior: Posterior,
    task: Task,
    wanted: Wanted,
    jobs: Sequence[Job],
    count: int,
) -> xr.DataArray:
    """Add the cosine between scores and what leaving out some samples does; warn if it is small."""
    seeds = posterior.order_seeds
    generators = [np.random.default_rng(derived_seed(seed, CHECK_STREAM)) for seed in seeds]
    left_out = [
        np.sort(generator.choice(task.n_attributed, count, replace=False))
        for generator in generators
    ]
    trainings = []
    for job, chosen in zip(jobs, left_out, strict=True):
        own = torch.ones(task.n_train) if job.weights is None else job.weights
        weights = own.repeat(1 + count, 1)
        weights[torch.arange(1, 1 + count), task.rows[chosen]] = 0
        trainings += [replace(job, weights=one) for one in weights]
    losses = retrained_losses(posterior, task, wanted.recipe, trainings, None, CPU, None)
    shape = (posterior.members, 1 + count, posterior.checkpoints, task.n_test)
    losses = losses.double().numpy().reshape(shape)
    changes = (losses[:, 1:] - losses[:, :1]).transpose(0, 2, 1, 3)
    for dim, axis in (("checkpoint", 1), ("test", 3)):
        if dim in wanted.mean_over:
            changes = np.broadcast_to(changes.mean(axis, keepdims=True), changes.shape)
    found = np.stack([own[:, chosen] for own, chosen in zip(scores.values, left_out, strict=True)])
    products = (found * changes).sum((2, 3))
    sizes = np.sqrt((found.astype(float) ** 2).sum((2, 3)) * (changes**2).sum((2, 3)))
    holds = np.divide(products, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    median = float(np.nanmedian(holds)) if np.isfinite(holds).any() else math.nan
    if median < HOLDS:
        warnings.warn(
            f"unrolled: the derivative does not tell what leaving out samples does: of {count} "
            f"sample(s) a member that were left out, the cosine between both is {median:.2f} in "
            f"the median, below {HOLDS}; fewer steps, last_steps=, a larger epsilon= or the mean "
            "over more members may help.",
            RuntimeWarning,
            stacklevel=3,
        )
    return scores.assign_coords(holds=(("member", "checkpoint"), holds))


def _tests(task: Task, wanted: Wanted) -> int:
    return 1 if "test" in wanted.mean_over else task.n_test


@dataclass(frozen=True, eq=False)
class UnrolledRun:
    """One member's training, its test losses, and the way between them.

    Parameters
    ----------
    posterior : Posterior
        Of this member alone, with the states that its training leads to.
    task : Task
    wanted : Wanted
    replay : Replay
    losses : BatchLosses
    method : GradientMethod
        The way to the gradients of test samples.
    """

    posterior: Posterior
    task: Task
    wanted: Wanted
    replay: Replay
    losses: BatchLosses
    method: GradientMethod

    @classmethod
    def of(
        cls,
        posterior: Posterior,
        task: Task,
        wanted: Wanted,
        job: Job,
        method: GradientMethod,
        member: int,
    ) -> UnrolledRun:
        """Train a member again."""
        replay = Replay(posterior.model, task, wanted.recipe, job)
        states = replay.run()
        own = replace(posterior.select([member]), states=[states], adam=None)
        side = task.train_x.shape[-1]
        losses = batch_losses(replay.network, posterior.module(member, 0), side, task.objective)
        return cls(own, task, wanted, replay, losses, method)

    def sample(self, checkpoint: int) -> Sample:
        """Return the model at a checkpoint as gradient methods take it."""
        seen = self.posterior.seen(self.task, 0, checkpoint)
        return Sample(self.posterior, 0, checkpoint, seen, self.method, CPU, 1)

    def at(self, step: Step) -> tuple[BatchLoss, AdamStep]:
        """Return the loss and the step of Adam of a training step, linearised."""
        loss = self.losses.at(
            step.before,
            step.inputs,
            self.task.train_y[step.batch],
            self.replay.weights_of(step.batch),
            step.noise,
        )
        return loss, self._adam(step, loss.gradient)

    def _adam(self, step: Step, gradient: Tensor) -> AdamStep:
        recipe, after, names = self.wanted.recipe, step.after, self._names
        counts = {name: after.step_of(name) if name in after.exp_avg else 0.0 for name in names}
        before = step.remembered
        moved = {
            name: counts[name]
            > (before.step_of(name) if before is not None and name in before.exp_avg else 0.0)
            for name in names
        }
        zeros = {name: torch.zeros_like(step.before[name]) for name in names}
        mean, square = (
            self.losses.pack(zeros | dict(of)) for of in (after.exp_avg, after.exp_avg_sq)
        )
        lr, decay = recipe.lr * step.rate, recipe.weight_decay
        gradient = gradient + decay * self.losses.pack(step.before)
        if all(moved.values()) and len(set(counts.values())) == 1:
            return AdamStep(
                gradient, mean, square, after.step, lr, decay, epsilon=self.wanted.epsilon
            )

        def spread(values: dict[str, float]) -> Tensor:
            return self.losses.pack({name: zeros[name] + float(values[name]) for name in names})

        # A parameter that has not moved yet has taken no step, whose rate would be infinite.
        count = spread(counts).clamp_min(1)
        moved_each = spread(moved) > 0
        return AdamStep(gradient, mean, square, count, lr, decay, moved_each, self.wanted.epsilon)

    @property
    def _names(self) -> list[str]:
        return list(trainable_parameters(self.posterior.model))

    @property
    def _weights(self) -> Tensor:
        """The weights of all training samples."""
        own = self.posterior.weights
        return torch.ones(self.task.n_train) if own is None else own[0]

    def apart(self, states: Sequence[State]) -> float:
        """Return how far the training ends from given states, as a share of the way it goes."""
        names, furthest = self._names, 0.0
        start = self.losses.pack(self.replay.start)
        for ours, theirs in zip(self.posterior.states[0], states, strict=True):
            place, wanted = (
                self.losses.pack({name: one[name] for name in names}) for one in (ours, theirs)
            )
            way = max(float((wanted - start).norm()), torch.finfo(start.dtype).tiny)
            furthest = max(furthest, float((place - wanted).norm()) / way)
        return furthest

    # ---------------- reverse

    def reverse(self, rows: slice) -> Tensor:
        """Return the scores of some test samples, (checkpoint, train, test)."""
        replay, wanted = self.replay, self.wanted
        last_first = list(reversed(list(enumerate(replay.ends))))
        if "checkpoint" in wanted.mean_over and wanted.last_steps is None:
            # One adjoint of the mean, into which each checkpoint enters at its step.
            carried = [[(end, c, 1 / len(last_first)) for c, end in last_first]]
        else:
            carried = [[(end, c, 1.0)] for c, end in last_first]
        scores = torch.stack(list(reversed(self._carried_back(carried, rows))))
        return scores.mean(0, keepdim=True) if "checkpoint" in wanted.mean_over else scores

    def _carried_back(
        self, carried: list[list[tuple[int, int, float]]], rows: slice
    ) -> list[Tensor]:
        """Carry sums of losses back, each given as (end, checkpoint, factor) from last to first.

        Those that enter later in time come first. Returns for each of them (train, test).
        """
        starts = {c: self._test_gradients(c, rows) for own in carried for _, c, _ in own}
        tests, size = next(iter(starts.values())).shape
        entering = [own[0][0] for own in carried]
        leaving = [self.wanted.first(own[-1][0]) for own in carried]
        adjoint, mean, square = torch.zeros(3, len(carried), tests, size, dtype=starts[0].dtype)
        scores = adjoint.new_zeros(len(carried), tests, self.task.n_train)
        for step in self.replay.backwards(min(leaving)):
            end = step.number + 1
            for number, own in enumerate(carried):
                for enters, c, factor in own:
                    if enters == end:
                        adjoint[number] += factor * starts.pop(c)
            active = [n for n in range(len(carried)) if leaving[n] < end <= entering[n]]
            if not active:
                continue
            some = slice(active[0], active[-1] + 1)
            loss, adam = self.at(step)
            of_gradient = adam.backward(adjoint[some], mean[some], square[some]).flatten(0, 1)
            through_loss, by_sample = loss.along(of_gradient, None)
            adjoint[some] += through_loss.view_as(adjoint[some])
            scores[some, :, step.batch] -= by_sample.view(len(active), tests, -1) / len(step.batch)
        scores = scores[..., self.task.rows] * self._weights[self.task.rows].to(scores)
        return [own.T for own in scores]

    def _test_gradients(self, checkpoint: int, rows: slice) -> Tensor:
        """Return the loss gradients of some test samples at a checkpoint, or their mean's."""
        sample = self.sample(checkpoint)
        if "test" in self.wanted.mean_over:
            parts = sample.in_chunks("test", lambda rows: self._rows(sample, rows).sum(0))
            return torch.stack(parts).sum(0, keepdim=True) / self.task.n_test
        return self._rows(sample, rows)

    def _rows(self, sample: Sample, rows: slice) -> Tensor:
        found = torch.cat([dense(b) for b in sample.loss_gradients("test", rows)], dim=1)
        return found[:, self._places(sample)]

    def _places(self, sample: Sample) -> Tensor:
        """Return where, in gradients of the method, the parameters in our own layout are."""
        named, start = {}, 0
        module = sample.module(torch.float64)
        for name, parameter in trainable_parameters(module).items():
            numbers = torch.arange(start, start + parameter.numel(), dtype=torch.float64)
            named[name] = numbers.view(1, *parameter.shape)
            start += parameter.numel()
        theirs = torch.cat([dense(b) for b in self.method.vectors(module, named)], dim=1)[0]
        return theirs.argsort()[self._numbers]

    @property
    def _numbers(self) -> Tensor:
        """The number of each parameter of our own layout, counted as the model names them."""
        named, start = {}, 0
        for name, parameter in trainable_parameters(self.posterior.model).items():
            numbers = torch.arange(start, start + parameter.numel(), dtype=torch.float64)
            named[name] = numbers.view(parameter.shape)
            start += parameter.numel()
        return self.losses.pack(named).long()

    # ---------------- forward

    def forward(self, rows: slice) -> Tensor:
        """Return the scores of some training samples, (checkpoint, train, test)."""
        positions, ends = self.task.rows[rows], self.replay.ends
        if self.wanted.last_steps is None:
            found = list(self._carried_forward(positions, 0, ends))
        else:
            found = [
                one
                for end in ends
                for one in self._carried_forward(positions, self.wanted.first(end), [end])
            ]
        scores = -torch.stack(found) * self._weights[positions].to(found[0])[:, None]
        for dim, name in ((0, "checkpoint"), (2, "test")):
            if name in self.wanted.mean_over:
                scores = scores.mean(dim, keepdim=True)
        return scores

    def _carried_forward(
        self, positions: Tensor, first: int, ends: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the derivatives of test losses by weights, (train, test), after so many steps."""
        numbers, tangents = self._numbers, None
        for step in self.replay.forwards(first, ends[-1]):
            loss, adam = self.at(step)
            if tangents is None:
                tangents = loss.gradient.new_zeros(3, len(positions), len(loss.gradient))
            by_weights = (positions[:, None] == step.batch).to(tangents)
            if tangents.any() or by_weights.any():
                of_gradient, _ = loss.along(tangents[0], by_weights)
                adam.forward(*tangents, of_gradient)
            if step.number + 1 in ends:
                vectors = torch.empty_like(tangents[0])
                vectors[:, numbers] = tangents[0]
                sample = self.sample(self.replay.ends.index(step.number + 1))
                yield sample.dot_with(vectors, "test")
