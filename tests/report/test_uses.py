"""What scores are used for: planted mistakes are found, and noise is called noise."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import tda_utils as tda
from tda_utils import Recipe, Task
from tda_utils.reliability import top_lists
from tda_utils.report import uses
from tests.refusals import refused
from tests.reliability.scores import labelled, noise


@pytest.fixture(scope="module")
def mistaken():
    """Two classes far apart, some training labels of which are wrong; tested on itself and more."""
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    rows = generator.normal(size=(40, 4)) + 3 * labels[:, None]
    wrong = np.array([3, 8, 21, 30])
    given = labels.copy()
    given[wrong] = 1 - given[wrong]
    more = generator.normal(size=(20, 4)) + 3 * (np.arange(20) % 2)[:, None]
    test_labels = np.concatenate([given, np.arange(20) % 2])
    task = Task.from_arrays(rows, given, np.concatenate([rows, more]), test_labels)
    posterior = tda.sample_posterior(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
        task,
        Recipe(epochs=20, keep_last=1, batch_size=8, lr=0.02),
        [1, 2, 3, 4, 5],
    )
    return tda.influence(posterior, task), task, wrong


def test_mislabelled_samples_lead_the_list(mistaken):
    scores, task, wrong = mistaken
    found = uses.mislabelled(scores, 6, task)
    assert set(wrong) <= set(found["train"])
    assert (found["word"] == "repeats").all() and found["in_top"].between(0, 1).all()
    assert found["train_label"].tolist() == [int(task.train_y[at]) for at in found["train"]]
    own = scores.isel(checkpoint=0).values[:, np.arange(40), np.arange(40)]
    np.testing.assert_allclose(found["value"], own.mean(0)[found["train"]])


def test_mislabelled_samples_hurt_the_others(mistaken):
    scores, _, wrong = mistaken
    others = scores.isel(test=slice(40, None))
    for use in (uses.harmful, uses.to_relabel):
        found = use(others, 4)
        assert len(set(found["train"]) & set(wrong)) >= 3, use.__name__
        assert (found["value"] < 0).all() and (found["high"] >= found["value"]).all()


def test_what_can_go_is_what_has_no_effect():
    true = np.repeat([0.0, 2.0], 10)[:, None] * np.random.default_rng(1).choice([-1, 1], (20, 30))
    scores = labelled(true + 3 * noise(2, (10, 1, 20, 30)), sign="removal")
    found = uses.to_prune(scores, 10)
    assert set(found["train"]) == set(scores["train"].values[:10])
    all_of_them = uses.to_prune(scores, 20).set_index("train")
    assert (all_of_them.loc[scores["train"].values[10:], "word"] == "repeats").all()
    # Noise adds nothing on average, though its squares are large.
    assert abs(all_of_them.loc[scores["train"].values[:10], "value"].mean()) < 0.3


def test_noise_is_not_called_anything_else():
    words = []
    for seed in range(20):
        scores = labelled(noise(seed, (6, 1, 15, 10)), sign="removal")
        words += uses.harmful(scores, 15)["word"].tolist()
        words += uses.to_prune(scores, 15)["word"].tolist()
    assert np.mean(np.array(words) == "repeats") < 0.02


def test_a_list_is_that_of_ranks_of_its_number():
    scores = labelled(noise(3, (6, 2, 9, 10)), sign="removal")
    mine = uses.harmful(scores, 3)
    number = scores.mean(("checkpoint", "test")).expand_dims("test", -1)
    lists = top_lists(number, 3, highest=False).isel(test=0)
    for column, name in {
        "train": "train",
        "value": "mean",
        "in_top": "in_top",
        "rank_low": "low",
    }.items():
        np.testing.assert_allclose(mine[column], lists[name])


def test_bad_input_gets_one_clear_sentence():
    scores = labelled(noise(), sign="removal")
    refused(ValueError, lambda: uses.harmful(scores, 6), "n is 6", "from 1 to 5")
    refused(ValueError, lambda: uses.harmful(scores.drop_attrs(), 2), "sign None", "'removal'")
    refused(ValueError, lambda: uses.mislabelled(scores, 2), "same is None")
    refused(ValueError, lambda: uses.to_prune(scores[:1], 2), "1 along member")
    refused(TypeError, lambda: uses.to_relabel(torch.zeros(2, 2, 2), 1), "Tensor")
    assert isinstance(scores, xr.DataArray)
