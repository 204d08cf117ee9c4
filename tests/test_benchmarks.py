"""The benchmarks run, and what they time is the same work."""

import json

import numpy as np
import pytest
import torch

import tda_utils as tda
from benchmarks import bench, work
from tda_utils.models import CNN2L


def test_ours_and_the_plain_loop_do_the_same_work():
    task = tda.load_task("mnist3", per_class=10, test_per_class=2)
    recipe = tda.Recipe(epochs=3, keep_last=1)
    removed = [None, int(task.train_index[4])]
    ours = work.our_models(task, recipe, removed)[:, 0]
    plain = torch.stack([work.plain_model(task, recipe, index) for index in removed])
    np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_arithmetic_is_counted_by_the_sizes_of_the_layers():
    images = torch.zeros(2, 1, 28, 28)
    conv1, conv2 = 2 * 32 * 9 * 26**2, 2 * 64 * 32 * 9 * 11**2
    linear = 2 * (1600 * 128 + 128 * 10)
    wanted = 2 * (3 * (conv1 + conv2 + linear) - conv1)
    assert work.training_flops(CNN2L(), images) == wanted


def test_ratios_are_taken_within_a_repeat():
    measured = {"ours": [[1.0, 2.0, 1.0], None], "other": [[4.0, 2.0, 3.0], None]}
    assert bench.ratio(measured, "other") == 3.0


@pytest.mark.slow
def test_a_quick_run_writes_its_results(tmp_path):
    assert bench.main(["--quick", "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert {"date", "cpu", "cores", "torch"} <= set(record["machine"])
    assert len(record["rows"]) == 6 and len(record["growth"]) == 2
    assert (tmp_path / "bench.md").read_text().count("\n") == 8
    assert (tmp_path / "scaling.png").stat().st_size > 1000
