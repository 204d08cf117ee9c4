"""What has no unit is the same in any unit: nothing overflows or vanishes where scores do not."""

import inspect
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tda_utils import reliability
from tda_utils.reliability.checks import CROSSED, member_averages
from tda_utils.reliability.overall import overall_reliability
from tda_utils.reliability.scale import in_unit, reduced, scaled, scaled_scores
from tests.reliability.scores import labelled, noise

# ---------------- the parts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", [None, 0, (0, 2)])
def test_the_largest_is_near_one_and_no_digit_changes(dtype, axes) -> None:
    values = (noise(shape=(3, 4, 5)) * 10.0 ** np.arange(-20, 20, 10)[:, None]).astype(dtype)
    near_one, powers = scaled(values, axes)
    largest = np.abs(near_one).max(axis=axes)
    assert ((largest >= 0.5) & (largest < 1)).all() and near_one.dtype == dtype
    np.testing.assert_array_equal(np.ldexp(near_one, powers), values)


def test_zero_infinity_and_nan_are_left_as_they_are() -> None:
    values = np.array([[0.0, 0.0], [np.nan, np.nan], [np.inf, 3.0], [np.nan, 3e-320]])
    near_one, powers = scaled(values, 1)
    np.testing.assert_array_equal(near_one[:3], values[:3])
    np.testing.assert_array_equal(powers.ravel()[:3], 0)
    assert np.isnan(near_one[3, 0]) and 0.5 <= near_one[3, 1] < 1


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint64, np.longdouble])
def test_other_numbers_become_float64(dtype) -> None:
    near_one, powers = scaled(np.array([1, 100, 3], dtype))
    assert near_one.dtype == np.float64
    np.testing.assert_array_equal(np.ldexp(near_one, powers), [1, 100, 3])


def test_what_was_summed_up_comes_back_in_the_unit_of_the_scores() -> None:
    scores = labelled(noise(), method="loo").assign_coords(
        drift=(("member", "checkpoint", "test"), noise(1, (6, 3, 7)))
    )
    near_one, powers = scaled_scores(scores, "member", "checkpoint")
    assert powers.dims == ("train", "test") and near_one.attrs == scores.attrs
    dims = ["checkpoint", "member"]
    xr.testing.assert_equal(in_unit(near_one.std(dims), powers), scores.std(dims))
    xr.testing.assert_equal(in_unit(near_one.var(dims), powers, degree=2), scores.var(dims))
    found = reduced(scores * 1e305, lambda s: s.mean("member", keep_attrs=True), "member")
    np.testing.assert_allclose(found / 1e305, scores.mean("member"), rtol=1e-12)
    assert found.attrs["method"] == "loo"


# ---------------- every public function of scores

CROSSED_DIMS = (*CROSSED, "train", "test")


def crossed(scores: xr.DataArray) -> xr.DataArray:
    """Return six members as two initialisations by three orders."""
    return xr.DataArray(scores.values.reshape(2, 3, *scores.shape[1:]), dims=CROSSED_DIMS)


def with_drift(scores: xr.DataArray) -> xr.DataArray:
    drift = scores.values[:, :, 0]
    return scores.assign_coords(drift=(("member", "checkpoint", "test"), drift))


def of_summary(summary: xr.Dataset) -> dict:
    parts = {name: (summary[name].values, 0) for name in ("snr", "p")}
    return parts | {name: (summary[name].values, 1) for name in ("mean", "std")}


def floor_like(scores: xr.DataArray) -> xr.DataArray:
    """Return a floor of the size of the scores, a draw for each training sample."""
    floor = scores.rename(train="draw").transpose("member", "draw", "checkpoint", "test")
    return floor.drop_vars(["draw", "train_label"]) * 0.5


def of_agreement(scores: xr.DataArray) -> dict:
    largest = float(abs(scores.astype(float)).max())
    other = labelled(noise(99, scores.shape)) + scores.astype(float) / largest
    return {
        (of, kind, name): (values.values, 0)
        for of in ("mean", "std", "p", "snr")
        for kind in ("pearson", "spearman")
        for name, values in reliability.agreement(
            {"own": scores, "other": other}, of, kind, permutations=3
        ).items()
    }


def with_signal(scores: xr.DataArray) -> xr.DataArray:
    """Return scores with a part that all members share, as large as they are."""
    largest = float(abs(scores.astype(float)).max())
    return scores.astype(float) + largest * noise(98, (1, 1, *scores.shape[2:]))


def of_kinds(function: Callable[..., xr.Dataset], *scores: xr.DataArray) -> dict:
    return {
        (kind, name): (values.values, 0)
        for kind in ("pearson", "spearman")
        for name, values in function(*scores, kind).items()
    }


def nobody_of(scores: xr.DataArray) -> xr.DataArray:
    """Return weights of one subset that leaves everything out."""
    return xr.DataArray(np.zeros((1, 5)), {"train": scores["train"].values}, ("subset", "train"))


def of_groups(scores: xr.DataArray) -> dict:
    """Say how scores order twelve subsets, whose losses stay as they are."""
    left = np.arange(12)[:, None] >> np.arange(5) & 1
    coordinates = {"subset": np.arange(12), "train": scores["train"].values}
    weights = xr.DataArray(left, coordinates, ("subset", "train"))
    losses = labelled(noise(97, (6, 3, 12, 7))).drop_vars(["train", "train_label"])
    found = reliability.datamodelling_score(scores, losses.rename(train="subset"), weights)
    return {name: (values.values, 0) for name, values in found.items()}


def of_dataset(found: xr.Dataset, **degrees: int) -> dict[str, tuple[np.ndarray, int]]:
    """Return what is no whole number with its degree, 0 unless it is named."""
    return {
        name: (values.values.astype(float), degrees.get(name, 0))
        for name, values in found.items()
        if values.dtype.kind in "bf"
    }


# Name of the function -> what it says of scores, each with its degree: 0 for what has no unit, 1
# for what has that of the scores, 2 for their squares.
TABLE = {
    "summarise": lambda tau: of_summary(reliability.summarise(tau)),
    "p_values": lambda tau: {
        test: (reliability.p_values(tau, test).values, 0) for test in ("t", "sign_flip", "released")
    },
    "significant": lambda tau: {
        "chosen": (reliability.significant(reliability.p_values(tau), 0.3).values, 0)
    },
    "rounding_share": lambda tau: {
        "share": (reliability.rounding_share(tau, floor_like(tau)).values, 0)
    },
    "defined_members": lambda tau: {
        "share": (reliability.defined_members(tau, floor_like(tau), 0.4).values, 0)
    },
    "null_ratio": lambda tau: {
        name: (values.values, 0)
        for name, values in reliability.null_ratio(tau, floor_like(tau)).items()
    },
    "clearest_pairs": lambda tau: of_summary(
        reliability.clearest_pairs(reliability.summarise(tau), 3)
    ),
    "least_certain_pairs": lambda tau: of_summary(
        reliability.least_certain_pairs(reliability.summarise(tau), 3)
    ),
    "mean_p_by_checkpoints": lambda tau: {
        "curve": (reliability.mean_p_by_checkpoints(tau).values, 0)
    },
    "overall_reliability": lambda tau: {
        name: (values.values, 0) for name, values in overall_reliability(tau).items()
    },
    "variance_components": lambda tau: {
        name: (values.values, 0 if name == "member_share" else 2)
        for name, values in reliability.variance_components(tau).items()
    },
    "crossed_components": lambda tau: {
        name: (values.values, 2)
        for name, values in reliability.crossed_components(crossed(tau)).items()
    },
    "variance_shares": lambda tau: {
        name: (values.values, 0)
        for name, values in reliability.variance_shares(crossed(tau), resamples=5).items()
    },
    "agreement": of_agreement,
    "effective_pairs": lambda tau: {"pairs": (reliability.effective_pairs(tau), 0)},
    "stability": lambda tau: of_kinds(reliability.stability, with_signal(tau)),
    "ceiling": lambda tau: of_kinds(reliability.ceiling, with_signal(tau), with_signal(tau)),
    "removal_signed": lambda tau: {
        "turned": (reliability.removal_signed(tau.assign_attrs(sign="upweighting")).values, 1)
    },
    "remove_drift": lambda tau: {"left": (reliability.remove_drift(with_drift(tau)).values, 1)},
    "drift_share": lambda tau: {"share": (reliability.drift_share(tau), 0)},
    "false_sign_rate": lambda tau: {"rate": (reliability.false_sign_rate(tau).values, 0)},
    "top_probability": lambda tau: {"in_top": (reliability.top_probability(tau, 2).values, 0)},
    "top_lists": lambda tau: of_dataset(reliability.top_lists(tau, 2), mean=1, std=1),
    "seeds_needed": lambda tau: {
        **of_dataset(reliability.seeds_needed(tau, power=0.8, reference=10, most=20)),
        "width": (reliability.seeds_needed(tau, width=1.0, most=20)["width"].values, 1),
    },
    "sequential": lambda tau: of_dataset(reliability.sequential(with_signal(tau))),
    "agreement_by_members": lambda tau: of_dataset(
        reliability.agreement_by_members(tau, with_signal(tau), [1, 2], 3)
    ),
    "held_out": lambda tau: of_dataset(reliability.held_out(tau, tau, members=(3,), draws=5)),
    "calibrated": lambda tau: of_dataset(
        reliability.calibrated({"influence": tau}, tau.where(tau["train"] != tau["train"][0]))
    ),
    "right_held_out": lambda tau: of_dataset(
        reliability.right_held_out({"influence": tau}, with_signal(tau), members=3, draws=3)
    ),
    "group_scores": lambda tau: {"sums": (reliability.group_scores(tau, nobody_of(tau)).values, 1)},
    "datamodelling_score": of_groups,
    "verdicts": lambda tau: {"words": (reliability.verdicts(reliability.p_values(tau)).values, 0)},
}
TAKES_SCORES = ("scores", "scores_by_method", "summary", "p")


def test_the_table_has_every_function_of_scores() -> None:
    functions = {name: getattr(reliability, name) for name in reliability.__all__}
    functions["overall_reliability"] = overall_reliability
    found = {
        name
        for name, function in functions.items()
        if callable(function) and next(iter(inspect.signature(function).parameters)) in TAKES_SCORES
    }
    assert found == set(TABLE)


def said_of(name: str, scores: xr.DataArray) -> dict:
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        return TABLE[name](scores)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float, key: object) -> None:
    """Compare by the largest of each quantity: what is left of a difference may be anything."""
    size = np.nanmax(np.abs(wanted))
    np.testing.assert_allclose(found, wanted, 0, tolerance * size, err_msg=str(key))


@pytest.mark.parametrize("name", TABLE)
@given(seed=st.integers(0, 5), power=st.integers(-900, 990))
@settings(max_examples=8, deadline=None)
def test_a_power_of_two_changes_no_bit(name: str, seed: int, power: int) -> None:
    values = noise(seed) + 0.5
    once = said_of(name, labelled(values))
    again = said_of(name, labelled(np.ldexp(values, power)))
    for key, (wanted, degree) in once.items():
        with np.errstate(over="ignore", under="ignore"):
            np.testing.assert_array_equal(again[key][0], np.ldexp(wanted, degree * power), str(key))


@pytest.mark.parametrize("name", TABLE)
@given(seed=st.integers(0, 5), power=st.sampled_from([-30, 30]) | st.integers(-30, 36))
@settings(max_examples=4, deadline=None)
def test_what_float32_holds_is_enough(name: str, seed: int, power: int) -> None:
    """Losses in float32 that are tiny or huge are not looked at in squares of float32."""
    values = (noise(seed) + 0.5).astype(np.float32)
    once = said_of(name, labelled(values))
    again = said_of(name, labelled(values * np.float32(10.0**power)))
    for key, (wanted, degree) in once.items():
        close(again[key][0] / 10.0 ** (degree * power), wanted, 2e-3, key)


@pytest.mark.parametrize("name", TABLE)
@given(seed=st.integers(0, 5), power=st.sampled_from([-300, 300]) | st.integers(-300, 300))
@settings(max_examples=8, deadline=None)
def test_a_power_of_ten_changes_nothing_that_can_be_seen(name: str, seed: int, power: int) -> None:
    values = noise(seed) + 0.5
    once = said_of(name, labelled(values))
    again = said_of(name, labelled(values * 10.0**power))
    for key, (wanted, degree) in once.items():
        if degree < 2 or abs(power) < 150:
            close(again[key][0] / 10.0 ** (degree * power), wanted, 1e-9, key)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int16, np.uint8, np.uint64])
def test_small_types_of_number_are_as_good_as_float64(name: str, dtype: type) -> None:
    """Sums, differences and negatives of these leave their range."""
    limit = np.finfo(dtype).max if dtype == np.float16 else np.iinfo(dtype).max
    low = 0 if np.dtype(dtype).kind == "u" else -1
    fractions = np.random.default_rng(3).uniform(low, 1, (6, 3, 5, 7))
    values = (fractions * float(limit) * (1 - 2**-11)).astype(dtype)
    if np.dtype(dtype).kind in "if":
        values[0, 0, 0, 0] = (np.finfo if dtype == np.float16 else np.iinfo)(dtype).min
    wanted = said_of(name, labelled(values.astype(np.float64)))
    for key, (found, _) in said_of(name, labelled(values)).items():
        close(found, wanted[key][0], 1e-9, key)


# ---------------- members, checkpoints and pairs of different size


def test_checkpoints_that_cancel_leave_what_is_left() -> None:
    """The average over checkpoints is scaled again: its square would vanish."""
    left = noise(4, (6, 1, 2, 3)) + 1
    values = np.concatenate([np.ones_like(left), -np.ones_like(left), left * 2.0**-700], axis=1)
    np.testing.assert_allclose(
        reliability.p_values(labelled(values)), reliability.p_values(labelled(left)), rtol=1e-9
    )


def test_a_large_member_does_not_hide_the_others_when_it_is_left_out() -> None:
    """The jackknife of `overall_reliability` judges the others by their own size."""
    values = noise(5, (5, 1, 4, 6)) * 2.0**-700
    values[0] = 1 + noise(6, (1, 4, 6))
    # Beside so large a member all others are zero, however small they are.
    smaller = values.copy()
    smaller[1:] *= 2.0**-200
    found, wanted = (overall_reliability(labelled(one)) for one in (smaller, values))
    xr.testing.assert_identical(found, wanted)
    assert float(found["high"].sel(measure="mean_p")) < 1


def test_a_huge_pair_does_not_hide_another() -> None:
    values = noise(7)
    values[..., 0, 0] *= 1e300
    values[..., 1, 1] *= 1e-300
    plain = reliability.variance_components(labelled(noise(7)))
    np.testing.assert_allclose(
        reliability.variance_components(labelled(values))["member_share"],
        plain["member_share"],
        rtol=1e-9,
    )


def test_the_largest_float64_has_a_mean() -> None:
    values = np.full((3, 2, 1, 1), np.finfo(float).max)
    values[0] /= 2
    summary = reliability.summarise(labelled(values))
    assert summary["mean"].item() == pytest.approx(5 / 6 * np.finfo(float).max)
    assert all(np.isfinite(summary[name]).all() for name in summary)
    assert np.isfinite(member_averages(labelled(values))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_what_they_were(bad: float) -> None:
    values = noise(8) * 1e-200
    values[2, 1, 3, 4] = bad
    if bad == np.inf:
        with pytest.raises(ValueError, match="1 infinite"):
            reliability.summarise(labelled(values))
        return
    found = reliability.summarise(labelled(values))["p"]
    clean = reliability.summarise(labelled(noise(8)))["p"]
    assert np.isnan(found.values[3, 4]) and int(found.isnull().sum()) == 1
    np.testing.assert_allclose(found.fillna(0), clean.where(found.notnull(), 0), rtol=1e-9)
