"""The explorer's numbers are those of `reliability`, and its page is whole by itself."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr

from tda_utils.reliability import words
from tda_utils.reliability.significance import significant, summarise
from tda_utils.terms import METHOD_LABELS
from tools.explorer import page


def scores_of(task, seed: int, **attributes: object) -> xr.DataArray:
    """Scores of 5 members and 2 checkpoints, of which few stand out."""
    rng = np.random.default_rng(seed)
    shape = (task.n_train, task.n_test)
    signal = rng.normal(size=shape) * (rng.random(shape) < 0.4)
    return xr.DataArray(
        signal + 0.3 * rng.normal(size=(5, 1, *shape)) + 0.1 * rng.normal(size=(5, 2, *shape)),
        {"train": task.train_index.numpy(), "test": task.test_index.numpy()},
        ("member", "checkpoint", "train", "test"),
        attrs={"sign": "removal", **attributes},
    )


@pytest.fixture
def scores(tiny_task) -> dict[str, dict[str, xr.DataArray]]:
    same = scores_of(tiny_task, 2)
    return {
        "paired": {"loo": scores_of(tiny_task, 0), "grad_dot": same},
        "released": {"loo": scores_of(tiny_task, 1, sign="upweighting"), "grad_dot": same},
    }


@pytest.mark.parametrize(("protocol", "test"), [("paired", "t"), ("released", "released")])
def test_numbers_are_those_of_the_protocols_test(scores, tiny_task, protocol, test):
    found = page.page_data(scores, tiny_task)["results"][protocol]["loo"]
    sign = -1 if protocol == "released" else 1
    summary = summarise(sign * scores[protocol]["loo"], test)
    for name in ("mean", "std", "p"):
        np.testing.assert_allclose(found[name], summary[name].values.ravel(), rtol=6e-4)
    excludes_zero = np.abs(found["mean"]) > np.array(found["half"])
    verdict = np.array(found["verdict"])
    np.testing.assert_array_equal(excludes_zero, verdict >= words.MAY_BE_LUCK)
    found_by_rule = significant(summary["p"]).values.ravel()
    np.testing.assert_array_equal(verdict == words.REPEATS, found_by_rule)
    assert {words.CANNOT_TELL, words.MAY_BE_LUCK} <= set(found["verdict"])


def test_draws_are_in_the_order_that_is_said_and_written_once(scores, tiny_task):
    data = page.page_data(scores, tiny_task)
    tau = scores["paired"]["loo"]
    draws = np.reshape(data["draws"]["paired-loo"], (tiny_task.n_train, tiny_task.n_test, 5, 2))
    np.testing.assert_allclose(draws[3, 2], tau[:, :, 3, 2], rtol=6e-4)
    names = {p: one["grad_dot"]["draws"] for p, one in data["results"].items()}
    assert names == {"paired": "paired-grad_dot", "released": "paired-grad_dot"}
    assert len(data["draws"]) == 3


def test_contradictions_are_those_of_the_data(scores, tiny_task):
    data = page.page_data(scores, tiny_task)
    some = 0
    for protocol, results in data["results"].items():
        loo, dot = results["loo"], results["grad_dot"]
        both = np.equal(loo["verdict"], words.REPEATS) & np.equal(dot["verdict"], words.REPEATS)
        opposite = both & (np.array(loo["mean"]) * np.array(dot["mean"]) < 0)
        found = data["contradictions"][protocol]
        assert found == {
            "pairs": opposite.sum(),
            "of_two": {"loo,grad_dot": [both.sum(), opposite.sum()]},
        }
        some += opposite.sum()
    assert some > 0


def test_it_starts_with_the_smallest_p(scores, tiny_task):
    data = page.page_data(scores, tiny_task)
    start = data["start"]
    p = np.reshape(data["results"]["paired"]["loo"]["p"], (tiny_task.n_train, tiny_task.n_test))
    assert (start["protocol"], start["method"]) == ("paired", "loo")
    assert p[start["train"], start["test"]] == p.min()


def test_an_infinite_score_is_refused(scores, tiny_task):
    scores["paired"]["loo"][2, 1, 4, 3] = np.inf
    with pytest.raises(ValueError, match="1 infinite"):
        page.page_data(scores, tiny_task)


def test_a_score_that_is_no_number_takes_its_pair_out_and_no_other(scores, tiny_task):
    clean = page.page_data(scores, tiny_task)["results"]["paired"]["loo"]
    scores["paired"]["loo"][2, 1, 4, 3] = np.nan
    data = page.page_data(scores, tiny_task)
    found = data["results"]["paired"]["loo"]
    pair = 4 * tiny_task.n_test + 3
    assert [found[name][pair] for name in ("mean", "std", "p", "half")] == [None] * 4
    assert found["verdict"][pair] == words.NO_SCORE
    assert found["verdict"].count(words.NO_SCORE) == 1
    assert found["p"][:pair] == clean["p"][:pair]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_only_attributed_training_samples_are_shown(scores, tiny_task):
    few = tiny_task.attribute_only([1, 4])
    index = few.train_index[few.rows].numpy()
    chosen = {p: {m: t.sel(train=index) for m, t in one.items()} for p, one in scores.items()}
    data = page.page_data(chosen, few)
    assert [one["index"] for one in data["train"]] == index.tolist()


def test_bad_scores_are_named(scores, tiny_task):
    with pytest.raises(ValueError, match="'mine'.*'paired'.*'released'"):
        page.page_data({"mine": scores["paired"]}, tiny_task)
    fewer = {**scores, "released": {"loo": scores["released"]["loo"]}}
    with pytest.raises(ValueError, match=r"scores\['released'\].*'loo'"):
        page.page_data(fewer, tiny_task)
    others = {"paired": {"loo": scores["paired"]["loo"][:, :, ::-1]}}
    with pytest.raises(ValueError, match=r"scores\['paired'\]\['loo'\].*train"):
        page.page_data(others, tiny_task)
    short = {"paired": scores["paired"] | {"grad_dot": scores["paired"]["grad_dot"][:4]}}
    with pytest.raises(ValueError, match=r"\(4, 2\), \(5, 2\)"):
        page.page_data(short, tiny_task)


def test_the_page_is_whole_and_asks_no_one(scores, tiny_task):
    text = page.page(page.page_data(scores, tiny_task))
    assert not re.findall(r"@@[A-Z_]+@@", text)
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:)', outside)
    assert "url(" not in outside and "@import" not in outside
    held = re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(held)["members"] == 5
    assert f"{tiny_task.n_train * tiny_task.n_test} pairs" in text
    for method in METHOD_LABELS:
        assert f"  {method}: [" in text, f"the page has no words for {method}"


def test_every_colour_of_the_charts_is_set_in_both_schemes():
    assert page.THEMES["light"].keys() == page.THEMES["dark"].keys()
    for name, chart in page.charts().items():
        used = set(re.findall(r'"expr": "(\w+)"', json.dumps(chart.to_dict())))
        assert used and used <= page.THEMES["light"].keys(), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_ground(scheme):
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    theme = page.THEMES[scheme]
    for name in ("ink", "soft", "helps", "hurts"):
        one, two = sorted((luminance(theme[name]), luminance(theme["ground"])))
        assert (two + 0.05) / (one + 0.05) >= (4.5 if name in ("ink", "soft") else 3), name
