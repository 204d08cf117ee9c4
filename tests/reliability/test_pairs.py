"""The two ends of the list of pairs."""

import numpy as np
import pytest
import xarray as xr

from tda_utils.reliability.pairs import clearest_pairs, least_certain_pairs
from tda_utils.reliability.significance import (
    summarise,
)
from tests.refusals import refused
from tests.reliability.scores import (
    labelled,
    noise,
)


def test_the_two_ends_of_the_list() -> None:
    scores = labelled(noise(12))
    summary = summarise(scores)
    order = np.argsort(summary["p"].values.ravel())
    for pairs, positions in (
        (clearest_pairs(summary, 4), order[:4]),
        (least_certain_pairs(summary, 4), order[:-5:-1]),
    ):
        rows, columns = np.unravel_index(positions, (5, 7))
        np.testing.assert_array_equal(pairs["train"], scores["train"].values[rows])
        np.testing.assert_array_equal(pairs["test"], scores["test"].values[columns])
        np.testing.assert_array_equal(pairs["train_label"], scores["train_label"].values[rows])
        for name in ("mean", "std", "snr", "p"):
            np.testing.assert_array_equal(pairs[name], summary[name].values[rows, columns])


def test_ties_in_p_are_broken_by_the_signal_to_noise_ratio() -> None:
    table = {"mean": 0.0, "std": 1.0, "snr": np.array([40.0, -60.0, 50.0]), "p": 0.0}
    summary = xr.Dataset(
        {k: (("train", "test"), np.broadcast_to(v, (1, 3)).copy()) for k, v in table.items()}
    )
    assert clearest_pairs(summary, 3)["test"].values.tolist() == [1, 2, 0]
    assert least_certain_pairs(summary, 3)["test"].values.tolist() == [0, 2, 1]


def test_pairs_without_p_are_never_picked() -> None:
    values = noise(13, (4, 1, 2, 2))
    values[0, 0, 0, 0] = np.nan
    summary = summarise(labelled(values))
    for pick in (clearest_pairs, least_certain_pairs):
        assert np.isfinite(pick(summary, 3)["p"]).all()
        refused(ValueError, lambda pick=pick: pick(summary, 4), "n ", 3, 4)


@pytest.mark.parametrize("pick", [clearest_pairs, least_certain_pairs])
def test_bad_input_gets_one_clear_sentence(pick) -> None:
    summary = summarise(labelled(noise()))
    refused(TypeError, lambda: pick(summary["p"]), "summary", "Dataset", "DataArray")
    refused(ValueError, lambda: pick(summary.drop_vars("snr")), "summary", "['snr']")
    refused(ValueError, lambda: pick(summary, 0), "n is 0", "at least 1")


def test_pairs_without_indices_are_named_by_position() -> None:
    bare = summarise(labelled(noise(12))).drop_vars(["train", "test"])
    assert dict(clearest_pairs(bare).sizes) == {"pair": 1}
    row, column = np.unravel_index(np.argmin(bare["p"].values), (5, 7))
    picked = clearest_pairs(bare)
    assert (picked["train"].item(), picked["test"].item()) == (row, column)
