"""Every figure: its bytes, its alternative text, and what it leaves behind."""

import io
import re
import warnings
from functools import cache

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from tda_utils import outputs, plots
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.checks import CROSSED
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.significance import summarise
from tda_utils.reliability.variance import variance_shares
from tests.plots.drawn import (
    BY_METHOD,
    FIGURES,
    PAIRS,
    SCORES,
    SUMMARIES,
    whole,
    written,
    written_once,
)


@pytest.mark.parametrize("name", FIGURES)
def test_saved_twice_gives_the_same_bytes_and_has_alternative_text(name: str) -> None:
    figure = FIGURES[name]()
    assert plt.get_fignums() == [], "pyplot knows of it"
    assert written(figure) == written_once(name)
    text = outputs.alt_text(figure)
    assert text.endswith(".")
    assert any(letter.isdigit() for letter in text)
    with Image.open(io.BytesIO(written_once(name)[1])) as picture:
        assert len(set(picture.convert("L").tobytes())) > 30


@cache
def in_unit(unit: float) -> dict[str, Figure]:
    """Figures of scores in a unit; those of methods, of one method in that unit and others."""
    scores = SCORES * unit
    summary, by_method = summarise(scores), {**BY_METHOD, "loo": scores}
    a, b = (scores.sel(member=m, test=9).mean("checkpoint", keep_attrs=True) for m in (446, 447))
    with_loo = agreement(by_method, "mean", "spearman", permutations=5)
    curves = {name: mean_p_by_checkpoints(one) for name, one in by_method.items()}
    shares = variance_shares(
        xr.DataArray(scores.values.reshape(2, 3, 3, 9, 12), dims=(*CROSSED, "train", "test")),
        resamples=5,
    )
    study = {"MNIST3": {"10": {"loo": overall_reliability(scores)}}}
    return {
        "concept": plots.concept(scores, PAIRS),
        "tau_histograms": plots.tau_histograms(by_method, PAIRS),
        "mean_against_std": plots.mean_against_std(summary),
        "reliability_map": plots.reliability_map(summary),
        "rank_change": plots.rank_change(a, b, 3),
        "p_by_checkpoints": plots.p_by_checkpoints(curves),
        "significant_fractions": plots.significant_fractions({**SUMMARIES, "loo": summary}),
        "full_set": plots.full_set({**SUMMARIES, "loo": summary}, with_loo),
        "agreement_matrices": plots.agreement_matrices({("mean", "spearman"): with_loo}),
        "noise_sources": plots.noise_sources({"loo": shares}),
        "reliability_by": plots.reliability_by(study, "size"),
        "reliability_by_checkpoints": plots.reliability_by_checkpoints(
            {title: {1: one["10"]} for title, one in study.items()}
        ),
        "explore_pairs": plots.explore_pairs({**SUMMARIES, "loo": summary}, points=80),
    }


# These draw nothing with a unit, or changes of losses, which are in nats.
WITHOUT_UNIT = {
    "agreement_by_members",
    "agreement_by_study",
    "choose_two",
    "face_to_face",
    "floor_by_steps",
    "groups_by_size",
    "images",
    "remedies_by_steps",
    "weight_paths",
}
# The numbers of a pair, which have a unit: "mean 8.51, standard deviation 0.406".
WITH_UNIT = re.compile(r"(?:(?<=mean )|(?<=deviation ))-?\d[\d.e+-]*\d")


def filled(figure: Figure) -> list[np.ndarray]:
    """Heights of bars beside the highest, and colours of maps."""
    of_axes = (
        [p.get_height() for p in axes.patches if hasattr(p, "get_height")] for axes in figure.axes
    )
    bars = [np.array(heights) for heights in of_axes]
    colours = [image.norm(image.get_array()) for image in figure.findobj(AxesImage)]
    return [one / one.max() for one in bars if one.size] + [np.ma.filled(c, -9) for c in colours]


@pytest.mark.parametrize("unit", [1e-300, 1e155, 1e300])
def test_a_figure_shows_the_same_in_any_unit(unit: float) -> None:
    plain = in_unit(1.0)
    assert plain.keys() == {name for name in plots.__all__ if name.islower()} - WITHOUT_UNIT
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = in_unit(unit)
    for name, figure in found.items():
        text, wanted = outputs.alt_text(figure), outputs.alt_text(plain[name])
        assert WITH_UNIT.sub("", text) == WITH_UNIT.sub("", wanted), name
    for name in ("concept", "reliability_map"):
        for one, other in zip(filled(found[name]), filled(plain[name]), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    numbers = [
        np.array(WITH_UNIT.findall(outputs.alt_text(one["concept"])), float)
        for one in (found, plain)
    ]
    assert numbers[0].size == 4
    np.testing.assert_allclose(numbers[0], numbers[1] * unit, rtol=1e-2)


@pytest.mark.parametrize("name", ["concept", "p_by_checkpoints", "rank_change"])
def test_figures_do_not_depend_on_the_notebooks_settings_or_change_them(name) -> None:
    dark = {"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9, "text.color": "w"}
    with matplotlib.rc_context(dark):
        before = dict(matplotlib.rcParams)
        figure = FIGURES[name]()
        assert dict(matplotlib.rcParams) == before
    assert written(figure) == written_once(name)


@pytest.mark.parametrize("name", [name for name in FIGURES if "explore" not in name])
def test_no_text_is_cut_off_and_titles_do_not_overlap(name: str) -> None:
    whole(FIGURES[name]())
