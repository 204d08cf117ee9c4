"""Agreement with leave-one-out by members averaged, against plain correlations and a formula."""

import numpy as np
import pytest
from scipy import stats

from tda_utils.reliability import agreement_by_members
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

EFFECTS = noise(0, (1, 1, 30, 40))
TRUTH = labelled(EFFECTS + noise(1, (40, 1, 30, 40)))
SCORES = labelled(EFFECTS + noise(2, (40, 1, 30, 40)))


def test_each_draw_correlates_two_sets_of_members() -> None:
    found = agreement_by_members(SCORES, TRUTH, [3], draws=2)
    generator = np.random.default_rng(0)
    for draw in range(2):
        order = generator.permutation(40)
        first, second = order[:3], order[3:6]
        mean = {
            (name, at): tau.isel(member=one).mean(("member", "checkpoint")).values.ravel()
            for name, tau in {"scores": SCORES, "truth": TRUTH}.items()
            for at, one in enumerate((first, second))
        }
        pairs = {
            "same": (("scores", 0), ("truth", 0)),
            "other": (("scores", 0), ("truth", 1)),
            "truth": (("truth", 0), ("truth", 1)),
            "own": (("scores", 0), ("scores", 1)),
        }
        for name, (a, b) in pairs.items():
            one = found[name].isel(members=0, draw=draw)
            wanted = stats.pearsonr(mean[a], mean[b]).statistic
            assert float(one.sel(kind="pearson")) == pytest.approx(wanted)
            wanted = stats.spearmanr(mean[a], mean[b]).statistic
            assert float(one.sel(kind="spearman")) == pytest.approx(wanted)


def test_noise_is_averaged_away() -> None:
    """Effects and noise have variance 1: means of n members correlate n / (n + 1)."""
    found = agreement_by_members(SCORES, TRUTH, [1, 4, 20], draws=20).mean("draw")
    wanted = np.array([1 / 2, 4 / 5, 20 / 21])
    for name in ("same", "other", "truth", "own"):
        np.testing.assert_allclose(found[name].sel(kind="pearson"), wanted, atol=0.03)


def test_another_question_stays_below() -> None:
    other = labelled(noise(3, (1, 1, 30, 40)) + EFFECTS + noise(2, (40, 1, 30, 40)))
    found = agreement_by_members(other, TRUTH, [20], draws=20).mean("draw").isel(members=0)
    found = found.sel(kind="pearson")
    assert float(found["own"]) > 0.95
    assert float(found["same"]) == pytest.approx(2**-0.5, abs=0.05)


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: agreement_by_members(SCORES, TRUTH, [21]), ["members", "21", "20"]),
        (lambda: agreement_by_members(SCORES, TRUTH, [0]), ["members", "0"]),
        (lambda: agreement_by_members(SCORES, TRUTH, [2], draws=0), ["draws", "0"]),
        (
            lambda: agreement_by_members(SCORES, TRUTH.isel(member=slice(9)), [2]),
            ["40", "9", "member"],
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(call, facts) -> None:
    refused(ValueError, call, *facts)
