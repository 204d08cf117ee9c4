"""The derivative through training against bergson's MAGIC, on the paper's network."""

import numpy as np
import pytest

import tda_utils as tda
from benchmarks import peers, work
from tda_utils.models.convolutional import CNN2L

pytest.importorskip("bergson")


def test_magic_gives_the_same_derivative():
    """But for the number under its root, which makes up for the rounding of a gradient of zero."""
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    recipe = tda.Recipe(epochs=3, keep_last=1)
    posterior = tda.sample_posterior(CNN2L, task, recipe, (work.SEED,), device="cpu")
    ours, theirs = work.our_unrolled(posterior, task).numpy(), peers.bergson_magic(task, recipe)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-2 * abs(ours).max())
