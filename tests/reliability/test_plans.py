"""Plans held out: against the functions that users call, one draw at a time."""

import numpy as np
import pytest

from tda_utils.reliability import seeds_needed, sequential, significant
from tda_utils.reliability.heldout import drawn
from tda_utils.reliability.plans import power_held_out, stops_held_out
from tests.refusals import refused
from tests.reliability.scores import labelled, noise

SCORES = labelled(1.5 * noise(0, (1, 1, 12, 15)) + noise(1, (40, 1, 12, 15)))


def test_each_draw_is_a_pilot_and_an_ensemble() -> None:
    found = power_held_out(SCORES, pilots=[4], members=[10], draws=3)
    for draw in range(3):
        pilot = SCORES.isel(member=drawn(40, 4, 3, 0)[draw])
        curve = seeds_needed(pilot, power=0.5, reference=30, most=12)["power"]
        predicted = found["predicted"].sel(pilot=4, members=10)[draw]
        assert float(predicted) == pytest.approx(float(curve.sel(members=10)))
        seen = drawn(40, 10, 3, 0)[draw]
        own = significant(SCORES.isel(member=seen)).values
        known = significant(SCORES.isel(member=~seen)).values
        reached = found["reached"].sel(members=10)[draw]
        assert float(reached) == pytest.approx(own[known].mean())


def test_on_average_the_power_that_is_predicted_is_reached() -> None:
    scores = labelled(1.5 * noise(2, (1, 1, 40, 50)) + noise(3, (60, 1, 40, 50)))
    found = power_held_out(scores, pilots=[3, 5], members=[10, 20], draws=8).mean("draw")
    assert (abs(found["predicted"] - found["reached"]) <= 0.05).all()


@pytest.mark.parametrize("bound", ["e", "bh"])
def test_each_order_stops_where_sequential_does(bound: str) -> None:
    found = stops_held_out(SCORES, share=0.4, most=20, draws=3)
    generator = np.random.default_rng(0)
    for draw in range(3):
        order = generator.permutation(40)
        walk = sequential(SCORES.isel(member=order[:20]), share=0.4, bound=bound)
        assert float(found["stop"].sel(bound=bound)[draw]) == float(walk["stop"])
        left = SCORES.isel(member=order[20:]).mean(("member", "checkpoint"))
        wrong = (walk["sign"] * left <= 0).values[walk["decided"].values].mean()
        assert float(found["wrong"].sel(bound=bound)[draw]) == pytest.approx(wrong)
        if bound == "bh":
            np.testing.assert_allclose(found["decided"][:, draw], walk["share"])


def test_a_fixed_plan_reaches_the_share_in_nearly_all_draws() -> None:
    found = stops_held_out(SCORES, share=0.4, most=20, draws=20)
    fixed = int(found.attrs["fixed"])
    assert (found["decided"].sel(members=fixed) >= 0.4).mean() >= 0.95
    assert (found["decided"].sel(members=fixed - 1) >= 0.4).mean() < 0.95
    assert float(found["stop"].sel(bound="bh").mean()) <= fixed
    assert np.isnan(stops_held_out(SCORES, share=0.99, most=5, draws=3).attrs["fixed"])


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: power_held_out(SCORES, pilots=[1]), ["pilots", "1", "2"]),
        (lambda: power_held_out(SCORES, members=[39]), ["members", "39", "38"]),
        (lambda: power_held_out(SCORES, draws=0), ["draws", "0"]),
        (lambda: stops_held_out(SCORES, share=0.0), ["share", "0 and 1", "0.0"]),
        (lambda: stops_held_out(SCORES, share=0.5, most=39), ["most", "39", "38"]),
        (lambda: stops_held_out(SCORES, share=0.5, alpha=2), ["alpha", "0 and 1", "2"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, facts) -> None:
    refused(ValueError, call, *facts)
