"""Which models compiled passes take, whoever wrote them; what a trace does not show is left."""

import random
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils.engine.structure import KERNELS, structure_of
from tda_utils.models.convolutional import CNN2L, CNN3L
from tests.engine.cnns import FLAT, LEFT, SIDE, TAKEN, Layers, with_forward


@pytest.mark.parametrize("name", TAKEN)
def test_a_structure_is_found_whoever_wrote_it(name):
    build, activations = TAKEN[name]
    model = build()
    found = structure_of(model)
    layers = [*found.convolutions, *found.linear[:-1]]
    assert [layer.activation for layer in layers] == activations
    assert found.linear[-1].activation is None
    assert found.takes(1, SIDE)
    assert not found.takes(3, SIDE) and not found.takes(1, 2 * SIDE) and not found.takes(1, 3)
    for layer in found.convolutions:
        weight = model.get_submodule(layer.layer).weight
        assert weight.shape == (layer.filters, layer.channels, layer.kernel, layer.kernel)
    for layer in found.linear:
        assert model.get_submodule(layer.layer).weight.shape[1] == layer.inputs
    assert model.training


@pytest.mark.parametrize("name", LEFT)
def test_anything_else_is_left_to_the_general_path(name):
    assert structure_of(LEFT[name]()) is None


@pytest.mark.parametrize(("build", "channels", "side"), [(CNN2L, 1, 28), (CNN3L, 3, 32)])
def test_the_papers_networks_are_recognised(build, channels, side):
    model = build(channels)
    found = structure_of(model)
    assert [layer.layer for layer in found.convolutions] == [
        f"conv{n}" for n in range(1, len(model.convolutions()) + 1)
    ]
    assert {layer.activation for layer in found.convolutions} == {"gelu"}
    assert [layer.layer for layer in found.linear] == ["fc1", "fc2"]
    assert found.takes(channels, side)


def test_a_view_of_another_length_is_left():
    def viewed(*lengths):
        def forward(self, images):
            values = torch.max_pool2d(self.first(images).relu(), 2)
            values = torch.max_pool2d(self.second(values).relu(), 2)
            for length in lengths:
                values = values.view(-1, length)
            return self.head(self.hidden(values).relu())

        return structure_of(with_forward(forward)())

    assert viewed(FLAT) == viewed(FLAT, FLAT) == structure_of(Layers())
    assert viewed(2 * FLAT) is viewed(2 * FLAT, FLAT) is viewed(FLAT // 3, FLAT) is None


def test_kernels_after_the_first_are_those_that_the_passes_have():
    def second(kernel):
        layers = [nn.Conv2d(1, 2, 9), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(2, 2, kernel), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2, 2))

    taken = [kernel for kernel in range(1, 8) if structure_of(second(kernel)) is not None]
    assert tuple(taken) == KERNELS


@pytest.mark.parametrize("kind", ["Python", "NumPy", "PyTorch"])
def test_random_numbers_that_a_forward_draws_are_set_back(kind):
    def states():
        legacy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()

    model = LEFT[f"random numbers of {kind}"]()
    before = states()
    assert structure_of(model) is None
    assert states() == before


def test_other_threads_go_on_while_a_model_is_traced():
    """Tracing exchanges methods of PyTorch's classes, which other threads call as well."""
    other, found = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), []
    inputs = torch.ones(1, 2)
    wanted = other(inputs)

    def forward(self, images):
        thread = Thread(target=lambda: found.append((other(inputs), other[0].weight)))
        thread.start()
        thread.join()
        return Layers.forward(self, images)

    assert structure_of(with_forward(forward)()) is not None
    assert len(found) == 2
    for outputs, weight in found:
        assert torch.equal(outputs, wanted) and weight is other[0].weight


def test_a_trace_asks_for_no_mode_of_the_callers():
    with torch.no_grad():
        assert structure_of(Layers()) is not None
    with torch.inference_mode():
        assert structure_of(Layers()) is not None
