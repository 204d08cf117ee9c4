"""States of a model: copied, loaded and compared."""

from functools import partial

import pytest
import torch
from torch import nn

from tda_utils.models.states import (
    all_finite,
    check_frozen,
    check_no_batch_norm,
    check_types,
    copied,
    copied_model,
    float_dtype,
    frozen_parameters,
    in_one_type,
    load_state,
    state_of,
    tied_names,
    trainable_parameters,
    widened_model,
)
from tests.refusals import refused
from tests.tiny import build_normalised, build_tiny_cnn


def build_frozen():
    """Return a network whose first layer is frozen, with batch normalisation behind it."""
    model = build_normalised()
    model[0].requires_grad_(False)
    return model


def test_a_state_is_what_training_changes_and_the_rest_is_frozen():
    model = build_frozen()
    buffers = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    trained = {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert trainable_parameters(model).keys() == trained
    assert frozen_parameters(model).keys() == {"0.weight", "0.bias"}
    assert state_of(model).keys() == trained | buffers
    # Not copied: who wants a copy makes one.
    assert state_of(model)["4.bias"].data_ptr() == model[4].bias.data_ptr()
    assert copied(model[4].bias).data_ptr() != model[4].bias.data_ptr()


def test_a_frozen_parameter_that_two_layers_share_is_known_by_both_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    model[1].weight = model[0].weight
    assert {"0.weight", "1.weight"} <= frozen_parameters(model).keys()
    assert state_of(model) == {}


def test_copies_share_what_is_frozen_and_nothing_else():
    model = build_frozen()
    copy = copied_model(model)
    for (name, mine), other in zip(model.named_parameters(), copy.parameters(), strict=True):
        assert (mine.data_ptr() == other.data_ptr()) != mine.requires_grad, name
        assert mine.requires_grad == other.requires_grad
    # Another type of number is the copy's own affair.
    copy.double()
    assert model[0].weight.dtype == torch.float32


def test_loading_takes_values_and_type_of_the_state_and_leaves_what_is_frozen():
    source, model = build_frozen().double(), build_frozen()
    model[0].load_state_dict(source[0].state_dict())
    loaded = load_state(model, state_of(source))
    assert loaded is model and model[4].weight.dtype == torch.float64
    for name, value in state_of(source).items():
        assert torch.equal(state_of(model)[name], value), name
    # Frozen parameters may be there, if they are the model's.
    load_state(model, source.state_dict())


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda s: {**s, "0.weight": s["0.weight"] + 1}, ["'0.weight'", "frozen"]),
        (lambda s: {**s, "4.bias": torch.zeros(7)}, ["'4.bias'", (7,), (3,)]),
        (lambda s: {n: v for n, v in s.items() if n != "4.bias"}, ["lacks", "['4.bias']", "[]"]),
        (lambda s: {**s, "5.bias": torch.zeros(1)}, ["lacks", "[]", "['5.bias']"]),
        (lambda s: {"0.bias": s["0.bias"]}, ["lacks", "'1.weight'", "and 4 more"]),
        (lambda s: {**s, "4.bias": s["4.bias"].double()}, ["torch.float32", "torch.float64"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, facts):
    model = build_frozen()
    state = change(dict(model.state_dict()))
    refused(ValueError, lambda: load_state(model, state), *facts)


def test_a_state_has_one_type_of_number():
    counts = {"steps": torch.tensor(3)}
    assert float_dtype({**counts, "w": torch.ones(2).half()}) == torch.float16
    refused(ValueError, lambda: float_dtype(counts), "state", "[]")


def test_frozen_values_are_compared_not_their_memory():
    frozen = frozen_parameters(build_frozen())
    check_frozen(frozen, {name: value.clone() for name, value in frozen.items()})
    check_frozen(frozen, {})
    other = {"0.bias": frozen["0.bias"] + 1e-3}
    refused(ValueError, lambda: check_frozen(frozen, other), "'0.bias'")


def test_batch_norm_is_no_hindrance_where_it_stays_in_evaluation_mode():
    class Fixed(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    refused(
        ValueError,
        partial(check_no_batch_norm, build_normalised().eval(), "this cannot be"),
        "layer '1'",
        "this cannot be",
    )
    check_no_batch_norm(nn.Sequential(Fixed(3)), "this cannot be")
    check_no_batch_norm(build_tiny_cnn(), "this cannot be")


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (torch.nan, False), (torch.inf, False)])
def test_a_state_is_finite_if_all_its_numbers_are(value, finite):
    state = {"weight": torch.tensor([0.0, value]), "steps": torch.tensor(2**62)}
    assert all_finite(state) is finite


def tied():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("names", [["0.weight"], ["1.weight"], ["0.weight", "1.weight"]])
def test_of_the_names_of_a_tied_parameter_one_is_enough(names):
    assert tied_names(tied()) == dict.fromkeys(["0.weight", "1.weight"], ("0.weight", "1.weight"))
    loaded = load_state(tied(), dict.fromkeys(names, torch.eye(2)))
    assert torch.equal(loaded[0].weight, torch.eye(2)) and loaded[1].weight is loaded[0].weight


def test_a_state_of_a_model_that_ties_nothing_is_refused_by_one_that_does():
    state = {"0.weight": torch.eye(2), "1.weight": torch.ones(2, 2)}
    refused(ValueError, lambda: load_state(tied(), state), "'0.weight'", "'1.weight'", "ties")


HALF = {"w": torch.ones(1).half(), "b": torch.ones(1).half()}


def test_other_values_than_trained_ones_may_have_other_types():
    """Statistics of batch normalisation in float32 beside parameters in float16, and its count."""
    state = {**HALF, "mean": torch.ones(1) / 3, "steps": torch.tensor(3), "on": torch.tensor(True)}
    found = in_one_type(state, ["w", "b"], "state")
    types = [found[name].dtype for name in ("w", "b", "mean", "steps", "on")]
    assert types == [torch.float32] * 3 + [torch.int64, torch.bool]
    assert found["mean"] is state["mean"] and found["w"].item() == 1


@pytest.mark.parametrize(
    ("odd", "error"),
    [
        (torch.ones(1, dtype=torch.int64), TypeError),
        (torch.ones(1, dtype=torch.bool), TypeError),
        (torch.ones(1, dtype=torch.complex64), TypeError),
        (torch.ones(1).to(torch.float8_e4m3fn), TypeError),
        (torch.ones(1), ValueError),
        (torch.ones(1).bfloat16(), ValueError),
    ],
)
def test_a_parameter_of_another_type_is_named(odd, error):
    state = {**HALF, "odd": odd}
    refused(error, lambda: in_one_type(state, state, "the file a.pt"), "a.pt['odd']", odd.dtype)


@pytest.mark.parametrize("odd", [torch.ones(1).double(), torch.ones(1, dtype=torch.complex64)])
def test_a_buffer_that_would_lose_digits_is_named(odd):
    state = {"w": torch.ones(1), "odd": odd}
    refused(
        ValueError if odd.is_floating_point() else TypeError,
        lambda: in_one_type(state, ["w"], "state"),
        "state['odd']",
        odd.dtype,
    )


def test_what_is_no_tensor_in_a_state_is_named():
    """Quantised layers keep a type there, and layers with extra states anything."""
    state = {"w": torch.ones(1), "packed.dtype": torch.qint8}
    refused(TypeError, lambda: in_one_type(state, ["w"], "model"), "model['packed.dtype']", "dtype")


def test_a_model_is_in_float32_at_least():
    for dtype, wanted in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert widened_model(nn.Linear(2, 1).to(dtype)).weight.dtype == wanted


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_model_with_parameters_that_are_no_floats_is_refused(dtype):
    layer = nn.Linear(2, 1)
    layer.odd = nn.Parameter(torch.ones(2, dtype=dtype), requires_grad=False)
    refused(TypeError, lambda: check_types(layer), "'odd'", dtype)
    layer = nn.Linear(2, 1)
    layer.register_buffer("odd", torch.ones(2, dtype=dtype))
    if dtype.is_complex:
        refused(TypeError, lambda: check_types(layer), "'odd'", dtype)
    else:
        check_types(layer)
