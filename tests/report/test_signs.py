"""Signs: the orientation is found where the answer is known, and nothing is sure that is not."""

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils import Recipe, Task
from tda_utils.report.signs import judge_sign, self_scores
from tests.refusals import refused
from tests.reliability.scores import labelled, noise
from tests.tiny import build_mlp, table_task

BOTH = [(100 + 3 * at, 2000 + 7 * at) for at in range(5)]


def task_on_itself() -> Task:
    """A table whose test samples are its first training samples, the last of them first."""
    task = table_task(12, 3)
    own = slice(None, 7)
    return Task.from_arrays(
        task.train_x, task.train_y, task.train_x[own].flip(0), task.train_y[own].flip(0)
    )


def test_leave_one_out_has_removal_sign_and_its_negative_the_other():
    task = task_on_itself()
    posterior = tda.sample_posterior(
        build_mlp, task, Recipe(epochs=30, keep_last=1, lr=0.02), [1, 2, 3, 4]
    )
    for method in ("influence", "grad_dot", "loo"):
        scores = tda.attribution.attribute(posterior, task, method)
        for turned, sign in ((scores, "removal"), (-scores, "upweighting")):
            found = judge_sign(turned.drop_attrs(), task)
            assert (found.sign, found.pairs) == (sign, 7), method
    own = self_scores(scores, task)
    for at in range(7):
        np.testing.assert_array_equal(own[:, at], scores[:, 0, at, 6 - at])


@pytest.mark.parametrize("side", [1, -1])
def test_a_clear_answer_is_sure(side):
    scores = labelled(noise(2, (4, 2, 20, 20)))
    scores.values[:, :, np.arange(20), np.arange(20)] += 5
    pairs = dict(zip(scores["train"].values, scores["test"].values, strict=True))
    found = judge_sign(side * scores, same=pairs)
    assert found.sure and found.sign == ("removal" if side > 0 else "upweighting")
    assert found.sign in str(found)
    one = judge_sign(side * scores[0, 0], same=pairs)
    assert one.sure and one.sign == found.sign


def test_noise_is_hardly_ever_sure():
    sure = 0
    for seed in range(300):
        scores = xr.DataArray(noise(seed, (4, 1, 15, 15))[:, 0], dims=("member", "train", "test"))
        sure += judge_sign(scores, same=[(at, at) for at in range(15)]).sure
    assert sure <= 3


def test_it_says_that_it_cannot_tell():
    zero = judge_sign(labelled(0 * noise()), same=BOTH)
    assert (zero.sign, zero.p, zero.sure) == (None, 1.0, False) and "cannot" in str(zero)
    few = judge_sign(labelled(noise() + 9), same=BOTH[:2])
    assert few.sign == "removal" and not few.sure


def test_bad_input_gets_one_clear_sentence():
    scores = labelled(noise())
    refused(ValueError, lambda: judge_sign(scores), "same is None", "task is None")
    refused(ValueError, lambda: judge_sign(scores, same=[(1, 2000)]), "train sample 1")
    refused(ValueError, lambda: judge_sign(scores, same={100: 2}), "test sample 2")
    refused(ValueError, lambda: judge_sign(scores, same=[]), "no training sample")
    task = table_task()
    refused(ValueError, lambda: judge_sign(scores, task), "no training sample")
    refused(TypeError, lambda: judge_sign(scores.values, same=BOTH), "DataArray")
