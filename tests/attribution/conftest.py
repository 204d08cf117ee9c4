"""A posterior of models with batch normalisation."""

import pytest

from tda_utils import sample_posterior
from tests.tiny import SHORT, build_normalised


@pytest.fixture(scope="session")
def normalised(tiny_task):
    """Return two members with two checkpoints each."""
    return sample_posterior(build_normalised, tiny_task, SHORT, seeds=[1, 2])
