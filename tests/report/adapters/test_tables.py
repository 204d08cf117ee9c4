"""Long tables: any order, any labels, and one sentence where they do not fit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

import tda_utils as tda
from tda_utils.report.adapters.tables import from_dataframe
from tda_utils.texts import UnfitFile
from tests.refusals import refused
from tests.reliability.scores import labelled, noise, score_arrays
from tests.report.cases import HOSTILE
from tests.report.test_exchange import example


@given(scores=score_arrays())
def test_any_scores_come_out_of_a_table_again(scores):
    back = from_dataframe(tda.to_dataframe(scores))["scores"]
    np.testing.assert_array_equal(back.values, scores.values)
    for name in scores.coords:
        np.testing.assert_array_equal(back[name], scores[name])
        assert back[name].dims == scores[name].dims


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_tables_keep_method_sign_and_texts(ending, tmp_path):
    scores = example()
    several = {
        "loo": scores,
        HOSTILE[1]: scores.isel(checkpoint=0).assign_attrs(sign="upweighting"),
    }
    back = tda.load_scores(tda.save_scores(several, tmp_path / f"tau{ending}"))
    for name, one in several.items():
        np.testing.assert_array_equal(back[name].values.ravel(), one.values.ravel())
        assert back[name].attrs == {"method": name, "sign": one.attrs["sign"]}
        np.testing.assert_array_equal(back[name]["kind"], scores["kind"])


def test_a_table_may_come_in_any_order_and_have_holes():
    table = tda.to_dataframe(labelled(noise()))
    shuffled = table.sample(frac=1, random_state=0)
    back = from_dataframe(shuffled)["scores"].sortby(["member", "checkpoint", "train", "test"])
    np.testing.assert_array_equal(back.values, labelled(noise()).values)
    less = from_dataframe(table.iloc[1:])["scores"]
    assert int(less.isnull().sum()) == 1


def test_a_table_that_is_none_is_refused(tmp_path):
    table = pd.DataFrame({"train": [1, 1], "test": [2, 2], "score": [0.5, 0.7]})
    refused(UnfitFile, lambda: from_dataframe(table), "twice", "train 1, test 2")
    refused(UnfitFile, lambda: from_dataframe(table.drop(columns="test")), "'test'", "train, score")
    texts = table.iloc[:1].assign(score="a")
    refused(UnfitFile, lambda: from_dataframe(texts), "score", "numbers")
    two = table.assign(test=[2, 3], sign=["removal", "upweighting"])
    refused(UnfitFile, lambda: from_dataframe(two), "signs", "'removal', 'upweighting'")
    table.to_csv(tmp_path / "tau.csv", index=False)
    refused(UnfitFile, lambda: tda.load_scores(tmp_path / "tau.csv"), "tau.csv", "twice")
