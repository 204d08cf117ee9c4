"""Every gradient method and solver on every network of the zoo, against plain loops in float64."""

import dataclasses
import functools
import warnings

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils import Posterior
from tda_utils.attribution import lissa
from tda_utils.attribution.gradients import LayerGradients
from tda_utils.attribution.samples import over_samples
from tests.refusals import refused
from tests.zoo import plain
from tests.zoo.networks import NETWORKS, built, zoo_task
from tests.zoo.outcomes import (
    BY_LAYER,
    GRADIENT_METHODS,
    ONCE_DIFFERENTIABLE,
    REFUSED,
    SLOW,
    outcome,
)

DAMPING = 5e-3
# Of the recursion: batches of two, and a scale at which they matter.
BATCH, SCALE = 2, 10.0
TASK = zoo_task()
DOUBLE = dataclasses.replace(TASK, train_x=TASK.train_x.double(), test_x=TASK.test_x.double())
TAKEN = [name for name in NETWORKS if name not in REFUSED]
# PyTorch says so of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:influence. the largest curvature"),
]


class Oracle:
    """What a plain loop gives for one network; matrices are made once for all methods."""

    def __init__(self, name):
        self._name, self._model = name, built(name).double().eval()

    @functools.cached_property
    def train(self):
        return plain.loss_gradients(self._model, DOUBLE.train_x, DOUBLE.train_y)

    @functools.cached_property
    def test(self):
        return plain.loss_gradients(self._model, DOUBLE.test_x, DOUBLE.test_y)

    @functools.cached_property
    def mixed(self):
        return plain.mixed_gradients(self._model, DOUBLE.train_x)

    @functools.cached_property
    def hessians(self):
        """Of the mean loss of each batch."""
        splits = zip(DOUBLE.train_x.split(BATCH), DOUBLE.train_y.split(BATCH), strict=True)
        return [plain.hessian(self._model, *split) for split in splits]

    @functools.cached_property
    def hessian(self):
        return torch.stack(self.hessians).mean(0)

    def damping(self, method):
        """Return one with which the Hessian is positive definite."""
        if method != "hessian":
            return DAMPING
        return 0.1 + 2 * max(-float(torch.linalg.eigvalsh(self.hessian)[0]), 0.0)

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
            matrix = self.hessian
        else:
            matrix = plain.ekfac(self.mixed, plain.blocks(self._model, self._name in BY_LAYER))
        return plain.solved(self.train, self.test, matrix, damping)


oracle = functools.lru_cache(maxsize=2)(Oracle)


def posterior_of(name, dtype=torch.float64):
    model = built(name).to(dtype).eval()
    return Posterior.from_state_dicts(model, [[model.state_dict()]])


def scores_of(name, method, damping=DAMPING, dtype=torch.float64):
    """Return scores, and warnings of a slower way."""
    function, options = GRADIENT_METHODS[method]
    if function == "influence":
        options = {**options, "damping": damping}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        posterior = posterior_of(name, dtype)
        # Threads that wait for each other would take most of the time.
        found = tda.attribute(posterior, TASK, function, workers=1, **options)
    return found[0, 0], [str(one.message) for one in said if "slower" in str(one.message)]


@pytest.fixture(autouse=True)
def short_recursion(monkeypatch):
    monkeypatch.setattr(lissa, "LISSA_BATCH", BATCH)
    monkeypatch.setattr(lissa, "LISSA_SCALE", SCALE)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gets_what_the_table_says(name, method):
    expected = outcome(name, method)
    if expected == "refused":
        facts = REFUSED.get(name) or ONCE_DIFFERENTIABLE[name]
        refused(ValueError, lambda: scores_of(name, method), facts)
        return
    wanted = oracle(name).scores(method).numpy()
    found, said = scores_of(name, method, oracle(name).damping(method))
    largest = abs(wanted).max()
    assert largest > 1e-3 and found.dtype == np.float64
    # The Hessian is solved by iteration.
    tolerance = 1e-9 if method == "hessian" else 1e-11
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * largest)
    assert len(said) == (expected == "slow")
    assert all(SLOW[name] in sentence for sentence in said)
    if method in ("grad_cos", "lissa"):
        # Kernels of their own, some of them without a second derivative.
        found, _ = scores_of(name, method, dtype=torch.float32)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("name", TAKEN)
def test_a_network_is_taken_apart_where_the_table_says(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ways = over_samples(
            lambda sample: type(sample.gradients),
            posterior_of(name),
            TASK,
            workers=1,
            device="cpu",
            describe="",
        )
    assert (ways == [LayerGradients]) == (name in BY_LAYER)


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_a_batch_has_no_losses_either(name):
    if "batch" in name or "remember" in name or "dropout" in name or "logit" in name:
        posterior = posterior_of(name)
        refused(ValueError, lambda: posterior.losses(TASK), REFUSED[name])


def test_branches_go_every_way():
    """Else the zoo would show nothing of them."""
    flat = torch.cat([TASK.train_x, TASK.test_x]).flatten(1)
    assert {bool(x.mean() > 0.45) for x in flat} == {True, False}
    assert {int(x.sum()) % 3 for x in flat} == {0, 1, 2}
    for name in ("experts by argmax", "experts gathered"):
        assert set(built(name).gate(flat).argmax(1).tolist()) == {0, 1}
