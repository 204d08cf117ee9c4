"""Training again by a loop of the user's own, which is tried before it is trusted."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tda_utils.attribution.keeping import (
    Keeper,
    Values,
    common_values,
    digest_of,
    source_of,
)
from tda_utils.checks import brief
from tda_utils.data.objective import Objective
from tda_utils.data.task import Task
from tda_utils.engine.training import state_losses
from tda_utils.models.states import State, float_dtype
from tda_utils.posterior import Posterior, checked_copy

Train = Callable[[Tensor, int, int], Sequence[State] | State]
#: Training samples on which it is tried whether a weight of zero leaves a sample out.
TRIED = 500
#: A one-sided p above that says little for losses being apart.
APART = 0.25


@dataclasses.dataclass(frozen=True)
class OwnRun:
    """A training by a user's loop: of whom, and with which weights and seeds."""

    weights: Tensor
    init_seed: int
    order_seed: int
    name: str
    #: Tells a second training with the same values from the first.
    again: bool = False


class TrainFault(ValueError):
    """What is wrong with a training function, or with one call of it."""


class OwnTraining:
    """A user's training function with the model and the samples that its states are looked at by.

    Parameters
    ----------
    train : callable
        ``train(weights, init_seed, order_seed) -> states``; see `tda_utils.attribution.retrain`.
    posterior : Posterior
        Gives the model, the seeds and the number of checkpoints.
    task : Task
    device : torch.device
        Where losses are computed.
    keeper : Keeper, optional
        Keeps what is computed.
    """

    def __init__(
        self,
        train: Train,
        posterior: Posterior,
        task: Task,
        device: str | torch.device,
        keeper: Keeper | None,
    ) -> None:
        if not callable(train):
            raise TypeError(
                f"train is {brief(train)}; it must be a function (weights, init_seed, order_seed) "
                "-> states."
            )
        if posterior.order_seeds is None:
            raise ValueError(
                "posterior has no seeds; train needs them: pass seeds= to from_state_dicts."
            )
        self._train, self._posterior, self._task = train, posterior, task
        self._device, self._keeper = device, keeper
        rows = torch.linspace(0, task.n_train - 1, min(TRIED, task.n_train)).long()
        self._tried = rows

    def losses(self, factors: Tensor, describe: str) -> Tensor:
        """Return the test losses with each row of factors, (member, checkpoint, subset, test)."""
        posterior, task = self._posterior, self._task
        self.check(describe)
        runs = [
            OwnRun(
                row, *self._seeds(member), f"member {posterior.member_labels[member]}, subset {at}"
            )
            for member in range(posterior.members)
            for at, row in enumerate(self._weighted(member, factors))
        ]
        found = self._all(runs, describe)[..., : task.n_test]
        shape = (posterior.members, len(factors), posterior.checkpoints, task.n_test)
        return found.reshape(shape).transpose(1, 2)

    def _seeds(self, member: int) -> tuple[int, int]:
        return self._posterior.init_seeds[member], self._posterior.order_seeds[member]

    def _weighted(self, member: int, factors: Tensor) -> Tensor:
        own = self._posterior.weights
        return factors if own is None else own[member] * factors

    # ---------------- one training

    def _run(self, run: OwnRun) -> Tensor:
        """Train once; return losses of test and tried samples, (checkpoints, samples)."""
        where = f"train(weights, {run.init_seed}, {run.order_seed}), {run.name},"
        try:
            with torch.inference_mode(False), torch.enable_grad():
                states = self._train(run.weights.clone(), run.init_seed, run.order_seed)
        except MemoryError:
            raise
        except Exception as problem:  # Whatever a stranger's loop may raise.
            said = " ".join(str(problem).split())[:300].rstrip(".")
            raise TrainFault(f"{where} raised {type(problem).__name__}: {said}.") from problem
        task, own = self._task, self._checked(states, where)
        # What is measured on test samples, and the loss of training samples.
        looks = [
            (task.test_x, task.test_y, task.objective),
            (task.train_x[self._tried], task.train_y[self._tried], self._trained_loss),
        ]
        losses = torch.cat(
            [
                state_losses(
                    self._posterior.model,
                    own,
                    inputs,
                    targets,
                    objective=objective,
                    device=self._device,
                )
                for inputs, targets, objective in looks
            ],
            dim=1,
        )
        if not bool(torch.isfinite(losses).all()):
            raise TrainFault(f"{where} gave a model with losses that are not finite.")
        return losses

    @property
    def _trained_loss(self) -> Objective:
        """What is trained on, whatever is measured."""
        return dataclasses.replace(self._task.objective, measure="loss")

    def _checked(self, states: object, where: str) -> list[dict[str, Tensor]]:
        wanted = self._posterior.checkpoints
        if isinstance(states, Mapping) and wanted == 1:
            states = [states]
        if not isinstance(states, list | tuple):
            raise TrainFault(
                f"{where} gave {brief(states)}; it must give a list of {wanted} state dicts, one a "
                "checkpoint."
            )
        if len(states) != wanted:
            raise TrainFault(
                f"{where} gave {len(states)} states; the posterior has {wanted} checkpoints, and "
                "it must give one for each."
            )
        model, dtype = self._posterior.model, float_dtype(self._posterior.states[0][0])
        try:
            own = [
                checked_copy(model, state, f"checkpoint {at}") for at, state in enumerate(states)
            ]
        except (TypeError, ValueError) as problem:
            raise TrainFault(f"{where} gave states of which {problem}") from problem
        if (found := float_dtype(own[0])) != dtype:
            raise TrainFault(f"{where} gave states in {found}; the posterior's are in {dtype}.")
        return own

    # ---------------- many of them

    def _all(self, runs: Sequence[OwnRun], describe: str) -> Tensor:
        shape = (self._posterior.checkpoints, self._task.n_test + len(self._tried))
        if self._keeper is not None:
            return self._keeper(
                self._values(runs),
                lambda at: torch.stack([self._run(runs[position]) for position in at]),
                shape=shape,
                describe=describe,
                at_once=1,
                workers=1,
            )
        found, lost = [], []
        for run in runs:
            try:
                found.append(self._run(run))
            except TrainFault as fault:  # All others are worth keeping.
                lost.append(fault)
                dtype = float_dtype(self._posterior.states[0][0])
                found.append(torch.full(shape, torch.nan, dtype=dtype))
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            warnings.warn(
                f"{describe}: {str(lost[0]).rstrip('.')}{more}; its losses are NaN.",
                RuntimeWarning,
                stacklevel=2,
            )
        return torch.stack(found)

    def _values(self, runs: Sequence[OwnRun]) -> list[Values]:
        shared = common_values(self._posterior.model, self._task) | {
            "train": source_of(self._train),
            "checkpoints": self._posterior.checkpoints,
        }
        return [
            shared
            | {
                "weights": digest_of(run.weights),
                "init_seed": run.init_seed,
                "order_seed": run.order_seed,
                "again": run.again,
            }
            for run in runs
        ]

    # ---------------- whether it can be trusted

    def check(self, describe: str) -> None:
        """Raise a `TrainFault` unless it is deterministic in its seeds and uses what it is given.

        Seven trainings of the first member, on weights of its own, of zero for one and for the
        other half of the samples, and of zero for all.

        Warns
        -----
        RuntimeWarning
            If losses do not tell that samples of weight zero were left out.
        """
        own = self._weighted(0, torch.ones(1, self._task.n_train))[0]
        own = own.to(float_dtype(self._posterior.states[0][0]))
        half = torch.zeros_like(own)
        half[np.random.default_rng(0).permutation(len(own))[: (len(own) + 1) // 2]] = 1
        (init_seed, order_seed), others = self._seeds(0), self._other_seeds()
        trials = {
            "first": (own, init_seed, order_seed),
            "again": (own, init_seed, order_seed),
            "others": (own, *others),
            "half": (own * half, init_seed, order_seed),
            "rest": (own * (1 - half), init_seed, order_seed),
        }
        runs = [
            OwnRun(*trial, f"tried {name}", again=name == "again") for name, trial in trials.items()
        ]
        if self._keeper is None:
            found = [self._run(run) for run in runs]
        else:
            found = list(self._all(runs, f"{describe}, trials"))
        first, again, other, without, rest = found
        if not torch.equal(first, again):
            raise TrainFault(
                "train gives another model each time it is called with the same weights and seeds "
                f"({init_seed}, {order_seed}): losses differ by up to "
                f"{float((first - again).abs().max()):.2g} nats; all that it draws must come from "
                "init_seed and order_seed."
            )
        if torch.equal(first, other):
            raise TrainFault(
                f"train ignores its seeds: init_seed {init_seed} and order_seed {order_seed} give "
                f"the same losses as {others[0]} and {others[1]}; they must seed all that it draws."
            )
        if torch.equal(first, without) or torch.equal(first, rest):
            raise TrainFault(
                "train ignores its weights: with half of them zero it gives the same losses; "
                "weights[i] must be a factor on the loss of training sample i."
            )
        self._check_nothing_seen(own, init_seed, order_seed, others[1], describe)
        self._warn_unless_left_out(without, rest, half)

    def _other_seeds(self) -> tuple[int, int]:
        init_seed, order_seed = self._seeds(0)
        for member in range(1, self._posterior.members):
            if self._seeds(member) != (init_seed, order_seed):
                return self._seeds(member)
        return init_seed + 1, order_seed + 1

    def _check_nothing_seen(
        self, own: Tensor, init_seed: int, order_seed: int, other: int, describe: str
    ) -> None:
        """Of samples that all have weight zero, the order cannot matter."""
        other = order_seed + 1 if other == order_seed else other
        runs = [OwnRun(0 * own, init_seed, seed, "tried nothing") for seed in (order_seed, other)]
        try:
            if self._keeper is None:
                one, two = (self._run(run) for run in runs)
            else:
                one, two = self._all(runs, f"{describe}, trials")
        except TrainFault:
            return  # Without any sample there may be nothing to train, or a mean over none.
        if not torch.equal(one, two):
            raise TrainFault(
                "train does not leave out a sample of weight zero: with all weights zero it still "
                f"hangs on the order of the samples, order_seed {order_seed} or {other}; weights[i]"
                " must be a factor on the loss of training sample i, which then has no other part "
                "in training, and noise that is no matter of order must come from init_seed."
            )

    def _warn_unless_left_out(self, without: Tensor, rest: Tensor, half: Tensor) -> None:
        """Warn unless samples are predicted worse by the half of training that lacks them."""
        tests = self._task.n_test
        seen_first = half[self._tried] > 0
        difference = (rest - without)[-1, tests:].double()
        worse = torch.where(seen_first, difference, -difference).numpy()
        apart = len(worse) > 2 and np.ptp(worse) > 0
        if not apart or stats.ttest_1samp(worse, 0, alternative="greater").pvalue > APART:
            warnings.warn(
                "train: training samples are predicted no worse where their weight is zero than "
                f"where it is not (by {worse.mean():.2g} nats on average), which says nothing "
                "wrong of a model that learns little from each; but does weights[i] belong to the "
                "sample that the task has at position i?",
                RuntimeWarning,
                stacklevel=2,
            )
