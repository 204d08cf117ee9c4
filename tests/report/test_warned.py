"""What a report warns of, each case made on purpose, and nothing where nothing is wrong."""

import numpy as np
import pandas as pd
import pytest

import tda_utils as tda
from tda_utils.report import verdict, warned
from tests.reliability.scores import labelled, noise
from tests.report.cases import signal
from tests.report.test_verdict import judged
from tests.tiny import build_mlp, table_task


def said_of(**scores):
    both = judged(**scores)
    return warned.warnings_of(both, verdict.table_of_agreement(both))


def test_good_scores_get_no_warning():
    assert said_of(a=signal()) == []


def test_few_members_are_warned_of():
    (sentence,) = said_of(a=signal()[:4])
    assert "few members: 4" in sentence


def test_duplicated_members_are_named():
    scores = signal()
    scores[5] = scores[2]
    (sentence,) = said_of(a=scores)
    assert "duplicated members: " + str(scores["member"].values[5]) in sentence


def test_checkpoints_that_are_counted_as_members_are_found_by_their_likeness():
    runs = noise(3, (5, 1, 10, 12)) + 0.3 * noise(4, (5, 4, 10, 12))
    flat = labelled(runs.reshape(20, 1, 10, 12), sign="removal")
    (sentence,) = said_of(a=flat)
    assert "checkpoints counted as members" in sentence
    # In any other order one cannot tell.
    mixed = flat.isel(member=np.random.default_rng(1).permutation(20))
    assert said_of(a=mixed) == []


def test_independent_members_are_hardly_ever_taken_for_checkpoints():
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        # Three factors move all pairs, so that members are alike by chance.
        rows = generator.normal(size=(8, 3)) @ generator.normal(size=(3, 50))
        found += warned.from_one_run(rows @ rows.T, shuffles=199)
    assert found <= 3


def test_constant_scores_and_nan_are_counted():
    scores = signal()
    scores[:, :, 0, 0], scores[:, :, 1, :2] = 0, 3.5
    scores[0, 0, 5, 5] = np.nan
    nan, zero, constant = said_of(a=scores)
    assert "1 of 108 pairs have NaN" in nan
    assert "1 of 108 pairs are 0" in zero
    assert "2 of 108 pairs have the same score" in constant


def test_an_unknown_sign_is_warned_of():
    (sentence,) = said_of(a=signal().drop_attrs())
    assert "sign is not known" in sentence


def test_damping_that_decides_is_found():
    one = signal().assign_attrs(method="influence", damping=0.01)
    other = labelled(noise(8, (8, 2, 12, 9)), sign="removal", method="influence", damping=1.0)
    (sentence,) = said_of(a=one, b=other)
    assert "damping decides: 0.01 and 1" in sentence
    assert said_of(a=one, b=one.assign_attrs(damping=1.0)) == []
    both = judged(a=one)
    assert "damping decides" in warned.warnings_of(both, pd.DataFrame(), 0.5)[0]
    assert warned.warnings_of(both, pd.DataFrame(), 0.99) == []


@pytest.mark.filterwarnings("ignore:influence. the largest curvature:RuntimeWarning")
def test_a_posterior_is_asked_again_with_more_damping():
    task = table_task()
    posterior = tda.sample_posterior(build_mlp, task, tda.Recipe(epochs=2, keep_last=1), [1, 2])
    found = []
    for damping in (1e-4, 1e3):
        scores = tda.influence(posterior, task, damping=damping)
        more = tda.influence(posterior.select([0]), task, damping=10 * damping)
        wanted = np.corrcoef(scores[0].values.ravel(), more.values.ravel())[0, 1]
        found.append(warned.damping_matters(posterior, task, scores))
        assert found[-1] == pytest.approx(wanted)
    assert found[1] > 0.999 > found[0]


def test_advice_follows_from_what_was_found():
    both = judged(a=labelled(noise(0, (4, 1, 6, 7))))
    tables = {
        "variance": verdict.table_of_variance(both),
        "agreement": verdict.table_of_agreement(both),
    }
    said = warned.advice_of(both, tables, None, warned.warnings_of(both, tables["agreement"]))
    text = " ".join(said)
    assert said[0].startswith("a: no single score") and "Train more models" in text
    assert "sign" in text and "tda.loo" in text
