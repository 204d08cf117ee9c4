"""Verdicts that are to be right, where the truth is known and estimators err the same each time."""

import numpy as np
import pytest
import xarray as xr

from tda_utils.reliability import calibrated, right_held_out
from tda_utils.reliability.calibrate import SHARES, few_of, in_units, share_named, share_right
from tests.refusals import refused

TRAIN, TEST = 40, 400
GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.normal(size=(TRAIN, TEST)) * np.exp(GENERATOR.normal(size=TEST))
#: Errors that every member makes, relative to the truth of a test sample.
ERRORS = {"influence": 0.8, "ats": 1.2}


def cube(values: np.ndarray) -> xr.DataArray:
    coordinates = {"train": np.arange(TRAIN) * 3, "test": np.arange(TEST) + 7}
    return xr.DataArray(values, coordinates, ("member", "train", "test")).assign_coords(
        member=np.arange(len(values)) + 100
    )


def drawn(members: int, seed: int = 0) -> tuple[dict[str, xr.DataArray], xr.DataArray]:
    """Scores of two estimators with errors of their own that repeat, and leave-one-out."""
    errors = np.random.default_rng(99)
    sizes = np.sqrt((TRUTH**2).mean(0))
    generator = np.random.default_rng(seed)
    scores = {}
    for method, size in ERRORS.items():
        off = TRUTH + size * sizes * errors.normal(size=TRUTH.shape)
        scores[method] = cube(off + 0.2 * sizes * generator.normal(size=(members, *TRUTH.shape)))
    return scores, cube(TRUTH + sizes * generator.normal(size=(members, *TRUTH.shape)))


SCORES, LOO = drawn(10)
FEW = LOO.copy(data=few_of(LOO.values, np.random.default_rng(1)))


def right(found: xr.Dataset) -> float:
    sign = found["sign"].values
    return float((sign * TRUTH > 0)[sign != 0].mean())


def test_signs_that_are_named_are_right_and_many_are_named() -> None:
    found = calibrated(SCORES, FEW)
    assert found.attrs["retrainings"] == TRAIN == LOO.sizes["member"] * TRAIN / 10
    assert right(found) >= 0.94
    assert found.attrs["named"] > 0.4
    everything = sum(in_units(tau.mean("member").values, False) for tau in SCORES.values())
    assert (everything * TRUTH > 0).mean() < 0.9


def test_methods_together_name_more_than_each_alone() -> None:
    alone = [calibrated({name: tau}, FEW).attrs["named"] for name, tau in SCORES.items()]
    assert calibrated(SCORES, FEW).attrs["named"] > max(alone)


def test_a_stricter_level_names_fewer_and_more_of_them_are_right() -> None:
    loose, strict = (calibrated(SCORES, FEW, level) for level in (0.9, 0.98))
    assert strict.attrs["named"] < loose.attrs["named"]
    assert right(strict) > right(loose)


def test_the_share_of_right_signs_is_estimated_without_knowing_the_truth() -> None:
    """Retrainings have a seed's noise, and many a wrong sign; the estimate allows for that."""
    common = in_units(SCORES["influence"].mean("member").values, False)
    estimated = share_right(common, FEW.values)
    naive = np.sign(FEW.values) == np.sign(common)
    for share in (0.2, 0.4, 0.6):
        chosen = np.argsort(-abs(common), axis=None)[: round(share * common.size)]
        true = (common * TRUTH > 0).ravel()[chosen].mean()
        at = int(np.argmin(abs(SHARES - share)))
        assert estimated[at] == pytest.approx(true, abs=0.05)
        known = np.isfinite(FEW.values).reshape(10, -1)[:, chosen]
        assert naive.reshape(10, -1)[:, chosen][known].mean() < true - 0.03


def test_agreement_and_disagreement_are_those_of_plain_loops() -> None:
    generator = np.random.default_rng(3)
    common, measured = generator.normal(size=(6, 50)), generator.normal(size=(4, 6, 50))
    measured[2:, 1:] = np.nan
    agree, differ, count = 0.0, 0.0, 0
    for i in range(6):
        for j in range(50):
            signs = [s for s in measured[:, i, j] if np.isfinite(s)]
            pairs = [(a, b) for n, a in enumerate(signs) for b in signs[:n]]
            agree += np.mean([s * common[i, j] > 0 for s in signs])
            differ += np.mean([a * b < 0 for a, b in pairs])
            count += 1
    off = (1 - np.sqrt(max(1 - 2 * differ / count, 1e-6))) / 2
    wanted = min((agree / count - off) / (1 - 2 * off), 1)
    assert share_right(common, measured)[-1] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.99, 0.97, 0.9, 0.99], 2),
        ([0.9, 0.99], 0),
        ([np.nan, np.nan, 0.96, 0.2], 3),
        ([np.nan, 0.2], 0),
        ([0.95, 0.95], 2),
    ],
)
def test_as_many_are_named_as_all_smaller_shares_allow(values, wanted) -> None:
    assert share_named(np.array(values), 0.95) == pytest.approx(wanted / 50)


def test_units_of_test_samples_and_methods_do_not_matter() -> None:
    wanted = calibrated(SCORES, FEW)["sign"]
    scale = xr.DataArray(np.exp(np.arange(TEST) / 40), {"test": LOO["test"]}, "test")
    found = calibrated({name: 3 * tau * scale for name, tau in SCORES.items()}, FEW * scale)
    np.testing.assert_array_equal(found["sign"], wanted)


def test_pairs_are_matched_by_label_and_nan_is_not_named() -> None:
    turned = FEW.isel(member=slice(None, None, -1), train=slice(None, None, -1))
    xr.testing.assert_equal(calibrated(SCORES, turned)["sign"], calibrated(SCORES, FEW)["sign"])
    marred = {**SCORES, "ats": SCORES["ats"].copy(deep=True)}
    marred["ats"][3, :, 4] = np.nan
    found = calibrated(marred, FEW)
    assert not found["sign"][:, 4].any() and found["score"][:, 4].isnull().all()
    assert found["sign"].any()


def test_scores_that_say_nothing_name_next_to_nothing() -> None:
    noise = {"ats": cube(np.random.default_rng(7).normal(size=(10, TRAIN, TEST)))}
    assert calibrated(noise, FEW).attrs["named"] <= 0.02


def test_held_out_it_is_right_of_members_that_it_has_not_seen() -> None:
    scores, loo = drawn(40, seed=5)
    found = right_held_out(scores, loo, draws=20)
    mean = found.mean("draw").sel(verdict="together")
    assert float(mean["right_decided"]) > 0.95
    assert float(mean["right"]) > 0.9
    assert float(mean["found"]) > 0.5
    alone = right_held_out(scores, loo, together=["ats"], draws=5)
    xr.testing.assert_equal(
        alone.sel(verdict="ats", drop=True), alone.sel(verdict="together", drop=True)
    )


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: calibrated({}, FEW), TypeError, ["scores", "mapping", "{}"]),
        (lambda: calibrated(LOO, FEW), TypeError, ["scores", "mapping"]),
        (lambda: calibrated(SCORES, FEW, 1.0), ValueError, ["level", "0 and 1", "1.0"]),
        (lambda: calibrated(SCORES, FEW * np.nan), ValueError, ["retrained", "0", "2"]),
        (lambda: calibrated(SCORES, FEW.isel(train=[0, 1])), ValueError, ["train", "same"]),
        (lambda: right_held_out(SCORES, LOO, members=9), ValueError, ["members", "9", "8"]),
        (lambda: right_held_out(SCORES, LOO, draws=0), ValueError, ["draws", "0"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error, facts) -> None:
    refused(error, call, *facts)
