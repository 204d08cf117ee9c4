"""Scores in some parameters are those of a model whose other parameters are frozen."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior
from tda_utils.attribution.parameters import chosen_names, freeze_others, said
from tests.plain import autograd_gradients
from tests.refusals import refused
from tests.tiny import build_mlp, table_task

TASK = table_task()
METHODS = {
    "grad_dot": ("grad_dot", {}),
    "grad_cos": ("grad_cos", {}),
    "ggn": ("influence", {"damping": 0.1}),
    "ekfac": ("influence", {"solver": "ekfac", "damping": 0.1}),
    "hessian": ("influence", {"solver": "hessian", "damping": 5.0}),
    "lissa": ("influence", {"solver": "lissa", "protocol": "released"}),
}


def model_of():
    torch.manual_seed(0)
    return build_mlp().double()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "parameters", [["2"], ["2.weight", "0.bias"], lambda name, parameter: parameter.ndim == 1]
)
def test_scores_are_those_of_a_model_whose_other_parameters_are_frozen(method, parameters):
    model = model_of()
    names = chosen_names(model, parameters)
    frozen = freeze_others(copy.deepcopy(model), names)
    function, options = METHODS[method]
    found = tda.attribute(
        Posterior.from_state_dicts(model, [[model.state_dict()]]),
        TASK,
        function,
        parameters=parameters,
        **options,
    )
    wanted = tda.attribute(
        Posterior.from_state_dicts(frozen, [[frozen.state_dict()]]), TASK, function, **options
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert found.attrs["parameters"] == said(parameters) and "parameters" not in wanted.attrs
    assert all(p.requires_grad for p in model.parameters())


def test_the_last_layer_alone_is_a_part_of_each_gradient():
    model = model_of()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    found = tda.grad_dot(posterior, TASK, parameters=["2"])[0, 0]
    train, test = (
        autograd_gradients(model, x.double(), y)[:, -21:]
        for x, y in ((TASK.train_x, TASK.train_y), (TASK.test_x, TASK.test_y))
    )
    np.testing.assert_allclose(found, train @ test.T, rtol=1e-10)


def test_adapters_alone_count_and_what_is_frozen_cannot_be_chosen():
    model = model_of()
    model[0].requires_grad_(False)
    assert chosen_names(model, lambda name, parameter: True) == ["2.weight", "2.bias"]
    refused(ValueError, lambda: chosen_names(model, ["0"]), "parameters", "'0'", "frozen")


def test_any_name_of_a_tied_parameter_will_do():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert chosen_names(model, ["1"]) == chosen_names(model, ["0.weight"]) == ["0.weight"]


@pytest.mark.parametrize(
    ("parameters", "error", "facts"),
    [
        ("head", TypeError, ["parameters is 'head'", "'all'", "callable"]),
        (3, TypeError, ["parameters is 3", "'all'", "callable"]),
        ([0], TypeError, ["parameters is [0]", "names"]),
        ([], ValueError, ["parameters is []", "at least one"]),
        (["head"], ValueError, ["parameters has 'head'", "'0.weight'"]),
        (["0.weigh"], ValueError, ["parameters has '0.weigh'", "'0.weight'"]),
        (lambda name, parameter: False, ValueError, ["parameters", "picks none", "at least one"]),
    ],
)
def test_parameters_that_cannot_be_chosen_are_named(parameters, error, facts):
    model = model_of()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    for method in (tda.grad_dot, tda.grad_cos, tda.influence):
        refused(error, partial(method, posterior, TASK, parameters=parameters), *facts)
