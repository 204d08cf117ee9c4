"""The explorer of pairs: its rows are pairs of the summary, and it compiles."""

import json

import numpy as np
import pytest
import vl_convert

from tda_utils import outputs, plots
from tda_utils.plots.pictures import checked_pictures, picture_table
from tests.plots.drawn import (
    PAIRS,
    PICTURES,
    SCORES,
    SUMMARIES,
    SUMMARY,
)
from tests.refusals import refused


def records(chart: object) -> list[dict]:
    """The rows of pairs that travel inside the chart."""
    tables = chart.to_dict()["datasets"].values()
    return next(rows for rows in tables if "pair" in rows[0])


def test_explorer_rows_are_pairs_of_the_summary() -> None:
    rows = records(plots.explore_pairs(SUMMARY, points=40))
    assert len({row["pair"] for row in rows}) == len(rows) == 40
    for row in rows:
        expected = SUMMARY.sel(train=row["train"], test=row["test"])
        for name in ("mean", "std", "snr", "p"):
            assert row[name] == pytest.approx(float(expected[name]), rel=1e-3)
        same = expected["train_label"] == expected["test_label"]
        assert row["classes"] == ("same class" if same else "other class")
    best = PAIRS["Smallest p"]
    assert (rows[0]["train"], rows[0]["test"]) == (best["train"].item(), best["test"].item())


def test_explorer_shows_all_pairs_if_there_is_room_and_the_seed_decides_otherwise() -> None:
    assert len(records(plots.explore_pairs(SUMMARY, points=5000))) == 108
    drawn = [records(plots.explore_pairs(SUMMARY, points=40, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert "40 of 108 train-test pairs" in outputs.alt_text(plots.explore_pairs(SUMMARY, points=40))


def test_explorer_offers_a_menu_of_methods() -> None:
    specification = plots.explore_pairs(SUMMARIES, points=80).to_dict()
    (menu,) = [p for p in specification["params"] if p["name"] == "shown"]
    assert menu["bind"]["options"] == ["LOO", "ATS", "GC", "mine"]
    assert menu["value"] == "LOO"
    methods = [row["method"] for row in records(plots.explore_pairs(SUMMARIES, points=80))]
    assert {method: methods.count(method) for method in methods} == dict.fromkeys(
        ("LOO", "ATS", "GC", "mine"), 20
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_explorer_carries_the_pictures_and_compiles(channels: int) -> None:
    pictures = np.random.default_rng(2).random((12, channels, 8, 8))
    chart = plots.explore_pairs(SUMMARY, pictures[:9], pictures, points=20)
    tables = chart.to_dict()["datasets"].values()
    by_size = {len(rows): rows for rows in tables if "picture" in rows[0]}
    assert sorted(by_size) == [9, 12]
    assert [row["index"] for row in by_size[9]] == SCORES["train"].values.tolist()
    shown = checked_pictures(pictures, "test_images")
    expected = picture_table(shown, SUMMARY["test"].values)["picture"].tolist()
    assert [row["picture"] for row in by_size[12]] == expected
    # To compile is to find every selection and field that the views refer to.
    vega = vl_convert.vegalite_to_vega(chart.to_dict())
    assert {"brush", "hover", "shown"} <= {signal["name"] for signal in vega["signals"]}
    assert "http" not in json.dumps(vega["data"])


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (
            lambda: plots.explore_pairs(SUMMARY, points=9000),
            ValueError,
            ["points", "1 and 5000", 9000],
        ),
        (
            lambda: plots.explore_pairs(SUMMARY, PICTURES[:9]),
            ValueError,
            ["test_images", "train_images"],
        ),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, error: type[Exception], facts) -> None:
    refused(error, call, *facts)


def test_two_methods_are_drawn_against_each_other_pair_by_pair() -> None:
    chart = plots.choose_two(SUMMARIES, points=40)
    (rows,) = chart.to_dict()["datasets"].values()
    assert len(rows) == 40 and {row["classes"] for row in rows} == {"same", "different"}
    means = {name: one["mean"].values.ravel() for name, one in SUMMARIES.items()}
    for row in rows:
        (at,) = np.flatnonzero(np.isclose(means["loo"], row["loo"]))
        assert all(row[name] == pytest.approx(means[name][at]) for name in means)
    correlation = np.corrcoef(means["loo"], means["grad_cos"])[0, 1]
    assert f"correlation is {correlation:.2f}." in outputs.alt_text(chart)


def test_two_methods_need_two_of_the_same_samples() -> None:
    one = SUMMARIES["loo"]
    refused(ValueError, lambda: plots.choose_two({"loo": one}), "summaries", 2, "loo")
    other = {"loo": one, "ats": one.isel(train=slice(3))}
    refused(ValueError, lambda: plots.choose_two(other), "'ats'", "other samples")
    refused(ValueError, lambda: plots.choose_two(SUMMARIES, points=0), "points", 0)
