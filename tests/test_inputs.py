"""Inputs of several tensors are sliced, moved and mapped over as one tensor is."""

import pytest
import torch

from tda_utils.inputs import Inputs, as_inputs, kinds, same_inputs, tensors_of
from tests.refusals import refused

IDS, ROWS = torch.arange(8).view(4, 2), torch.arange(12.0).view(4, 3)


@pytest.mark.parametrize("value", [(IDS, ROWS), {"ids": IDS, "rows": ROWS}, IDS])
def test_parts_follow_each_other(value):
    inputs = as_inputs("x", value)
    assert isinstance(inputs, Inputs) and len(inputs) == 4
    for rows in (slice(1, 3), torch.tensor([3, 0]), [2, 2]):
        assert all(
            torch.equal(own, leaf[rows])
            for own, leaf in zip(tensors_of(inputs[rows]), tensors_of(inputs), strict=True)
        )
    one = inputs[2]
    assert same_inputs(one[None], inputs[2:3])
    assert [same_inputs(x[None], inputs[i : i + 1]) for i, x in enumerate(inputs)] == [True] * 4
    assert [len(part) for part in inputs.split(3)] == [3, 1]
    assert same_inputs(inputs.repeat_interleave(2)[::2], inputs)
    assert inputs.numel() == sum(leaf.numel() for leaf in inputs.leaves)


def test_integers_stay_integers_wherever_inputs_go():
    inputs = as_inputs("x", (IDS, ROWS))
    for moved in (inputs.to(torch.float64), inputs.double(), inputs.to("cpu", torch.float64)):
        assert [leaf.dtype for leaf in moved.leaves] == [torch.int64, torch.float64]
        assert moved.dtype == torch.float64 and moved.device.type == "cpu"
    copied = inputs.clone()
    copied.leaves[1].zero_()
    assert inputs.leaves[1].any() and inputs.to(torch.float32).leaves[1] is inputs.leaves[1]
    assert not same_inputs(copied, inputs)


def test_functions_are_mapped_over_samples():
    inputs = as_inputs("x", {"ids": IDS, "rows": ROWS})
    mapped = torch.func.vmap(lambda one: one.arguments()[1]["rows"].sum() + one.value["ids"].sum())
    assert torch.equal(mapped(inputs), ROWS.sum(1) + IDS.sum(1))


def test_what_a_model_is_called_with():
    assert as_inputs("x", (IDS, ROWS)).arguments() == ((IDS, ROWS), {})
    assert as_inputs("x", {"a": IDS}).arguments() == ((), {"a": IDS})
    assert as_inputs("x", IDS).arguments() == ((IDS,), {})
    assert as_inputs("x", ROWS) is ROWS


def test_shapes_are_said_in_words():
    assert kinds(as_inputs("x", {"ids": IDS, "flag": torch.ones(4)})) == ["ids 2", "flag"]
    assert kinds(ROWS) == ["3"]


@pytest.mark.parametrize(
    ("value", "error", "facts"),
    [
        ({}, TypeError, ["x is {}", "tensor"]),
        ("words", TypeError, ["x is 'words'", "tensor"]),
        ((IDS, 3), TypeError, ["x[1] is 3", "tensor"]),
        ({"ids": IDS, "rows": ROWS[:2]}, ValueError, ["x['rows'] has 2", "'ids' has 4"]),
        ({"ids": torch.tensor(3)}, TypeError, ["x['ids']", "first dimension"]),
    ],
)
def test_what_is_no_input_is_named(value, error, facts):
    refused(error, lambda: as_inputs("x", value), *facts)
