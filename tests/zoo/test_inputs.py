"""Networks with inputs of every kind under every method, against a loop in float64.

The loop takes each sample alone, without padding.
"""

import contextlib
import copy
import functools
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, sample_posterior
from tda_utils.attribution import lissa
from tda_utils.engine.noise import NOISE_STREAM, derived_seed, with_seeded_dropout
from tests.zoo import plain
from tests.zoo.inputs import INPUTS, N_TRAIN, Items, bert, plain_logits
from tests.zoo.objectives import CASES
from tests.zoo.outcomes import GRADIENT_METHODS, INPUT_SLOW, PAIRED

DAMPING, BATCH, SCALE, SEED = 5e-2, 2, 10.0, 446
SMALL = 1e-5  # a weight's step to either side
RECIPE = Recipe(epochs=2, batch_size=4, lr=1e-2, weight_decay=5e-3, keep_last=1)
BOTH = [(network, case) for network, cases in PAIRED.items() for case in cases]
#: Second derivatives are slow: they are taken with the first objective alone.
TRIED = [
    (network, case, method)
    for network, cases in PAIRED.items()
    for case in cases
    for method in GRADIENT_METHODS
    if case == cases[0] or method not in ("hessian", "lissa")
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:influence. the largest curvature"),
    pytest.mark.filterwarnings("ignore:gradients are taken sample by sample"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]


def targets_of(case):
    n, rows = 9, torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    return {
        "labels": torch.arange(n) % 3,
        "numbers": rows[:, 0],
        "rows": rows,
        "bits": (torch.arange(n) % 2).float(),
        "rows of bits": (rows > 0).float(),
    }[case.targets]


def task_of(network, name):
    case = CASES[name]
    return INPUTS[network].task(targets_of(case), case.objective)


def build(network, name):
    if "BERT" in network:
        pytest.importorskip("transformers", reason="needs the extra 'vit'")
    return INPUTS[network].build(CASES[name].outputs).double()


def seeded(network, name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(network, name)


def values_of(model, network, positions, targets, function):
    """Return a value of each of these samples, each alone."""
    targets = targets.double() if targets.is_floating_point() else targets
    return [
        function(plain_logits(INPUTS[network].alone(model, i)), targets[i][None]).squeeze()
        for i in positions
    ]


class Oracle:
    """What a plain loop gives for one network and objective."""

    def __init__(self, network, name):
        self._network, self._case = network, CASES[name]
        self._targets, self._model = targets_of(self._case), seeded(network, name).eval()

    def _gradients(self, positions, function):
        values = values_of(self._model, self._network, positions, self._targets, function)
        return torch.stack([plain.gradient(value, self._model) for value in values])

    @functools.cached_property
    def train(self):
        return self._gradients(range(N_TRAIN), self._case.loss)

    @functools.cached_property
    def test(self):
        return self._gradients(range(N_TRAIN, 9), self._case.measure or self._case.loss)

    @functools.cached_property
    def mixed(self):
        rows = []
        for position in range(N_TRAIN):
            outputs = plain_logits(INPUTS[self._network].alone(self._model, position))[0]
            y = self._targets[position][None]
            y = y.double() if y.is_floating_point() else y
            jacobian = [plain.gradient(f, self._model, retain_graph=True) for f in outputs]
            curvature = torch.autograd.functional.hessian(
                lambda f, y=y: self._case.loss(f[None], y).sum(), outputs.detach()
            )
            values, vectors = torch.linalg.eigh(curvature)
            rows.append((vectors * values.clamp_min(0).sqrt()).T @ torch.stack(jacobian))
        return torch.stack(rows)

    @functools.cached_property
    def hessians(self):
        found = []
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for start in range(0, N_TRAIN, BATCH):
                losses = values_of(
                    self._model,
                    self._network,
                    range(start, start + BATCH),
                    self._targets,
                    self._case.loss,
                )
                first = plain.gradient(torch.stack(losses).mean(), self._model, create_graph=True)
                found.append(
                    torch.stack([plain.gradient(g, self._model, retain_graph=True) for g in first])
                )
        return found

    def damping(self, method):
        if method != "hessian":
            return DAMPING
        least = float(torch.linalg.eigvalsh(torch.stack(self.hessians).mean(0))[0])
        return 0.1 + 2 * max(-least, 0.0)

    def scores(self, method):
        damping = self.damping(method)
        if method == "grad_dot":
            return self.train @ self.test.T
        if method == "grad_cos":
            return plain.cosines(self.train, self.test)
        if method == "lissa":
            return plain.lissa(self.train, self.test, self.hessians, damping, SCALE)
        if method == "ggn":
            matrix = plain.gauss_newton(self.mixed)
        elif method == "hessian":
            matrix = torch.stack(self.hessians).mean(0)
        else:
            by_layer = INPUTS[self._network].by_layer
            matrix = plain.ekfac(self.mixed, plain.blocks(self._model, by_layer))
        return plain.solved(self.train, self.test, matrix, damping)


oracle = functools.lru_cache(maxsize=1)(Oracle)


@pytest.mark.parametrize(("network", "name", "method"), TRIED)
def test_a_gradient_method_gives_what_each_sample_alone_gives(network, name, method, monkeypatch):
    monkeypatch.setattr(lissa, "LISSA_BATCH", BATCH)
    monkeypatch.setattr(lissa, "LISSA_SCALE", SCALE)
    model = seeded(network, name)
    wanted = oracle(network, name).scores(method).numpy()
    function, options = GRADIENT_METHODS[method]
    if function == "influence":
        options = {**options, "damping": oracle(network, name).damping(method)}
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    with slower_way(network) if network in INPUT_SLOW else no_slower_way():
        found = tda.attribute(posterior, task_of(network, name), function, workers=1, **options)
    tolerance = 1e-9 if method == "hessian" else 1e-11
    np.testing.assert_allclose(found[0, 0], wanted, rtol=0, atol=tolerance * abs(wanted).max())


def slower_way(network):
    """Ask for the warning that gradients are taken sample by sample, with its reason."""
    return pytest.warns(RuntimeWarning, match=re.escape(INPUT_SLOW[network]))


@contextlib.contextmanager
def no_slower_way():
    """Make an error of that warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="gradients are taken sample by sample")
        yield


# ---------------- methods that train


def plain_run(network, name, weights=None):
    """Train as one would without this package, each sample alone; return model and optimiser."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build(network, name)
        loader = torch.utils.data.DataLoader(
            range(N_TRAIN), RECIPE.batch_size, shuffle=True, collate_fn=torch.tensor
        )
        order = [batch for _ in range(RECIPE.epochs) for batch in loader]
    model = with_seeded_dropout(model, derived_seed(SEED, NOISE_STREAM))
    model.train()
    adam = torch.optim.Adam(
        model.parameters(), lr=RECIPE.lr, weight_decay=RECIPE.weight_decay, foreach=False
    )
    for batch in order:
        plain_step(model, adam, network, name, batch, weights)
    return model, adam


def plain_step(model, adam, network, name, batch, weights=None):
    case = CASES[name]
    adam.zero_grad()
    each = torch.stack(values_of(model, network, batch.tolist(), targets_of(case), case.loss))
    (each if weights is None else each * weights[batch]).mean().backward()
    adam.step()


def measured(model, network, name):
    model.eval()
    case = CASES[name]
    function = case.measure or case.loss
    with torch.no_grad():
        return torch.stack(values_of(model, network, range(N_TRAIN, 9), targets_of(case), function))


@pytest.mark.parametrize(("network", "name"), BOTH)
def test_a_method_that_trains_gives_what_each_sample_alone_gives(network, name):
    task = task_of(network, name).attribute_only([0, 4])
    model, adam = plain_run(network, name)
    posterior = sample_posterior(
        lambda: build(network, name), task, RECIPE, seeds=[SEED], workers=1
    )
    near = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8)
    own = measured(model, network, name)
    near(posterior.losses(task)[0, 0], own)
    left_out = []
    for row in (0, 4):
        weights = torch.ones(N_TRAIN)
        weights[row] = 0
        left_out.append(measured(plain_run(network, name, weights)[0], network, name) - own)
    near(tda.loo(posterior, task, workers=1)[0, 0], torch.stack(left_out))
    every = torch.ones(2, N_TRAIN)
    every[1, 0] = 0
    both = tda.retrain(posterior, task, every.numpy(), workers=1)[0, 0]
    near(both[1] - both[0], left_out[0])
    stepped = []
    for row in (0, 4):
        again = copy.deepcopy(model)
        other = torch.optim.Adam(again.parameters(), lr=RECIPE.lr, foreach=False)
        other.load_state_dict(copy.deepcopy(adam.state_dict()))
        plain_step(again, other, network, name, torch.tensor([row]))
        stepped.append(own - measured(again, network, name))
    near(tda.ats(posterior, task, workers=1)[0, 0], torch.stack(stepped))

    # Without the optimiser's state: one plain gradient step, in evaluation mode.
    case, stepped = CASES[name], []
    for row in (0, 4):
        again = copy.deepcopy(model).eval()
        (loss,) = values_of(again, network, [row], targets_of(case), case.loss)
        for parameter, gradient in zip(
            again.parameters(), torch.autograd.grad(loss, list(again.parameters())), strict=True
        ):
            parameter.data -= 0.1 * gradient
        stepped.append(own - measured(again, network, name))
    slopes = []
    for row in (0, 4):
        ends = []
        for weight in (1 + SMALL, 1 - SMALL):
            weights = torch.ones(N_TRAIN, dtype=torch.float64)
            weights[row] = weight
            ends.append(measured(plain_run(network, name, weights)[0], network, name))
        slopes.append((ends[1] - ends[0]) / (2 * SMALL))
    found = tda.unrolled(posterior, task, workers=1)[0, 0]
    np.testing.assert_allclose(found, torch.stack(slopes), rtol=1e-4, atol=1e-7)
    bare = Posterior.from_state_dicts(build(network, name), posterior.states)
    near(tda.ats(bare, task, lr=0.1, workers=1)[0, 0], torch.stack(stepped))


def test_a_bert_with_dropout_trains_and_lacks_a_sample_that_is_left_out():
    """Masks are drawn for whole batches, so no loop over samples draws the same."""
    network, name = "BERT (Transformers)", "cross-entropy"
    task = task_of(network, name).attribute_only([0])
    options = {"seeds": [SEED], "workers": 1}
    pytest.importorskip("transformers", reason="needs the extra 'vit'")
    make = lambda: bert(3, dropout=0.1).double()  # noqa: E731
    posterior = sample_posterior(make, task, RECIPE, **options)
    weights = torch.ones(1, N_TRAIN)
    weights[0, 0] = 0
    without = sample_posterior(make, task, RECIPE, weights=weights, **options)
    found = tda.loo(posterior, task, workers=1)[0, 0, 0]
    wanted = without.losses(task)[0, 0] - posterior.losses(task)[0, 0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    assert float(abs(found).max()) > 1e-6


# ---------------- a network as large as people have


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(3, 16, 16, generator=generator), i % 3) for i in range(n)]


def test_a_resnet_18_with_all_parameters_and_with_the_last_layer():
    resnet = pytest.importorskip("torchvision").models.resnet18
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet(num_classes=3).eval()
    train, test = images(3, 0), images(2, 1)
    task = Task.from_datasets(Items(train), Items(test))
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])

    def gradients(items, parameters):
        rows = []
        for x, y in items:
            loss = nn.functional.cross_entropy(model(x[None]), torch.tensor([y]))
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
        return torch.stack(rows).double()

    own = [gradients(items, list(model.parameters())) for items in (train, test)]
    found = tda.grad_dot(posterior, task, workers=1)[0, 0]
    wanted = own[0] @ own[1].T
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(abs(wanted).max()))
    last = [gradients(items, list(model.fc.parameters())) for items in (train, test)]
    for chosen in (["fc"], lambda name, parameter: name.startswith("fc.")):
        found = tda.grad_dot(posterior, task, parameters=chosen, workers=1)[0, 0]
        np.testing.assert_allclose(found, last[0] @ last[1].T, rtol=1e-4, atol=1e-5)
