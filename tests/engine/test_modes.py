"""Switches that a caller may have set: gradients are taken all the same, and the switches stay."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda_utils.engine.modes import recording, recurrent_on, twice_differentiable

MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_callers_mode_is_left_and_taken_up_again(mode):
    layer, inputs = nn.Linear(3, 2), torch.rand(4, 3)

    def state():
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )

    with mode():
        before = state()
        assert before != (True, False, False)
        with recording():
            assert state() == (True, False, False)
            found = layer(inputs)
            found.sum().backward()
        assert state() == before
    assert found.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(2, 3))


def test_attention_and_recurrent_layers_are_differentiated_twice():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(2, 2, batch_first=True)

        def forward(self, rows):
            rows = self.cell(rows)[0]
            return nn.functional.scaled_dot_product_attention(rows, rows, rows)

    def second(model):
        parameters = list(model.parameters())
        first = torch.autograd.grad(model(rows).square().sum(), parameters, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), parameters)

    torch.manual_seed(0)
    model, rows = Both().eval(), torch.rand(3, 4, 2)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        with pytest.raises(RuntimeError, match="derivative"):
            second(model)
        with twice_differentiable(model):
            found = second(model)
        enabled = torch.backends.mkldnn.enabled
    with sdpa_kernel(SDPBackend.MATH):
        wanted = second(model.double()) if (rows := rows.double()) is not None else None
    assert enabled
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-5)


def test_nothing_is_switched_for_a_model_without_recurrent_layers():
    with recurrent_on(nn.Linear(2, 2), torch.device("cuda")):
        assert torch.backends.cudnn.enabled
    with recurrent_on(nn.Sequential(nn.GRU(2, 2)), torch.device("cuda")):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled
