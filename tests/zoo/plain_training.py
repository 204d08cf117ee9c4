"""Training and what trains again, written plainly: one model, PyTorch's own Adam, float64."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tda_utils.engine.noise import (
    NOISE_STREAM,
    STEP_STREAM,
    UNPAIRED_STREAM,
    derived_seed,
    with_seeded_dropout,
)


def adam_of(model: nn.Module, recipe) -> torch.optim.Adam:
    """Return PyTorch's Adam, not fused, for what is trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(
        trained, lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=False, fused=False
    )


def losses(model: nn.Module, task) -> Tensor:
    """Return the loss of each test sample, each by itself."""
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                F.cross_entropy(model(x[None].clone()), y[None], reduction="none")
                for x, y in zip(task.test_x.double(), task.test_y, strict=True)
            ]
        )


def step(model: nn.Module, adam: torch.optim.Optimizer, task, batch, weights=None) -> None:
    """Take one step on a batch; the mean is over all of it, whatever the weights."""
    model.train()
    adam.zero_grad()
    each = F.cross_entropy(
        model(task.train_x[batch].double()), task.train_y[batch], reduction="none"
    )
    (each if weights is None else each * weights[batch]).mean().backward()
    adam.step()


def batches(n: int, recipe) -> list[list[Tensor]]:
    """Return the batches of all epochs that a DataLoader draws from the global state now."""
    loader = DataLoader(range(n), recipe.batch_size, shuffle=True, collate_fn=torch.tensor)
    return [list(loader) for _ in range(recipe.epochs)]


class Run:
    """One training run and its models after each of the last epochs.

    Without `start` it begins with `build`, after the seed; with it, the seed sets the order alone.
    """

    def __init__(self, build, task, recipe, seed, weights=None, start=None):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build() if start is None else copied(build, start)
            order = batches(task.n_train, recipe)
        model = with_seeded_dropout(model, derived_seed(seed, NOISE_STREAM))
        adam = adam_of(model, recipe)
        self.states, self.memories = [], []
        for epoch, own in enumerate(order):
            for batch in own:
                step(model, adam, task, batch, weights)
            if epoch >= recipe.epochs - recipe.keep_last:
                self.states.append(copy.deepcopy(model.state_dict()))
                self.memories.append(copy.deepcopy(adam.state_dict()))


def copied(build, state) -> nn.Module:
    """Return a model with this state; its random numbers are nobody's."""
    with torch.random.fork_rng(devices=[]):
        model = build()
    model.load_state_dict(state)
    return model


def losses_of(build, states, task) -> Tensor:
    return torch.stack([losses(copied(build, state), task) for state in states])


def without(task, row) -> Tensor:
    weights = torch.ones(task.n_train)
    weights[row] = 0
    return weights


def paired(build, task, recipe, seed) -> Tensor:
    """Return paired leave-one-out, (checkpoint, train, test)."""
    own = losses_of(build, Run(build, task, recipe, seed).states, task)
    each = [
        losses_of(build, Run(build, task, recipe, seed, without(task, row)).states, task) - own
        for row in task.rows.tolist()
    ]
    return torch.stack(each, dim=1)


def continued(build, task, recipe, seed, state) -> tuple[Tensor, Tensor]:
    """Return the scores of continued leave-one-out at a checkpoint, and the drift."""
    before = losses_of(build, [state], task)[0]
    drift, *each = (
        losses_of(build, Run(build, task, recipe, seed, weights, state).states[-1:], task)[0]
        for weights in (None, *(without(task, row) for row in task.rows.tolist()))
    )
    return torch.stack(each) - before, drift - before


def unpaired(build, task, recipe, seed, state, epoch) -> Tensor:
    """Return the scores of unpaired leave-one-out at a checkpoint."""
    before = losses_of(build, [state], task)[0]
    each = []
    for row in task.rows.tolist():
        other = derived_seed(seed, UNPAIRED_STREAM, seed, epoch, row)
        run = Run(build, task, recipe, other, without(task, row))
        each.append(losses_of(build, run.states[-1:], task)[0] - before)
    return torch.stack(each)


def one_step(build, task, recipe, seed, epoch, state, memory) -> tuple[Tensor, Tensor]:
    """Return what one step of Adam changes, on each sample and on nothing; a fresh one if None."""
    before = losses_of(build, [state], task)[0]
    changes = []
    for row, weights in [(0, torch.zeros(task.n_train)), *((r, None) for r in task.rows.tolist())]:
        number = 0 if memory is not None or weights is not None else 1 + row
        noise = derived_seed(seed, STEP_STREAM, epoch, number)
        model = with_seeded_dropout(copied(build, state), noise)
        adam = adam_of(model, recipe)
        if memory is not None:
            adam.load_state_dict(copy.deepcopy(memory))
        step(model, adam, task, torch.tensor([row]), weights)
        changes.append(losses(model, task) - before)
    return torch.stack(changes[1:]), changes[0]


def gradient_step(build, task, lr, state) -> Tensor:
    """Return what one plain gradient step in evaluation mode changes."""
    before = losses_of(build, [state], task)[0]
    changes = []
    for row in task.rows.tolist():
        model = copied(build, state)
        model.eval()
        F.cross_entropy(model(task.train_x[[row]].double()), task.train_y[[row]]).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= lr * parameter.grad
        changes.append(losses(model, task) - before)
    return torch.stack(changes)
