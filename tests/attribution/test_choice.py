"""The way that is chosen agrees with autograd, and what is slower is said."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior
from tda_utils.attribution.blocks import gram
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import LayerGradients, VmapGradients
from tda_utils.attribution.loop import LoopGradients
from tests.plain import autograd_gradients
from tests.refusals import refused
from tests.tiny import table_task


class Late(nn.Module):
    """Uses a layer's weight behind its back, but not for the first samples."""

    def __init__(self, limit: float):
        super().__init__()
        self.first, self.head, self.limit = nn.Linear(4, 4), nn.Linear(4, 3), limit

    def forward(self, rows):
        hidden = self.first(rows).tanh()
        behind = nn.functional.linear(hidden, self.first.weight)
        return self.head(hidden + behind * (rows.sum(1, keepdim=True) > self.limit))


class Early(nn.Module):
    """Some samples leave early, none of the first."""

    def __init__(self, limit: float):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.limit = limit

    def forward(self, rows):
        hidden = self.first(rows).tanh()
        if bool((rows.sum(1) <= self.limit).all()):
            hidden = self.second(hidden).tanh()
        else:
            hidden = torch.where(
                rows.sum(1, keepdim=True) <= self.limit, self.second(hidden).tanh(), hidden
            )
        return self.head(hidden)


@pytest.fixture
def task():
    return table_task()


def in_order(task):
    return task.train_x[task.train_x.sum(1).argsort()]


def found_and_wanted(model, task):
    rows, labels = in_order(task).double(), task.train_y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        method = gradient_method(model, rows, labels)
    blocks = method.loss_gradients(model, rows, labels)
    wanted = autograd_gradients(model, rows, labels)
    return method, gram(blocks, blocks), wanted @ wanted.T


@pytest.mark.parametrize(("kind", "way"), [(Late, VmapGradients), (Early, LoopGradients)])
def test_two_samples_that_show_nothing_do_not_mislead(kind, way, task):
    torch.manual_seed(0)
    # The first two samples lie below the limit, some of the others above.
    limit = float(in_order(task).sum(1)[4])
    method, found, wanted = found_and_wanted(kind(limit).double().eval(), task)
    assert type(method) is way
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_samples_that_change_places_within_are_not_taken_apart(task):
    """The sum over samples would be right, and each sample's gradient another's."""

    class Flipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, rows):
            return self.head(self.first(rows.flip(0)).tanh()).flip(0)

    torch.manual_seed(0)
    method, found, wanted = found_and_wanted(Flipped().double().eval(), task)
    assert not isinstance(method, LayerGradients)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_batch_that_is_sorted_and_put_back_is_not_taken_apart(task):
    """As for sequences of different lengths; the first two samples show nothing of it."""

    class Sorting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, rows):
            order = rows.sum(1).argsort(stable=True)
            return self.head(self.first(rows[order]).tanh())[order.argsort()]

    torch.manual_seed(0)
    turned = torch.tensor([0, 1, 5, 4, 3, 2])
    rows, labels = in_order(task)[turned].double(), task.train_y[turned]
    model = Sorting().double().eval()
    method = gradient_method(model, rows, labels)
    assert type(method) is VmapGradients
    blocks = method.loss_gradients(model, rows, labels)
    wanted = autograd_gradients(model, rows, labels)
    np.testing.assert_allclose(gram(blocks, blocks), wanted @ wanted.T, rtol=1e-9, atol=1e-12)


def test_the_slower_way_is_said_once_with_the_layer(task):
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, rows):
            return self.head(self.cell(rows.view(-1, 2, 2))[0][:, -1])

    model = Net()
    states = [[model.state_dict()] * 2] * 2
    posterior = Posterior.from_state_dicts(model, states)
    with pytest.warns(RuntimeWarning, match=r"slower.*layer 'cell' \(GRU\)") as said:
        tda.grad_dot(posterior, task)
    assert len([one for one in said if "slower" in str(one.message)]) == 1


def test_models_that_have_no_gradient_are_refused(task):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, rows):
            return self.head(rows).detach()

    class Overwritten(Detached):
        def forward(self, rows):
            return self.head(rows).tanh().mul_(2)

    data = (task.train_x, task.train_y)
    refused(ValueError, lambda: gradient_method(Detached(), *data), "model", "depend on none")
    refused(ValueError, lambda: gradient_method(Overwritten(), *data), "model", "inplace")


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
METHODS = {
    "grad_cos": ("grad_cos", {}),
    **{f"influence {s}": ("influence", {"solver": s}) for s in ("ggn", "ekfac")},
    "influence hessian": ("influence", {"solver": "hessian", "damping": 20.0}),
    "influence lissa": ("influence", {"protocol": "released"}),
}


@pytest.mark.parametrize("made", ["outside", "within"])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("method", METHODS)
def test_a_callers_modes_change_nothing(method, mode, made):
    """Models, states and tasks that were made in inference mode are taken as well."""

    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
        model[0].requires_grad_(False)
        task = table_task()
        return Posterior.from_state_dicts(model, [[model.state_dict()]]), task

    name, options = METHODS[method]
    wanted = tda.attribute(*make(), name, workers=1, **options)
    arguments = make()
    with mode():
        found = tda.attribute(
            *(make() if made == "within" else arguments), name, workers=1, **options
        )
    np.testing.assert_array_equal(found, wanted)
