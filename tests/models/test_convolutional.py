"""The paper's convolutional networks."""

import pytest
import torch

from tda_utils.models.convolutional import CNN2L, CNN3L
from tests.refusals import refused


@pytest.mark.parametrize(
    ("network", "channels", "parameters"),
    [(CNN2L, 1, 225034), (CNN2L, 3, 259914), (CNN3L, 1, 619786), (CNN3L, 3, 620362)],
)
def test_networks_have_the_papers_numbers_of_parameters(network, channels, parameters):
    model = network(channels)
    assert sum(p.numel() for p in model.parameters()) == parameters
    size = 28 if channels == 1 else 32
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("network", "layers"), [(CNN2L, 2), (CNN3L, 3)])
def test_convolutions_are_found_by_name_from_first_to_last(network, layers):
    model = network()
    assert model.convolutions() == [getattr(model, f"conv{n}") for n in range(1, layers + 1)]


@pytest.mark.parametrize("network", [CNN2L, CNN3L])
def test_other_channels_are_refused(network):
    refused(ValueError, lambda: network(2), "channels is 2", 1, 3)
