"""Names of parameters as wrappers leave them, models out of their wrappers, and calls fitted."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tda_utils.inputs import Inputs
from tda_utils.models.states import copied_model, load_state
from tda_utils.models.wrappers import fitted, renamed, unwrapped
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


# ---------------- inputs by name, and outputs in an object


class Said(nn.Module):
    """Gives its logits in an object or a dict."""

    def __init__(self, give):
        super().__init__()
        self.head, self.give = nn.Linear(2, 3), give

    def forward(self, rows):
        return self.give(self.head(rows))


@pytest.mark.parametrize(
    "give",
    [lambda f: SimpleNamespace(logits=f, loss=None), lambda f: {"logits": f, "hidden": f[:, :1]}],
)
def test_logits_are_taken_out_of_what_a_model_gives(give):
    model, rows = Said(give), torch.rand(4, 2)
    own = fitted(model, rows)
    assert torch.equal(own(rows), model.head(rows)) and not isinstance(model(rows), torch.Tensor)
    assert own.state_dict().keys() == model.state_dict().keys()


def test_a_model_that_needs_nothing_is_left_as_it_is():
    layer = nn.Linear(2, 3)
    assert fitted(layer, torch.rand(4, 2)) is layer
    assert fitted(layer, torch.rand(4, 9)) is layer  # What is wrong is said elsewhere.


def test_what_has_no_logits_stays_what_it_is():
    model, rows = Said(lambda f: (f, f)), torch.rand(4, 2)
    assert isinstance(fitted(model, rows)(rows), tuple)


def test_a_copy_of_a_fitted_model_is_fitted():
    both = Inputs((torch.ones(4, 2), torch.ones(4, 3)))
    model = fitted(nn.Bilinear(2, 3, 1), both)
    assert torch.equal(copied_model(model)(both), model(both))
