"""Sources of noise against plain analyses of variance, and known variances found again."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tda_utils.reliability.variance import (
    SOURCES,
    crossed_components,
    variance_components,
    variance_shares,
)
from tests.refusals import refused
from tests.reliability.scores import half_steps, labelled, noise, score_arrays


def nested(member_std: float, checkpoint_std: float, shape=(8, 5, 40, 50)) -> xr.DataArray:
    rng = np.random.default_rng(15)
    of_member = rng.normal(size=(shape[0], 1, *shape[2:]))
    return labelled(3 + member_std * of_member + checkpoint_std * rng.normal(size=shape))


def test_variance_components_find_the_truth() -> None:
    parts = variance_components(nested(2.0, 3.0))
    assert float(parts["member"].mean()) == pytest.approx(4, rel=0.06)
    assert float(parts["checkpoint"].mean()) == pytest.approx(9, rel=0.03)


def test_variance_components_equal_a_plain_analysis_of_variance() -> None:
    scores = nested(1.0, 1.0, (4, 3, 2, 2))
    parts = variance_components(scores)
    for i in range(2):
        for j in range(2):
            groups = scores.values[:, :, i, j]
            within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (4 * 2)
            between = 3 * sum((g.mean() - groups.mean()) ** 2 for g in groups) / 3
            assert stats.f_oneway(*groups).statistic == pytest.approx(between / within)
            member = max(0, (between - within) / 3)
            got = [float(parts[k][i, j]) for k in ("member", "checkpoint", "member_share")]
            np.testing.assert_allclose(got, [member, within, member / (member + within)])


def test_variance_components_at_the_edges() -> None:
    only_members = variance_components(nested(1.0, 0.0))
    np.testing.assert_allclose(only_members["member_share"], 1)
    only_checkpoints = variance_components(nested(0.0, 1.0))
    assert (only_checkpoints["member"] >= 0).all()
    assert (only_checkpoints["member"] == 0).any()
    assert np.isnan(variance_components(nested(0.0, 0.0))["member_share"]).all()


@given(score_arrays(), half_steps)
@settings(max_examples=30, deadline=None)
def test_variance_components_ignore_an_offset(scores: xr.DataArray, offset: float) -> None:
    doubled = xr.concat([scores, scores + 1], "checkpoint")
    moved = variance_components(doubled + offset)
    for name in ("member", "checkpoint"):
        np.testing.assert_allclose(moved[name], variance_components(doubled)[name], atol=1e-9)


def test_components_need_checkpoints() -> None:
    scores = labelled(noise(0, (4, 1, 2, 2)))
    refused(ValueError, lambda: variance_components(scores), "1 along checkpoint", "at least 2")


# ---------------- crossed designs


def crossed(values):
    return xr.DataArray(values, dims=("initialisation", "order", "checkpoint", "train", "test"))


crossed_values = st.tuples(st.integers(2, 4), st.integers(2, 4), st.integers(2, 3)).flatmap(
    lambda shape: hnp.arrays(np.float64, (*shape, 2, 3), elements=st.floats(-100, 100))
)


def plain_components(y):
    """The five variances of one pair, y (I, J, C), by loops over the textbook's sums."""
    i_count, j_count, c_count = y.shape
    grand = y.mean()
    ms_i = sum(j_count * c_count * (y[i].mean() - grand) ** 2 for i in range(i_count))
    ms_j = sum(i_count * c_count * (y[:, j].mean() - grand) ** 2 for j in range(j_count))
    ms_c = sum(i_count * j_count * (y[..., c].mean() - grand) ** 2 for c in range(c_count))
    ms_ij = ms_e = 0.0
    for i in range(i_count):
        for j in range(j_count):
            rest = y[i, j].mean() - y[i].mean() - y[:, j].mean() + grand
            ms_ij += c_count * rest**2
            for c in range(c_count):
                alone = y[i, :, c].mean() + y[:, j, c].mean() - y[..., c].mean()
                ms_e += (y[i, j, c] - alone - rest) ** 2
    ms_ic = sum(
        j_count * (y[i, :, c].mean() - y[i].mean() - y[..., c].mean() + grand) ** 2
        for i in range(i_count)
        for c in range(c_count)
    ) / ((i_count - 1) * (c_count - 1))
    ms_jc = sum(
        i_count * (y[:, j, c].mean() - y[:, j].mean() - y[..., c].mean() + grand) ** 2
        for j in range(j_count)
        for c in range(c_count)
    ) / ((j_count - 1) * (c_count - 1))
    ms_i, ms_j, ms_c = ms_i / (i_count - 1), ms_j / (j_count - 1), ms_c / (c_count - 1)
    ms_ij /= (i_count - 1) * (j_count - 1)
    ms_e /= (i_count - 1) * (j_count - 1) * (c_count - 1)
    return [
        (ms_i - ms_ij) / (j_count * c_count),
        (ms_j - ms_ij) / (i_count * c_count),
        (ms_ij - ms_e) / c_count,
        (ms_c - ms_ic - ms_jc + ms_e) / (i_count * j_count),
        (ms_ic - ms_e) / j_count + (ms_jc - ms_e) / i_count + ms_e,
    ]


@given(crossed_values)
def test_crossed_components_are_the_textbooks(values):
    found = crossed_components(crossed(values))
    scale = max(np.var(values), 1e-12)
    for train in range(2):
        for test in range(3):
            wanted = plain_components(values[..., train, test])
            for source, value in zip(SOURCES, wanted, strict=True):
                assert float(found[source][train, test]) == pytest.approx(
                    max(value, 0), rel=1e-9, abs=1e-9 * scale
                )


@given(crossed_values)
def test_shares_are_those_of_the_summed_components(values):
    shares = variance_shares(crossed(values), resamples=5)
    summed = sum(
        np.array(plain_components(values[..., train, test]))
        for train in range(2)
        for test in range(3)
    )
    summed = np.maximum(summed, 0)
    if summed.sum() > 1e-6 * max(np.var(values), 1e-12):
        np.testing.assert_allclose(shares["share"], summed / summed.sum(), atol=1e-6)
        np.testing.assert_allclose(shares["share"].sum(), 1)


@given(crossed_values, st.randoms(use_true_random=False))
def test_components_do_not_depend_on_the_order_of_levels_or_on_a_shift(values, random):
    scores = crossed(values)
    found = crossed_components(scores)
    shuffled = scores + 7
    for dim in ("initialisation", "order", "checkpoint"):
        shuffled = shuffled.isel({dim: random.sample(range(scores.sizes[dim]), scores.sizes[dim])})
    again = crossed_components(shuffled)
    for source in SOURCES:
        np.testing.assert_allclose(found[source], again[source], atol=1e-8 * (1 + values.var()))


def test_simulated_shares_are_found_and_covered():
    """Known variances 4, 1, 2, 1 and 2: shares within intervals in most of 40 simulations.

    Half of the variance within a run is a pace of its initialisation's own.
    """
    generator = np.random.default_rng(0)
    i, j, c, pairs = 8, 8, 3, (4, 5)
    true = np.array([4, 1, 2, 1, 2]) / 10
    covered = np.zeros(5)
    shares = []
    trend = np.sqrt(1.5) * np.array([-1.0, 0.0, 1.0]).reshape(1, 1, c, 1, 1)
    for repeat in range(40):
        pace = generator.normal(size=(i, 1, c, *pairs))
        within = generator.normal(size=(i, j, c, *pairs))
        values = (
            2 * generator.normal(size=(i, 1, 1, *pairs))
            + generator.normal(size=(1, j, 1, *pairs))
            + np.sqrt(2) * generator.normal(size=(i, j, 1, *pairs))
            + trend * np.sqrt(2 / 3)
            + pace
            - pace.mean(2, keepdims=True)
            + within
        )
        found = variance_shares(crossed(values), resamples=200, seed=repeat)
        shares.append(found["share"].values)
        covered += (found["low"].values <= true) & (true <= found["high"].values)
    np.testing.assert_allclose(np.mean(shares, 0), true, atol=0.025)
    assert (covered >= 32).all(), covered


def test_a_trend_that_all_runs_share_is_the_epochs_and_hides_no_interaction():
    generator = np.random.default_rng(3)
    runs = generator.normal(size=(5, 5, 1, 3, 4)) * np.ones((1, 1, 4, 1, 1))
    trend = 10 * np.arange(4.0).reshape(1, 1, 4, 1, 1)
    shares = variance_shares(crossed(runs + trend), resamples=50)["share"]
    alone = variance_shares(crossed(runs), resamples=50)["share"]
    assert float(shares.sel(source="epoch")) > 0.9
    ratio = shares.sel(source="interaction") / (1 - shares.sel(source="epoch"))
    np.testing.assert_allclose(ratio, alone.sel(source="interaction"), rtol=1e-6)


def test_one_order_that_is_no_order_has_no_share():
    """One batch an epoch: all orders are the same run, so only initialisation is left."""
    generator = np.random.default_rng(1)
    runs = generator.normal(size=(4, 1, 3, 2, 3)).repeat(5, axis=1)
    shares = variance_shares(crossed(runs), resamples=20)
    assert float(shares["share"].sel(source="order")) == pytest.approx(0, abs=1e-12)
    assert float(shares["share"].sel(source="interaction")) == pytest.approx(0, abs=1e-12)


def test_equal_scores_have_no_shares():
    assert variance_shares(crossed(np.ones((2, 2, 2, 1, 1))), resamples=3)["share"].isnull().all()


@pytest.mark.parametrize(
    ("scores", "arguments", "facts"),
    [
        (crossed(np.ones((1, 2, 2, 1, 1))), {}, ["1 along initialisation", 2]),
        (crossed(np.ones((2, 2, 1, 1, 1))), {}, ["1 along checkpoint", 2]),
        (crossed(np.ones((2, 2, 2, 1, 1))).isel(order=0), {}, ["scores", "order"]),
        (crossed(np.full((2, 2, 2, 1, 1), np.inf)), {}, ["scores", "8 infinite", "finite or NaN"]),
        (crossed(np.ones((2, 2, 2, 1, 1))), {"level": 1.0}, ["level", "0 and 1", 1.0]),
        (
            crossed(np.ones((2, 2, 2, 1, 1))),
            {"resamples": 0},
            ["resamples is 0", "at least 1"],
        ),
        (crossed(np.ones((2, 2, 2, 1, 1))), {"seed": 2**64}, [f"seed is {2**64}", "an integer"]),
        (crossed(np.ones((2, 2, 2, 1, 1))), {"seed": 0.5}, ["seed is 0.5", "at least 0"]),
    ],
)
def test_bad_crossed_designs_are_refused(scores, arguments, facts):
    refused(ValueError, lambda: variance_shares(scores, **arguments), *facts)
