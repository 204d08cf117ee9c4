"""The report as a whole: what it says, keeps and writes."""

import numpy as np
import pandas as pd

import tda_utils as tda
from tda_utils.reliability import words
from tests.refusals import refused
from tests.reliability.scores import labelled, noise
from tests.report.cases import floor_of, signal
from tests.tiny import build_mlp, build_tiny_cnn, make_task, table_task


def test_the_sentence_says_what_the_table_counts():
    made = tda.report(signal().rename("tracin"))
    row = made.tables["verdict"].iloc[0]
    for number in ("repeats", "may_be_luck", "cannot_tell", "pairs", "members"):
        assert str(row[number]) in made.sentence
    assert repr(made) == f"Report: {made.sentence}" and "tracin" in made.sentence
    assert "right" not in made.sentence, "nothing independent says so"
    np.testing.assert_array_equal(
        made.words["tracin"] == words.REPEATS, tda.significant(made.summaries["tracin"]["p"])
    )


def test_right_is_said_only_beside_leave_one_out():
    scores = signal()
    made = tda.report({"if": scores, "loo": scores, "floor": floor_of(scores, 0.01)})
    assert "100 % of what repeats in if is right" in made.sentence
    assert "no answer for one model in 0 %" in made.sentence


def test_a_page_and_its_tables_are_written_and_hold_the_same(tmp_path):
    made = tda.report({"a": signal(), "b": signal(7)})
    path = made.save(tmp_path / "deep" / "mine.html")
    assert path.read_text(encoding="utf-8") == made.html
    folder = path.with_name("mine_tables")
    written = {file.stem for file in folder.iterdir()}
    assert written == {name for name, table in made.tables.items() if len(table)}
    top = pd.read_csv(folder / "top.csv")
    assert top["method"].tolist() == made.tables["top"]["method"].tolist()
    np.testing.assert_allclose(top["mean"], made.tables["top"]["mean"], rtol=1e-5)
    assert not tda.report(signal()).save(tmp_path / "a.html", tables=False).with_name(
        "a_tables"
    ).exists()  # fmt: skip


def test_the_same_scores_give_the_same_page():
    assert tda.report(signal()).html == tda.report(signal()).html


def test_the_order_of_samples_changes_no_count():
    scores = signal()
    other = scores.isel(train=slice(None, None, -1), test=[3, 1, 0, 2, 8, 7, 6, 5, 4])
    one, two = (tda.report(s).tables["verdict"] for s in (scores, other))
    pd.testing.assert_frame_equal(one, two)


def test_lists_are_of_test_samples_with_most_to_say_and_of_a_hundred_at_most():
    scores = labelled(noise(0, (6, 1, 6, 130)), sign="removal")
    scores[:, :, :, 7] += 9
    made = tda.report(scores, k=2, shown=1)
    tests = made.tables["top"]["test"]
    assert tests.iloc[0] == scores["test"].values[7] and 90 <= tests.nunique() <= 100
    # A list that is longer than there are training samples ends with them.
    assert tda.report(scores, k=50).tables["top"]["place"].max() == 6


def test_a_posterior_of_images_and_of_rows_shows_them():
    for build, task, sign in (
        (build_tiny_cnn, make_task(), "<img"),
        (build_mlp, table_task(), 'class="row"'),
    ):
        recipe = tda.Recipe(epochs=2, keep_last=2, batch_size=4)
        posterior = tda.sample_posterior(build, task, recipe, [1, 2, 3])
        made = tda.report(posterior, task, methods=["grad_cos", "influence"])
        assert list(made.summaries) == ["grad_cos", "influence"]
        assert sign in made.html and len(made.tables["groups"])


def test_bad_input_gets_one_clear_sentence():
    scores = signal()
    refused(ValueError, lambda: tda.report(scores, k=0), "k is 0", "at least 1")
    refused(ValueError, lambda: tda.report(scores, shown=0), "shown is 0", "at least 1")
    refused(ValueError, lambda: tda.report(scores, alpha=2.0), "alpha", "0 and 1", "2.0")
    refused(ValueError, lambda: tda.report(scores[:1]), "1 member", "two")
    refused(ValueError, lambda: tda.report(scores, train_samples=["a"]), "train_samples", "1", "12")
    floor = floor_of(scores, 1.0).isel(test=slice(3))
    refused(ValueError, lambda: tda.report({"loo": scores}, floor=floor), "floor", "test")
