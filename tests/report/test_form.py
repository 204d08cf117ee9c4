"""The form of scores: what is a cube, what is said where it is none, and the way to files."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tda_utils.report import form
from tda_utils.texts import UnfitFile
from tests.refusals import refused
from tests.reliability.scores import labelled, noise, score_arrays


def test_a_plain_array_becomes_a_cube_by_the_number_of_its_axes():
    values = noise(1, (2, 3, 4, 5))
    for array, dims in (
        (values, ("member", "checkpoint", "train", "test")),
        (values[:, 0], ("member", "train", "test")),
        (values[0, 0], ("member", "train", "test")),
    ):
        made = form.cube(array, method="m", sign="removal", damping=0.5)
        assert made.dims == dims and made.attrs == {
            "method": "m",
            "sign": "removal",
            "damping": 0.5,
        }
        np.testing.assert_array_equal(made.values.reshape(array.shape), array)


@given(score_arrays(), st.permutations(("member", "checkpoint", "train", "test")))
def test_axes_may_come_in_any_order_if_they_have_names(scores, dims):
    made = form.cube(scores.transpose(*dims).values, dims)
    np.testing.assert_array_equal(made.values, scores.values)


def test_labels_become_coordinates():
    made = form.cube(
        np.zeros((2, 3)), train=["a", "b"], test=3, coordinates={"test_label": ("test", [0, 1, 0])}
    )
    assert made.sel(train="b").sizes["test"] == 3 and made["test_label"].values.tolist() == [
        0,
        1,
        0,
    ]
    refused(ValueError, lambda: form.cube(np.zeros((2, 3)), train=["a", "a"]), "'a' twice")
    wrong = {"test_label": ("test", [0, 1])}
    refused(ValueError, lambda: form.cube(np.zeros((2, 3)), coordinates=wrong), "labels", "test")


def test_swapped_axes_are_told_by_their_sizes():
    array = np.zeros((4, 3, 5))
    for sizes in ({"train": 5, "test": 3}, {"train": 5}, {"test": 3}):
        refused(ValueError, lambda sizes=sizes: form.cube(array, **sizes), "3 train", "swapped")
    refused(ValueError, lambda: form.cube(array, train=4), "3 train samples", "4")
    right = form.cube(array, ("member", "test", "train"), train=5, test=3)
    assert right.sizes == {"member": 4, "train": 5, "test": 3}


def test_what_is_no_array_of_scores_is_refused():
    refused(TypeError, lambda: form.cube([["a"]]), "scores", "real numbers", "U1")
    refused(ValueError, lambda: form.cube(np.zeros(3)), "(3,)", "(train, test)")
    refused(ValueError, lambda: form.cube(np.zeros((3, 2)), ("train",)), "1 axes", "2")
    refused(ValueError, lambda: form.cube(np.array([[np.inf]])), "1 infinite")
    refused(ValueError, lambda: form.cube(np.zeros((2, 3)), sign="up"), "'up'", "'removal'")


PROBLEMS = {
    "no array": ([1.0], "[1.0]"),
    "texts": (xr.DataArray(["a"], dims="train"), "<U1"),
    "other dims": (labelled(noise()).rename(train="rows"), "rows"),
    "empty": (labelled(noise())[:, :, :0], "nothing along train"),
    "method": (labelled(noise(), method=3), "its method is 3"),
    "label": (labelled(noise()).assign_coords(member=[1, 1, 2, 3, 4, 5]), "label 1 twice"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_each_problem_is_one_sentence(case):
    scores, fact = PROBLEMS[case]
    (sentence,) = form.problems(scores)
    assert fact in sentence and sentence.endswith(".") and "\n" not in sentence
    with pytest.raises((TypeError, ValueError), match="mine: "):
        form.checked(scores, "mine")


def test_what_one_should_know_is_remarked():
    values = noise()
    values[0, 0, 0, :2] = np.nan
    assert len(form.remarks(labelled(noise(), sign="removal"))) == 0
    nan, sign = form.remarks(labelled(values))
    assert nan.startswith("2 of 630") and "sign" in sign
    (one,) = form.remarks(labelled(noise(), sign="removal")[:1])
    assert "one member" in one


ATTRIBUTES = st.dictionaries(
    st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.lists(st.integers(-5, 5), max_size=3),
    max_size=4,
)


@given(score_arrays(), ATTRIBUTES)
def test_what_is_packed_comes_out_again(scores, attributes):
    attributes = {
        name: value for name, value in attributes.items() if name not in ("method", "sign")
    }
    scores = scores.assign_attrs(attributes).rename("tau")
    packed = form.packed(scores, "key")
    kinds = {type(value) for value in packed.attrs.values()}
    assert kinds <= {str, int, float}, "what every file keeps"
    key, back = form.unpacked(packed, "here")
    assert key == "key"
    xr.testing.assert_identical(back, scores)


def test_what_no_file_keeps_is_refused():
    scores = labelled(noise())
    bad = scores.assign_attrs(model=object())
    refused(ValueError, lambda: form.packed(bad, "m"), "'model'", "text, a number")
    mixed = scores.assign_coords(kind=("train", np.array([1, "a", 2, 3, 4], dtype=object)))
    refused(ValueError, lambda: form.packed(mixed, "m"), "'kind'", "texts or numbers")
    dates = scores.assign_coords(day=("train", np.zeros(5, "M8[D]")))
    refused(ValueError, lambda: form.packed(dates, "m"), "'day'", "datetime64")


def test_a_dataset_of_another_kind_is_refused():
    good = form.packed(labelled(noise()), "m")
    for change, fact in (
        ({"format": "other"}, "'other'"),
        ({"format_version": 2}, "version 2"),
        ({"more": "{"}, "JSON"),
        ({"more": "[]"}, "object"),
        ({"sign": "up"}, "'up'"),
    ):
        bad = good.assign_attrs(change)
        refused(UnfitFile, lambda bad=bad: form.unpacked(bad, "here"), "here", fact)
    bare = good.rename(scores="tau")
    refused(UnfitFile, lambda: form.unpacked(bare, "here"), "here", "'scores'", "'tau'")


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path):
    path = tmp_path / "below" / "a"
    with form.replacing(path) as made:
        made.write_text("1")
    assert path.read_text() == "1"
    with pytest.raises(KeyError), form.replacing(path) as made:
        raise KeyError(made.write_text("2"))
    assert path.read_text() == "1" and list(path.parent.iterdir()) == [path]


def test_an_array_beyond_memory_is_refused():
    form.bounded("here", (2**30,), 8)
    refused(UnfitFile, lambda: form.bounded("here", (2**30 + 1,), 8), "here", "at most 8 GiB")
