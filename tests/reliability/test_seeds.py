"""How many members: the distribution of effects, its power and widths, against what is drawn."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from tda_utils.reliability import seeds_needed, significant
from tda_utils.reliability.seeds import (
    EFFECTS,
    drawn_together,
    effects_of,
    expected_power,
    expected_widths,
    found_by,
    numbers_of_members,
)
from tda_utils.reliability.shrinkage import t_statistics
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

PAIRS = 6000
GENERATOR = np.random.default_rng(0)
#: Effects with a mode at zero, and such as lie off zero, as those of inner products of gradients.
SHAPES = {
    "around zero": GENERATOR.laplace(size=PAIRS),
    "off zero": GENERATOR.choice([-1, 1], PAIRS) * GENERATOR.normal(1.6, 0.3, PAIRS),
}


def drawn(effects: np.ndarray, members: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return effects + generator.normal(size=(members, effects.size))


def cube(flat: np.ndarray) -> xr.DataArray:
    return xr.DataArray(flat.reshape(len(flat), -1, 60), dims=("member", "train", "test"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pilot", [3, 5])
def test_the_power_that_is_predicted_is_reached(shape: str, pilot: int) -> None:
    """Independent noise: within five points of what so many other members find."""
    effects = SHAPES[shape]
    curve = seeds_needed(
        cube(drawn(effects, pilot, seed=20 + pilot)), power=0.7, reference=90, most=60
    )
    known = significant(cube(drawn(effects, 90, seed=90))).values
    for members in (5, 10, 20):
        found = significant(cube(drawn(effects, members, seed=members))).values
        predicted = curve.sel(members=members)
        assert float(predicted["power"]) == pytest.approx(found[known].mean(), abs=0.05)
        assert float(predicted["found"]) == pytest.approx(found.mean(), abs=0.05)
    at = curve["members"] == curve["needed"]
    assert float(curve["power"][at].item()) >= 0.7
    assert (curve["power"][curve["members"] < curve["needed"]] < 0.7).any()


def test_power_is_the_noncentral_t_beyond_the_threshold() -> None:
    """All pairs have one effect: the threshold is where alpha times the power is p."""
    place = int(abs(EFFECTS - 1).argmin())
    effects = np.zeros(len(EFFECTS))
    effects[place] = 1.0
    found = found_by(effects, 9, 0.05)
    m = 3 * EFFECTS[place]
    p = 0.05 * np.geomspace(1, 1e-4, 61)
    t = stats.t.isf(p / 2, 8)
    power = stats.nct.sf(t, 8, m) + stats.nct.cdf(-t, 8, m)
    first = int(np.argmax(0.05 * power >= p))
    assert found[place] == pytest.approx(power[first], abs=1e-4)


def test_the_effects_are_those_of_the_pairs() -> None:
    effects = SHAPES["off zero"]
    for members, off in ((5, 0.06), (20, 0.02)):
        probabilities = effects_of(t_statistics(drawn(effects, members, seed=1)), members)
        assert probabilities.sum() == pytest.approx(1)
        assert probabilities @ EFFECTS == pytest.approx(abs(effects).mean(), rel=off)


def test_noise_alone_has_no_power() -> None:
    curve = seeds_needed(labelled(noise(1, (4, 1, 40, 50))), power=0.5, most=100)
    assert float(curve["found"].sel(members=slice(None, 100)).max()) < 0.01


@pytest.mark.parametrize("pilot", [3, 5, 12])
def test_the_width_that_is_predicted_is_reached(pilot: int) -> None:
    spread = np.exp(GENERATOR.normal(size=PAIRS))
    flat = spread * drawn(np.zeros(PAIRS), pilot, seed=2)
    tried = np.array([3, 5, 10, 20])
    predicted = expected_widths(flat, tried, 0.05)
    for members, width in zip(tried, predicted, strict=True):
        later = spread * drawn(np.zeros(PAIRS), members, seed=3)
        reach = stats.t.isf(0.025, members - 1) * later.std(0, ddof=1) / np.sqrt(members)
        assert width == pytest.approx(np.median(2 * reach), rel=0.06)
    wanted = float(predicted[2]) * 1.001
    found = seeds_needed(cube(flat), width=wanted)
    assert found["needed"] == 10 and float(found["width"].sel(members=10)) <= wanted


def test_widths_have_the_unit_of_the_scores() -> None:
    scores = labelled(noise(4, (5, 2, 6, 7)))
    wanted = seeds_needed(scores, width=0.5)
    for factor in (1e-150, 1e150):
        found = seeds_needed(scores * factor, width=0.5 * factor)
        assert found["needed"] == wanted["needed"]
        np.testing.assert_allclose(found["width"], wanted["width"] * factor, rtol=1e-9)


@pytest.mark.parametrize("dof", [2, 4, 9])
def test_variances_that_do_not_differ_come_out_alike(dof: int) -> None:
    logs = np.log(np.random.default_rng(dof).chisquare(dof, 20_000) / dof)
    drawn_in = drawn_together(logs, dof)
    assert drawn_in.mean() == pytest.approx(0, abs=0.02)
    assert drawn_in.std() < 0.2


def test_more_members_find_more() -> None:
    effects = effects_of(t_statistics(drawn(SHAPES["around zero"], 5, seed=5)), 5)
    powers, found = expected_power(effects, numbers_of_members(200), 0.05, 100)
    assert (np.diff(found)[3:] > -1e-9).all() and powers[-1] > 0.95
    strict, _ = expected_power(effects, numbers_of_members(200), 0.01, 100)
    assert strict[8] < powers[8]


@pytest.mark.parametrize(
    ("options", "error", "facts"),
    [
        ({}, ValueError, ["power", "width", "one"]),
        ({"power": 0.8, "width": 1.0}, ValueError, ["power is 0.8", "width is 1.0", "one"]),
        ({"power": 1.5}, ValueError, ["power", "0 and 1", "1.5"]),
        ({"width": -1.0}, ValueError, ["width", "-1.0", "positive"]),
        ({"power": 0.8, "alpha": 0}, ValueError, ["alpha", "0 and 1", "0"]),
        ({"power": 0.8, "reference": 1}, ValueError, ["reference", "1", "2"]),
        ({"power": 0.8, "most": 1}, ValueError, ["most", "1", "2"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(options, error, facts) -> None:
    refused(error, lambda: seeds_needed(labelled(noise()), **options), *facts)
