"""The section on all of MNIST: its arithmetic, recomputed from the committed numbers."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from tests.tools.pages.conftest import PAPER
from tools.pages import whole_set


@pytest.fixture(scope="module")
def numbers():
    return json.loads((PAPER / "numbers" / "full_mnist-paired.json").read_text())


def test_the_members_needed_are_those_of_the_power_of_a_t_test(numbers):
    """By the noncentral t distribution: with so many, it finds the effect in 80 % of cases."""
    said = whole_set.what_it_takes(numbers)
    members = float(re.search(r"\)\^2 = ([\d,]+) members", said)[1].replace(",", ""))
    few, many = sorted(numbers["loo by training digits"].items(), key=lambda item: int(item[0]))
    effect = few[1]["|mean|"] * int(few[0]) / int(many[0])
    ratio = effect / many[1]["std"]
    limit = stats.t.isf(0.025, members - 1)
    power = stats.nct.sf(limit, members - 1, ratio * np.sqrt(members))
    assert power == pytest.approx(0.8, abs=1e-3)
    for value in (effect, ratio):
        assert f"{value:.2g}" in said


def test_the_ratio_of_noise_is_that_of_simulated_noise(numbers):
    said = whole_set.what_it_takes(numbers)
    stated = float(re.search(r"pure noise over 4 members gives ([\d.]+):", said)[1])
    noise = np.random.default_rng(0).standard_normal((4, 400_000))
    simulated = np.median(abs(noise.mean(0)) / noise.std(0, ddof=1))
    assert stated == pytest.approx(simulated, rel=0.01)
    assert numbers["loo members"] == 4


def test_the_floor_is_said_with_its_numbers_by_precision():
    sizes = {"members": 2.0, "digits": 20.0, "|floor|": 4.4e-4, "|LOO|": 5.5e-4}
    measured = {
        "precision": {
            "float32": {**sizes, "floor / LOO": 0.8},
            "float64": {**sizes, "members": 1.0, "|floor|": 3.3e-7, "floor / LOO": 6e-4},
        },
        "float32 with float64": {"27565": 0.61, "27757": -0.02},
        "share of variance": 0.47,
    }
    said = whole_set.rounding(measured)
    float32, float64 = said.split("; by ")
    for part in ("0.00044 nats in float32", "LOO: 0.00055", "ratio 0.8;", "2 members)"):
        assert part in float32
    assert "3.3e-07 nats in float64" in float64
    assert "0.0006" in float64
    assert "1 member)" in float64
    assert "0.61, -0.02 over test digits" in said
    assert "47 % of the variance" in said


def test_the_section_says_what_was_measured_and_leaves_out_what_was_not(numbers):
    text = "\n".join(whole_set.section(PAPER))
    assert ("Where the answer of one model ends" in text) == ("rounding" in numbers)
    assert f"{stats.t.isf(0.25, 3) / 2:.3f}" in text
