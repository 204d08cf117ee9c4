"""The work that is timed, by this package and by a plain loop written as the released code is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import tda_utils as tda
from tda_utils.engine.recipe import Job, batch_order, initial_state
from tda_utils.engine.training import network_for, train_losses
from tda_utils.models.convolutional import CNN2L

SEED = tda.PAPER_SEEDS[0]


class WiderCNN(CNN2L):
    """CNN2-L with twice the filters and four times the hidden units, for growth with parameters."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        kernel = self.conv1.kernel_size
        self.conv1 = nn.Conv2d(channels, 64, kernel)
        self.conv2 = nn.Conv2d(64, 128, kernel)
        self.fc1 = nn.Linear(128 * 5 * 5, 512)
        self.fc2 = nn.Linear(512, 10)


def samples(images: Tensor, labels: Tensor, index: Tensor) -> list[tuple[Tensor, int, int]]:
    """Return a data set as a list of (image, label, index), as the released code holds it."""
    return [(x, int(y), int(i)) for x, y, i in zip(images, labels, index, strict=True)]


class OwnCNN(nn.Module):
    """CNN2-L with ReLU as a user may write it, in a class that the package does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.hidden, self.head = nn.Linear(64 * 5 * 5, 128), nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (n, 10), of images, shape (n, 1, 28, 28)."""
        values = self.features(images)
        return self.head(nn.functional.relu(self.hidden(values.view(values.size(0), -1))))


def plain_model(
    task: tda.Task, recipe: tda.Recipe, removed: int | None, build: Callable = CNN2L
) -> Tensor:
    """Train one network as the released code does, one loss set to zero; return test losses.

    One model at a time, a DataLoader over samples, one optimiser step a batch, PyTorch's defaults.
    """
    train_set = samples(*task.split("train"))
    torch.manual_seed(SEED)
    model = build()
    criterion = nn.CrossEntropyLoss(reduction="none")
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    loader = DataLoader(train_set, batch_size=recipe.batch_size, shuffle=True)
    model.train()
    for _ in range(recipe.epochs):
        for images, labels, index in loader:
            optimizer.zero_grad()
            losses = criterion(model(images), labels)
            if removed is not None:
                losses[index == removed] = 0
            losses.mean().backward()
            optimizer.step()
    return plain_losses(model, task)


def plain_losses(model: nn.Module, task: tda.Task) -> Tensor:
    """Return the test losses, batch by batch of 64, as the released code does."""
    model.eval()
    criterion = nn.CrossEntropyLoss(reduction="none")
    losses = []
    with torch.no_grad():
        for images, labels, _ in DataLoader(samples(*task.split("test")), batch_size=64):
            losses.append(criterion(model(images), labels))
    return torch.cat(losses)


def our_models(
    task: tda.Task,
    recipe: tda.Recipe,
    removed: Sequence[int | None],
    build=CNN2L,
    seeds: Sequence[int] = (SEED,),
) -> Tensor:
    """Train the same models with the engine; return test losses, (models, checkpoints, test)."""
    jobs = []
    for seed in seeds:
        state = initial_state(build, seed)
        order = batch_order(seed, task.n_train, recipe, build)
        for index in removed:
            weights = torch.ones(task.n_train)
            if index is not None:
                weights[task.train_index == index] = 0
            jobs.append(Job(state, order, weights))
    model = build()
    return train_losses(
        model, task.train_x, task.train_y, recipe, jobs, task.test_x, task.test_y, device="cpu"
    )


def our_unrolled(posterior: tda.Posterior, task: tda.Task, workers: int | None = None) -> Tensor:
    """Return the derivative of each test loss through training, (train, test), in reverse."""
    options = {"mode": "reverse", "check": 0, "workers": workers}
    return torch.from_numpy(tda.unrolled(posterior, task, **options).values[0, 0])


def stored_graph(task: tda.Task, recipe: tda.Recipe, build=CNN2L) -> Tensor:
    """Return the same as one would at first: keep the graph of all steps, and go back through it.

    Each step of Adam is written with operations that autograd differentiates.
    """
    model, weights = build(), torch.ones(task.n_train, requires_grad=True)
    place = {name: p.clone().requires_grad_() for name, p in initial_state(build, SEED).items()}
    means = {name: torch.zeros_like(p) for name, p in place.items()}
    squares, step = dict(means), 0
    for batch in (b for epoch in batch_order(SEED, task.n_train, recipe, build) for b in epoch):
        logits = torch.func.functional_call(model, place, (task.train_x[batch],))
        losses = nn.functional.cross_entropy(logits, task.train_y[batch], reduction="none")
        mean = (losses * weights[batch]).mean()
        gradients = torch.autograd.grad(mean, list(place.values()), create_graph=True)
        step += 1
        for (name, p), gradient in zip(list(place.items()), gradients, strict=True):
            gradient = gradient + recipe.weight_decay * p
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient.square()
            size = (squares[name] / (1 - 0.999**step)).sqrt() + 1e-8
            place[name] = p - recipe.lr / (1 - 0.9**step) * means[name] / size
    logits = torch.func.functional_call(model, place, (task.test_x,))
    losses = nn.functional.cross_entropy(logits, task.test_y, reduction="none")
    rows = [torch.autograd.grad(loss, weights, retain_graph=True)[0] for loss in losses]
    return -torch.stack(rows, dim=1)


def arithmetic(model: nn.Module, images: Tensor) -> tuple[int, int]:
    """Return the arithmetic of a look at images, and of a training step, a multiply-add as two.

    By the sizes of the layers: forward, gradient by weights, gradient by inputs (not for the first
    layer). GELU, pooling and the optimiser are not counted; nor is it taken off what this package
    need not compute.
    """
    sizes: list[int] = []

    def count(module: nn.Module, _: tuple, output: Tensor) -> None:
        weight = module.weight
        places = output[0].numel() // weight.shape[0]
        sizes.append(2 * weight.numel() * places * len(output))

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(sizes), 3 * sum(sizes) - sizes[0]


def train_only(task: tda.Task, recipe: tda.Recipe, models: int) -> None:
    """Retrain models and look at nothing, for the share of the machine's rate."""
    from tda_utils.engine.parallel import parallel_map

    network = network_for(CNN2L(), task.train_x, torch.float32)
    prepared = network.prepare(task.train_x)
    state = initial_state(CNN2L, SEED)
    order = batch_order(SEED, task.n_train, recipe, CNN2L)

    def run(_: int) -> None:
        learner = network.learner(recipe, state)
        for epoch in order:
            for batch in epoch:
                learner.step(prepared[batch], task.train_y[batch], None)

    parallel_map(run, range(models))


def posterior_of(task: tda.Task, build=CNN2L, members: int = 1) -> tda.Posterior:
    """Return members with one checkpoint each, trained on the task."""
    recipe = tda.Recipe(keep_last=1)
    return tda.sample_posterior(build, task, recipe, tda.PAPER_SEEDS[:members], device="cpu")
