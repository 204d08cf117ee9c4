"""Names of parameters as wrappers leave them, and models out of their wrappers."""

import pytest
import torch
from torch import nn

from tda_utils.models.states import load_state
from tda_utils.models.wrappers import renamed, unwrapped
from tests.tiny import build_mlp


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.backbone."]
)
def test_what_is_before_all_names_is_taken_off(prefix):
    own = build_mlp().state_dict()
    found = renamed(build_mlp(), prefixed(prefix, own))
    assert list(found) == list(own)
    assert all(torch.equal(found[name], own[name]) for name in own)


def test_names_that_fit_stay_even_where_something_is_before_all_of_them():
    model = nn.ModuleDict({"module": build_mlp()})
    own = model.state_dict()
    assert renamed(model, own).keys() == own.keys()
    assert renamed(model, prefixed("module.", own)).keys() == own.keys()


def test_a_part_of_a_model_may_be_compiled():
    model = nn.Sequential(nn.Flatten(), torch.compile(nn.Linear(4, 2)), nn.Linear(2, 2))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2))
    assert renamed(plain, model.state_dict()).keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weight": torch.ones(1)},
        prefixed("a.", {"0.weight": torch.ones(6, 4)}),
        {**prefixed("a.", build_mlp().state_dict()), "criterion.weight": torch.ones(3)},
        {**build_mlp().state_dict(), **prefixed("module.", build_mlp().state_dict())},
    ],
)
def test_names_that_fit_under_no_prefix_stay_and_are_refused_later(state):
    assert renamed(build_mlp(), state).keys() == state.keys()
    with pytest.raises(ValueError, match=r"state (lacks|has)"):
        load_state(build_mlp(), renamed(build_mlp(), state))


def test_a_name_may_be_missing_where_it_is_frozen_but_not_elsewhere():
    model = build_mlp()
    model[0].requires_grad_(False)
    some = {name: value for name, value in model.state_dict().items() if name.startswith("2.")}
    assert renamed(model, prefixed("module.", some)).keys() == some.keys()
    assert renamed(build_mlp(), prefixed("module.", some)).keys() == {"module." + n for n in some}


def test_models_come_out_of_their_wrappers():
    model = build_mlp()
    assert unwrapped(model) is model
    assert unwrapped(nn.DataParallel(torch.compile(model))) is model
    assert unwrapped(torch.compile(nn.DataParallel(model))) is model
