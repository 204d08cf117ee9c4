"""Members, epochs and samples as the coordinates of a cube of scores."""

import warnings

import numpy as np
import pytest

from tda_utils.labels import DIMS, as_scores, member_coordinates
from tests.refusals import refused

SAMPLES = {
    "train": np.array([30, 10, 20]),
    "train_label": ("train", np.array([0, 1, 1])),
    "test": np.array([7, 5]),
}
METHOD = {"method": "loo", "sign": "removal"}


def cube(members=2, checkpoints=2):
    return np.arange(members * checkpoints * 6.0).reshape(members, checkpoints, 3, 2)


@pytest.mark.parametrize(
    ("init_seeds", "order_seeds", "names"),
    [
        ((446, 724), (1, 2), [1, 2]),
        ((446, 724), (1, 1), [446, 724]),
        ((446, 446), (1, 2), [1, 2]),
        ((446, 446), (1, 1), [0, 1]),
        ((446, 724), None, [446, 724]),
        (None, None, [0, 1]),
    ],
)
def test_a_member_is_named_by_a_seed_that_is_its_own_or_by_its_position(
    init_seeds, order_seeds, names
):
    found = member_coordinates((14, 15), 2, init_seeds, order_seeds)
    assert found["member"].tolist() == names
    assert found["checkpoint"].tolist() == [14, 15]
    for name, seeds in (("init_seed", init_seeds), ("order_seed", order_seeds)):
        assert (name in found) == (seeds is not None)
        if seeds is not None:
            dim, values = found[name]
            assert dim == "member" and values.tolist() == list(seeds)


def test_every_score_stands_where_its_labels_say():
    members = member_coordinates((14, 15), 2, (446, 446), (1, 2))
    values = cube().astype(np.float32)
    tau = as_scores(values, members, SAMPLES, METHOD)
    assert tau.dims == DIMS and tau.dtype == np.float32 and tau.name == "loo"
    assert tau.attrs == METHOD and tau.attrs is not METHOD
    chosen = tau.sel(member=2, checkpoint=14, train=20, test=7)
    assert chosen.item() == values[1, 0, 2, 0]
    assert chosen.train_label.item() == 1 and chosen.init_seed.item() == 446


def test_scores_that_are_finite_are_handed_on_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tau = as_scores(cube(), member_coordinates((14, 15), 2), SAMPLES, METHOD)
    np.testing.assert_array_equal(tau, cube())


def test_scores_that_are_not_finite_become_nan_and_their_members_are_named():
    values = cube()
    values[0, 1, 2, 0], values[1, 1, 0, 0], values[1, 1, 1, 1] = np.inf, np.nan, -np.inf
    given = values.copy()
    with pytest.warns(RuntimeWarning) as caught:
        tau = as_scores(values, member_coordinates((14, 15), 2, (446, 724)), SAMPLES, METHOD)
    said = [str(one.message) for one in caught]
    assert len(said) == 2
    for sentence, facts in zip(
        said, (("loo", "1 of 6", "446", "15"), ("loo", "2 of 6", "724", "15")), strict=True
    ):
        assert all(fact in sentence for fact in facts), sentence
    np.testing.assert_array_equal(np.isnan(tau), ~np.isfinite(given))
    np.testing.assert_array_equal(tau.values[np.isfinite(given)], given[np.isfinite(given)])
    # What was handed over is left as it was.
    np.testing.assert_array_equal(values, given)


@pytest.mark.parametrize(
    ("values", "error", "facts"),
    [
        (np.ones((1, 1, 3, 1)), ValueError, ["values", (1, 1, 3, 1), "1, 1, 2, any"]),
        (np.ones((1, 1, 2)), ValueError, ["values", (1, 1, 2)]),
        (np.ones((1, 1, 2, 1), complex), TypeError, ["values", "real", "complex128"]),
        (np.ones((1, 1, 2, 1), bool), TypeError, ["values", "real", "bool"]),
        (
            np.ma.masked_array(np.ones((1, 1, 2, 1)), True),
            ValueError,
            ["values", "2 of 2", "masked"],
        ),
    ],
)
def test_values_that_are_no_scores_of_these_samples_are_named(values, error, facts):
    members = member_coordinates((15,), 1, (446,))
    refused(error, lambda: as_scores(values, members, {"train": [7, 9]}, {"method": "m"}), *facts)
    one = np.ones((1, 1, 2, 1))
    refused(ValueError, lambda: as_scores(one, members, {}, {}), "method None", "text")
