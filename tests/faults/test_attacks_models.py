"""Networks put together at random: scores are those of a plain loop, or refused by the layer."""

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import tda_utils as tda
from tda_utils import Posterior
from tda_utils.attribution import lissa
from tests.faults.attacks import Attacks
from tests.tiny import table_task
from tests.zoo import networks, plain

WIDTH, CLASSES = 4, 3
BATCH, SCALE, DAMPING = 3, 10.0, 5e-3
TASK = table_task(n_train=6, n_test=3)
TRAIN, TEST = TASK.train_x.double(), TASK.test_x.double()
METHODS = {
    "grad_dot": ("grad_dot", {}),
    "grad_cos": ("grad_cos", {}),
    "ggn": ("influence", {"solver": "ggn"}),
    "lissa": ("influence", {"protocol": "released"}),
}


class Layer(nn.Module):
    """A function of numbers of WIDTH columns, with the modules that it needs."""

    def __init__(self, function: Callable, *modules: nn.Module):
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(modules)

    def forward(self, rows):
        return self.function(rows, *self.inner)


class Scale(nn.Module):
    """A parameter without dimensions, or of any shape."""

    def __init__(self, *shape: int):
        super().__init__()
        self.values = nn.Parameter(1 + torch.rand(shape))


def linear(**options):
    return nn.Linear(WIDTH, WIDTH, **options)


def attention(rows, project):
    parts = project(rows.view(-1, 2, 2)).unflatten(2, (3, 1, 2)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(*parts).flatten(1)


def each_by_its_sign(rows, one, other):
    return torch.stack([one(row) if row.sum() > 0 else other(row) for row in rows])


def by_mask(rows, one, other):
    chosen = rows[:, 0] > 0
    made = torch.zeros_like(rows)
    made[chosen], made[~chosen] = one(rows[chosen]), other(rows[~chosen])
    return made


def behind_its_back(rows, layer):
    return layer(rows) + F.relu(F.linear(rows, layer.weight))


def overwritten(rows, layer):
    return F.leaky_relu_(layer(rows), 0.3)


def recurrent(kind):
    return Layer(lambda rows, cell: cell(rows.view(-1, 2, 2))[0].flatten(1), kind())


# Each treats a sample by itself.
LAYERS = {
    "linear": linear,
    "without bias": lambda: linear(bias=False),
    "frozen": lambda: linear().requires_grad_(False),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softmax": lambda: nn.Softmax(dim=1),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "group norm": lambda: nn.GroupNorm(2, WIDTH),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "dropout": lambda: nn.Dropout(0.5),
    "PReLU": lambda: nn.PReLU(WIDTH),
    "residual": lambda: Layer(lambda rows, layer: rows + layer(rows).tanh(), linear()),
    "twice": lambda: Layer(lambda rows, layer: layer(layer(rows).tanh()), linear()),
    "keyword": lambda: Layer(lambda rows, layer: layer(input=rows), linear()),
    "transposed": lambda: Layer(
        lambda rows, layer: F.linear(layer(rows), layer.weight.T), linear(bias=False)
    ),
    "behind": lambda: Layer(behind_its_back, linear()),
    "scalar": lambda: Layer(lambda rows, scale: rows * scale.values, Scale()),
    "diagonal": lambda: Layer(lambda rows, scale: rows * scale.values, Scale(1, WIDTH)),
    "unused": lambda: Layer(lambda rows, spare: rows, linear()),
    "discarded": lambda: Layer(lambda rows, aside: (aside(rows), rows)[1], linear()),
    "RNN": lambda: recurrent(lambda: nn.RNN(2, 2, batch_first=True)),
    "GRU": lambda: recurrent(lambda: nn.GRU(2, 2, batch_first=True)),
    "LSTM": lambda: recurrent(lambda: nn.LSTM(2, 2, batch_first=True)),
    "attention": lambda: Layer(attention, nn.Linear(2, 6)),
    "heads": lambda: Layer(
        lambda rows, heads: heads(*[rows.view(-1, 2, 2)] * 3)[0].flatten(1),
        nn.MultiheadAttention(2, 1, batch_first=True),
    ),
    "tokens": lambda: Layer(lambda rows, mix: mix(rows.view(-1, 2, 2)).flatten(1), nn.Linear(2, 2)),
    "convolution": lambda: Layer(
        lambda rows, conv: conv(rows.view(-1, 1, 2, 2)).flatten(1), nn.Conv2d(1, 1, 3, padding=1)
    ),
    "in one dimension": lambda: Layer(
        lambda rows, conv: conv(rows[:, None])[:, 0], nn.Conv1d(1, 1, 3, padding=1)
    ),
    "bilinear": lambda: Layer(lambda rows, two: two(rows, rows), nn.Bilinear(WIDTH, WIDTH, WIDTH)),
    "spectral norm": lambda: parametrizations.spectral_norm(linear()),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "own backward": lambda: Layer(lambda rows: networks.Square.apply(rows)),
    "in place": lambda: Layer(overwritten, linear()),
    "turned round": lambda: Layer(lambda rows, layer: layer(rows.flip(0)).flip(0), linear()),
    "steps first": lambda: Layer(
        lambda rows, mix: mix(rows.view(-1, 2, 2).transpose(0, 1)).transpose(0, 1).flatten(1),
        nn.Linear(2, 2),
    ),
    "branch": lambda: Layer(each_by_its_sign, linear(), linear()),
    "mask": lambda: Layer(by_mask, linear(), linear()),
    "where": lambda: Layer(
        lambda rows, one: torch.where(rows[:, :1] > 0, one(rows), rows), linear()
    ),
    "sorted": lambda: Layer(lambda rows: rows.sort(1).values),
    # Squared, since the length itself has a kink where group norm puts a coefficient: at zero.
    "complex": lambda: Layer(lambda rows: torch.fft.fft(rows).abs().square()),
}
# Each mixes the samples of a batch.
MIXERS = {
    "mean": lambda rows: rows - rows.mean(0),
    "a millionth of the mean": lambda rows: rows - 1e-6 * rows.mean(0),
    "spread": lambda rows: rows / (rows.std(0, correction=0) + 1),
    "first": lambda rows: rows - rows[:1] / 2,
    "last": lambda rows: rows - rows[-1:] / 2,
    "neighbour": lambda rows: rows + rows.roll(1, 0),
    "softmax": lambda rows: rows.softmax(0),
    "sum so far": lambda rows: rows.cumsum(0),
    "number": lambda rows: rows * len(rows),
    "largest": lambda rows: rows / (1 + rows.abs().max()),
    "attention": lambda rows: (rows @ rows.T).softmax(1) @ rows,
    "branch": lambda rows: rows if len(rows) == 1 or rows.sum() > 1e9 else -rows,
    "norm": lambda rows: rows / rows.norm(),
    "normalised": lambda rows: (
        F.batch_norm(rows, None, None, training=True) if len(rows) > 1 else rows
    ),
}
SMOOTH = ["linear", "without bias", "tanh", "residual", "twice", "scalar", "convolution"]


def chain(chance: random.Random, names, most=4):
    """Return layers by name, in a row."""
    return [chance.choice(list(names)) for _ in range(chance.randint(1, most))]


def put_together(layers, seed):
    """Return a network in evaluation mode, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = [layer() for layer in layers]
        network = nn.Sequential(nn.Linear(WIDTH, WIDTH), *made, nn.Linear(WIDTH, CLASSES))
        return network.double().eval()


def scores(network, method):
    function, options = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = Posterior.from_state_dicts(network, [[network.state_dict()]])
        return tda.attribute(posterior, TASK, function, workers=1, **options)[0, 0]


def plainly(network, method):
    train = plain.loss_gradients(network, TRAIN, TASK.train_y)
    test = plain.loss_gradients(network, TEST, TASK.test_y)
    if method == "grad_dot":
        return train @ test.T
    if method == "grad_cos":
        return plain.cosines(train, test).nan_to_num(0)
    if method == "ggn":
        matrix = plain.gauss_newton(plain.mixed_gradients(network, TRAIN))
        return plain.solved(train, test, matrix, DAMPING)
    splits = zip(TRAIN.split(BATCH), TASK.train_y.split(BATCH), strict=True)
    curvatures = [plain.hessian(network, *split) for split in splits]
    return plain.lissa(train, test, curvatures, DAMPING, SCALE)


@pytest.fixture(autouse=True)
def short_recursion(monkeypatch):
    monkeypatch.setattr(lissa, "LISSA_BATCH", BATCH)
    monkeypatch.setattr(lissa, "LISSA_SCALE", SCALE)


@pytest.mark.parametrize("method", METHODS)
def test_networks_put_together_at_random(count, method):
    attacks, chance = Attacks(count, area="models"), random.Random(method)
    for seed in range({"lissa": 60, "ggn": 150}.get(method, 250)):
        names = chain(chance, LAYERS)
        network = put_together([LAYERS[name] for name in names], seed)
        wanted = plainly(network, method).detach().numpy()

        def close(found, wanted=wanted):
            # Of Gauss-Newton digits go where curvature is far above the damping.
            tolerance = (1e-7 if method == "ggn" else 1e-9) * max(abs(wanted).max(), 1e-6)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)

        attacks.run(
            f"{method} {seed} {names}",
            lambda network=network: scores(network, method),
            oracle=close,
            refusable=False,
        )


@pytest.mark.parametrize("mixer", MIXERS)
def test_networks_that_mix_a_batch_somewhere(count, mixer):
    attacks, chance = Attacks(count, area="models"), random.Random(mixer)
    for seed in range(60):
        names = chain(chance, SMOOTH)
        layers = [LAYERS[name] for name in names]
        place = chance.randint(0, len(layers))
        layers.insert(place, lambda: Layer(MIXERS[mixer]))
        network = put_together(layers, seed)
        method = chance.choice(list(METHODS))
        attacks.run(
            f"{mixer} at {place} in {names}, {method} {seed}",
            lambda network=network, method=method: scores(network, method),
            names=[f"layer '{place + 1}' (Layer)"],
        )
