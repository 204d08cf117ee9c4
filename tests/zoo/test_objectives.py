"""Every objective under every method, against plain loops in float64."""

import copy
import functools

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tda_utils.attribution import lissa
from tests.zoo import plain
from tests.zoo.objectives import CASES, WAYS, losses_of, network_of, task_of
from tests.zoo.outcomes import GRADIENT_METHODS

DAMPING = 5e-2
BATCH, SCALE = 2, 10.0
RECIPE = Recipe(epochs=2, batch_size=4, lr=1e-2, weight_decay=5e-3, keep_last=1)
SEED = 446
pytestmark = [
    pytest.mark.filterwarnings("ignore:influence. the largest curvature"),
    pytest.mark.filterwarnings("ignore:gradients are taken sample by sample"),
]


class Oracle:
    """What a plain loop gives for one network and objective."""

    def __init__(self, way, name):
        self._way, self._case, self._task = way, CASES[name], task_of(CASES[name])
        self._model = network_of(way, self._case).eval()

    def _values(self, split, function):
        return losses_of(self._model, *self._task.split(split)[:2], function)

    @functools.cached_property
    def train(self):
        values = self._values("train", self._case.loss)
        return torch.stack([plain.gradient(value, self._model) for value in values])

    @functools.cached_property
    def test(self):
        values = self._values("test", self._case.measure or self._case.loss)
        return torch.stack([plain.gradient(value, self._model) for value in values])

    @functools.cached_property
    def mixed(self):
        """R^T J of each sample, R the symmetric root of the loss's own second derivative."""
        rows = []
        for x, y in zip(self._task.train_x.double(), self._task.train_y, strict=True):
            y = y[None].double() if y.is_floating_point() else y[None]
            outputs = self._model(x[None])
            jacobian = [plain.gradient(f, self._model, retain_graph=True) for f in outputs[0]]
            curvature = torch.autograd.functional.hessian(
                lambda f, y=y: self._case.loss(f[None], y).sum(), outputs[0].detach()
            )
            values, vectors = torch.linalg.eigh(curvature)
            root = vectors * values.clamp_min(0).sqrt()
            rows.append(root.T @ torch.stack(jacobian))
        return torch.stack(rows)

    @functools.cached_property
    def hessians(self):
        """Of the mean loss of each batch."""
        found = []
        losses = self._values("train", self._case.loss)
        for start in range(0, len(losses), BATCH):
            total = torch.stack(losses[start : start + BATCH]).mean()
            first = plain.gradient(total, self._model, create_graph=True)
            found.append(
                torch.stack([plain.gradient(g, self._model, retain_graph=True) for g in first])
            )
        return found

    def damping(self, method):
        """Return one with which the Hessian is positive definite."""
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
            matrix = plain.ekfac(self.mixed, plain.blocks(self._model, self._way == "layers"))
        return plain.solved(self.train, self.test, matrix, damping)


oracle = functools.lru_cache(maxsize=1)(Oracle)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_a_gradient_method_gives_what_a_plain_loop_gives(name, way, method, monkeypatch):
    monkeypatch.setattr(lissa, "LISSA_BATCH", BATCH)
    monkeypatch.setattr(lissa, "LISSA_SCALE", SCALE)
    wanted = oracle(way, name).scores(method).numpy()
    function, options = GRADIENT_METHODS[method]
    if function == "influence":
        options = {**options, "damping": oracle(way, name).damping(method)}
    model = network_of(way, CASES[name])
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    found = tda.attribute(posterior, task_of(CASES[name]), function, workers=1, **options)
    tolerance = 1e-9 if method == "hessian" else 1e-11
    np.testing.assert_allclose(found[0, 0], wanted, rtol=0, atol=tolerance * abs(wanted).max())
    if "residual" in found.coords:
        assert float(found.residual.max()) < 1e-9
    assert found.attrs.get("objective") == (
        None if name == "cross-entropy" else CASES[name].objective.key
    )


# ---------------- methods that train


def plain_run(case, task, seed, weights=None, start=None, steps=None):
    """Train as one would without this package; return the model and its optimiser."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(case)
        loader = torch.utils.data.DataLoader(
            range(task.n_train), RECIPE.batch_size, shuffle=True, collate_fn=torch.tensor
        )
        order = [batch for _ in range(RECIPE.epochs) for batch in loader]
    adam = torch.optim.Adam(
        model.parameters(), lr=RECIPE.lr, weight_decay=RECIPE.weight_decay, foreach=False
    )
    for batch in order:
        plain_step(model, adam, case, task, batch, weights)
    return model, adam


def plain_step(model, adam, case, task, batch, weights=None):
    adam.zero_grad()
    each = torch.stack(losses_of(model, task.train_x[batch], task.train_y[batch], case.loss))
    (each if weights is None else each * weights[batch]).mean().backward()
    adam.step()


def measured(model, case, task):
    with torch.no_grad():
        values = losses_of(model, task.test_x, task.test_y, case.measure or case.loss)
    return torch.stack(values)


def build(case):
    return WAYS["parameters"](case.outputs).double()


@pytest.mark.parametrize("name", CASES)
def test_a_method_that_trains_gives_what_a_plain_loop_gives(name):
    case = CASES[name]
    task = task_of(case).attribute_only([0, 4])
    model, adam = plain_run(case, task, SEED)
    posterior = sample_posterior(lambda: build(case), task, RECIPE, seeds=[SEED], workers=1)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    for key, value in model.state_dict().items():
        near(posterior.states[0][0][key], value, err_msg=key)
    own = measured(model, case, task)
    near(posterior.losses(task)[0, 0], own)

    left_out = []
    for row in (0, 4):
        weights = torch.ones(task.n_train)
        weights[row] = 0
        left_out.append(measured(plain_run(case, task, SEED, weights)[0], case, task) - own)
    near(tda.loo(posterior, task, workers=1)[0, 0], torch.stack(left_out))

    stepped = []
    for row in (0, 4):
        again, memory = copy.deepcopy(model), adam.state_dict()
        other = torch.optim.Adam(again.parameters(), lr=RECIPE.lr, foreach=False)
        other.load_state_dict(copy.deepcopy(memory))
        plain_step(again, other, case, task, torch.tensor([row]))
        stepped.append(own - measured(again, case, task))
    near(tda.ats(posterior, task, workers=1)[0, 0], torch.stack(stepped))

    slopes, small = [], 1e-5
    for row in (0, 4):
        ends = []
        for weight in (1 + small, 1 - small):
            weights = torch.ones(task.n_train, dtype=torch.float64)
            weights[row] = weight
            ends.append(measured(plain_run(case, task, SEED, weights)[0], case, task))
        slopes.append((ends[1] - ends[0]) / (2 * small))
    found = tda.unrolled(posterior, task, workers=1)[0, 0]
    np.testing.assert_allclose(found, torch.stack(slopes), rtol=1e-4, atol=1e-7)


# ---------------- regression, where leaving out has a closed form


def ridge(rows, numbers, weights, decay):
    """Return the minimum of ``1/n sum w (row . theta - number)^2 + decay / 2 |theta|^2``."""
    n = len(rows)
    matrix = 2 / n * (rows.T * weights) @ rows + decay * np.eye(rows.shape[1])
    return np.linalg.solve(matrix, 2 / n * rows.T @ (weights * numbers))


def ridge_task(measure="loss"):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(11, 3))
    numbers = rows @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=11)
    objective = tda.Objective("mse", measure=measure)
    return tda.Task.from_arrays(rows[:8], numbers[:8], rows[8:], numbers[8:], objective=objective)


def closed_form(task, decay):
    """Return what each row changes of the predictions, and its leverage."""
    rows, numbers = task.train_x.double().numpy(), task.train_y.double().numpy()
    whole = ridge(rows, numbers, np.ones(8), decay)
    each = []
    for row in range(8):
        each.append(ridge(rows, numbers, (np.arange(8) != row).astype(float), decay))
    matrix = 2 / 8 * rows.T @ rows + decay * np.eye(3)
    leverage = 2 / 8 * np.einsum("ni,ij,nj->n", rows, np.linalg.inv(matrix), rows)
    return whole, np.array(each), leverage


@pytest.mark.parametrize("solver", ["ggn", "hessian"])
def test_influence_is_the_closed_form_of_ridge_but_for_the_leverage(solver):
    """Removing a row changes a prediction by the influence over one less the leverage, exactly."""
    decay, task = 0.1, ridge_task(measure=lambda outputs, targets: outputs[:, 0])
    whole, each, leverage = closed_form(task, decay)
    layer = torch.nn.Linear(3, 1, bias=False).double()
    layer.weight.data = torch.from_numpy(whole)[None]
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    found = tda.influence(posterior, task, solver=solver, damping=decay)[0, 0]
    wanted = (each - whole) @ task.test_x.double().numpy().T
    np.testing.assert_allclose(found / (1 - leverage)[:, None], wanted, rtol=1e-8, atol=1e-10)


def test_leave_one_out_by_training_is_the_closed_form_of_ridge():
    decay, task = 0.1, ridge_task().attribute_only([1, 6])
    whole, each, _ = closed_form(task, decay)
    recipe = Recipe(epochs=500, batch_size=8, lr=3e-2, weight_decay=decay, keep_last=1)
    build_layer = lambda: torch.nn.Linear(3, 1, bias=False).double()  # noqa: E731
    posterior = sample_posterior(build_layer, task, recipe, seeds=[1], workers=1)
    found = tda.loo(posterior, task, workers=1)[0, 0]
    rows, numbers = task.test_x.double().numpy(), task.test_y.double().numpy()
    losses = [(rows @ theta - numbers) ** 2 for theta in (whole, *each[[1, 6]])]
    wanted = np.array(losses[1:]) - losses[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * abs(wanted).max())
