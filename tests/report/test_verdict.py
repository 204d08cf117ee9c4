"""The verdict: one vocabulary, and tables that say what the reliability wing says."""

import numpy as np
import pytest
import xarray as xr

from tda_utils.reliability import seeds_needed, words
from tda_utils.report import verdict
from tests.reliability.scores import labelled, noise
from tests.report.cases import floor_of, signal


def judged(**scores):
    """Judge scores by method; ``floor`` is one."""
    floor = scores.pop("floor", None)
    return {
        name: verdict.judge(name, one, 0.05, floor if name == "loo" else None)
        for name, one in scores.items()
    }


def test_the_first_table_counts_all_pairs():
    scores = signal()
    scores[0, 0, 2, 3] = np.nan
    (row,) = verdict.table_of_verdicts(judged(a=scores)).to_dict("records")
    assert row["repeats"] + row["may_be_luck"] + row["cannot_tell"] + 1 == row["pairs"] == 108
    assert row["no_score"] == 1 and (row["members"], row["checkpoints"]) == (8, 2)
    assert row["share_that_repeats"] == row["repeats"] / 107
    assert row["low"] <= row["share_that_repeats"] <= row["high"]
    assert row["p_below_alpha_by_noise"] == pytest.approx(0.05 * 107)


def test_noise_repeats_hardly_ever():
    found = [
        judged(a=labelled(noise(seed, (6, 1, 10, 10))))["a"].count(words.REPEATS)
        for seed in range(40)
    ]
    # All are false; the rule lets at most one experiment in twenty find any.
    assert np.mean(np.array(found) > 0) <= 0.15


def test_the_clearest_pairs_come_first(monkeypatch):
    monkeypatch.setattr(verdict, "LISTED", 10)
    one = judged(a=signal())
    table = verdict.table_of_pairs(one)
    p = one["a"].summary["p"]
    np.testing.assert_allclose(table["p"], np.sort(p.values.ravel())[:10])
    for row in table.to_dict("records"):
        assert p.sel(train=row["train"], test=row["test"]).item() == row["p"]


def test_lists_have_words_and_labels():
    one = judged(a=signal())["a"]
    lists = verdict.lists_of(one, 3, np.array([4, 0]))
    table = verdict.table_of_lists({"a": lists.assign_coords(at=("test", [4, 0]))})
    assert table["test"].unique().tolist() == one.scores["test"].values[[4, 0]].tolist()
    for row in table.to_dict("records"):
        at = {"train": row["train"], "test": row["test"]}
        assert row["mean"] == pytest.approx(one.summary["mean"].sel(at).item())
        place = [one.scores.get_index(dim).get_loc(at[dim]) for dim in at]
        assert row["word"] == words.WORDS[one.words[tuple(place)]]
        assert row["train_label"] == place[0] % 3


def test_methods_that_contradict_each_other_are_found_and_what_loo_confirms_is_right():
    scores = signal(shape=(8, 2, 12, 9))
    other = scores.copy(data=scores.values + 0.1 * noise(9, scores.shape))
    other[:, :, :4] *= -1
    both = judged(a=other, loo=scores)
    (row,) = verdict.table_of_agreement(both).to_dict("records")
    repeat = (both["a"].words == 2) & (both["loo"].words == 2)
    assert row["both_repeat"] == repeat.sum()
    assert row["opposite_signs"] == repeat[:4].sum() > 0
    assert row["right"] == repeat[4:].sum()
    against = verdict.table_of_contradictions(both)
    assert len(against) == row["opposite_signs"]
    assert (against["mean_a"] * against["mean_b"] < 0).all()
    assert set(against["train"]) <= set(scores["train"].values[:4])
    assert row["low"] <= row["correlation"] <= row["high"]


def test_a_large_floor_leaves_no_answer_for_one_model():
    scores = signal().assign_attrs(method="loo")
    small, large = (
        verdict.table_of_floor(judged(loo=scores, floor=floor_of(scores, size))["loo"]).iloc[0]
        for size in (1e-3, 100.0)
    )
    assert small["no_answer_for_one_model"] == 0 < small["of_pairs"]
    assert large["no_answer_for_one_model"] == large["of_pairs"] == 108
    assert large["floor_by_scores"] > 1 > small["floor_by_scores"]


def test_variance_is_split_by_source():
    steady = np.random.default_rng(0).normal(size=(8, 1, 12, 9)) + 0.01 * noise(2, (8, 3, 12, 9))
    table = verdict.table_of_variance(judged(a=labelled(steady), b=labelled(steady[:, :1])))
    assert table["method"].tolist() == ["a", "a"]
    shares = table.set_index("source")["share"]
    assert shares["member"] > 0.99 and shares.sum() == pytest.approx(1)


def test_how_many_members_are_needed_is_what_the_reliability_wing_says():
    one = judged(a=signal(strength=0.5))
    table = verdict.table_of_members(one)
    wanted = seeds_needed(one["a"].few, power=verdict.POWER)["needed"].item()
    assert table["needed"].tolist() == [wanted] and wanted > 8


def test_groups_add_up_classes_and_average_over_test_samples():
    scores = signal()
    table = verdict.table_of_groups(judged(a=scores), 0.05).set_index(
        ["training_class", "test_class"]
    )
    flat = scores.mean("checkpoint").values
    for (train, test), row in table.iterrows():
        own = flat[:, np.arange(12) % 3 == train][:, :, np.arange(9) % 3 == test]
        of_members = own.sum(1).mean(1)
        assert row["mean"] == pytest.approx(of_members.mean())
        assert row["std"] == pytest.approx(of_members.std(ddof=1))
    assert len(verdict.table_of_groups(judged(a=scores.drop_vars("train_label")), 0.05)) == 0


def test_intervals_of_large_cubes_are_those_of_some_pairs(monkeypatch):
    scores = signal(shape=(6, 1, 40, 30))
    whole = judged(a=scores)["a"]
    monkeypatch.setattr(verdict, "MOST_PAIRS", 600)
    some = judged(a=scores)["a"]
    assert some.few.sizes["train"] == 600 and whole.few.sizes["train"] == 1200
    np.testing.assert_array_equal(some.words, whole.words)
    mine, theirs = (one.numbers["overall"]["value"].values for one in (some, whole))
    np.testing.assert_allclose(mine, theirs, atol=0.1)
    assert set(map(tuple, some.few.values[..., 0].reshape(6, -1).T)) <= set(
        map(tuple, scores.values.reshape(6, -1).T)
    )


def test_all_of_it_is_the_same_whatever_the_type_of_number():
    scores = signal().astype(np.float32)
    one, other = judged(a=scores)["a"], judged(a=scores.astype(np.float64))["a"]
    np.testing.assert_array_equal(one.words, other.words)
    xr.testing.assert_allclose(one.summary, other.summary)
