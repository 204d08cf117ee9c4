"""The benchmarks run, and what they time is the same work."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tda_utils as tda
from benchmarks import bench, cost, own_cnn, reading, through_mnist, work
from tda_utils.models.convolutional import CNN2L
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.work import score_files


def test_ours_and_the_plain_loop_do_the_same_work():
    task = tda.load_task("mnist3", per_class=10, test_per_class=2)
    recipe = tda.Recipe(epochs=3, keep_last=1)
    removed = [None, int(task.train_index[4])]
    ours = work.our_models(task, recipe, removed)[:, 0]
    plain = torch.stack([work.plain_model(task, recipe, index) for index in removed])
    np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_the_derivative_through_training_is_that_of_the_stored_graph():
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    recipe = tda.Recipe(epochs=2, keep_last=1)
    posterior = tda.sample_posterior(CNN2L, task, recipe, (work.SEED,))
    ours, theirs = work.our_unrolled(posterior, task), work.stored_graph(task, recipe)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-2 * float(ours.abs().max()))


def test_a_run_on_all_samples_is_kept_in_parts_and_goes_on(tmp_path, monkeypatch):
    task = tda.load_task("mnist3", per_class=10, test_per_class=1).attribute_only(3)
    every = through_mnist.whole(task, tests=2)
    assert (every.n_attributed, every.n_test) == (30, 2)
    scores = through_mnist.through(every, tmp_path, epochs=2)
    recipe = tda.Recipe(epochs=2, keep_last=1)
    posterior = tda.sample_posterior(CNN2L, every, recipe, [through_mnist.SEED], device="cpu")
    wanted = tda.unrolled(posterior, every, check=0)[:, 0]
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-4 * float(abs(wanted).max()))
    left = tda.load_scores(next(tmp_path.glob("loo-*.nc")))
    assert left.sizes["train"] == through_mnist.LEFT_OUT
    x, y = scores.sel(train=left["train"]).values.ravel(), left.values.ravel()
    cosine = x @ y / np.sqrt((x @ x) * (y @ y))
    assert scores.attrs["holds"] == pytest.approx(cosine, rel=1e-4)
    # Of three parts one is lost; the others are not made again.
    (tmp_path / f"unrolled-30-2-seed{through_mnist.SEED}-test1.nc").unlink()
    made, unrolled = [], tda.unrolled
    monkeypatch.setattr(tda, "loo", None)
    monkeypatch.setattr(
        tda, "unrolled", lambda *given, **own: made.append(given) or unrolled(*given, **own)
    )
    np.testing.assert_array_equal(through_mnist.through(every, tmp_path, epochs=2), scores)
    assert len(made) == 1


def test_arithmetic_is_counted_by_the_sizes_of_the_layers():
    images = torch.zeros(2, 1, 28, 28)
    conv1, conv2 = 2 * 32 * 9 * 26**2, 2 * 64 * 32 * 9 * 11**2
    linear = 2 * (1600 * 128 + 128 * 10)
    wanted = 2 * (3 * (conv1 + conv2 + linear) - conv1)
    assert work.arithmetic(CNN2L(), images)[1] == wanted


def test_ratios_are_taken_within_a_repeat():
    measured = {"ours": [[1.0, 2.0, 1.0], None], "other": [[4.0, 2.0, 3.0], None]}
    assert bench.ratio(measured, "other") == 3.0


def test_agreement_is_after_one_factor_where_scales_differ():
    ours = np.array([1.0, -2.0, 4.0])
    assert bench.agreement(ours, -3 * ours, scaled=True).startswith("Pearson -1.0000")
    assert "difference 0.0e+00 after scaling" in bench.agreement(ours, -2 * ours, scaled=True)
    assert "difference 5.0e-01" in bench.agreement(ours, ours / 2)
    assert bench.agreement(ours, ours * np.nan) == "theirs is not finite"


def test_contestants_take_turns_with_their_own_number_of_threads():
    calls = []

    def contestant(name):
        return lambda: calls.append((name, torch.get_num_threads()))

    both = {name: contestant(name) for name in ("ours", "peer")}
    measured = bench.interleaved(both, repeats=2, threads={"peer": 1})
    default = bench.DEFAULT_THREADS
    # One warm-up of ours; the peer was warm already.
    assert calls == [("ours", default), *[("ours", default), ("peer", 1)] * 2]
    assert [len(seconds) for seconds, _ in measured.values()] == [2, 2]
    assert torch.get_num_threads() == default


@pytest.fixture
def after(monkeypatch):
    """Return contestants that take so long, by a clock that only they put forward."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def contestant(seconds, values):
        def run(test_batch=100):
            clock.now += seconds(test_batch) if callable(seconds) else seconds
            return np.array(values)

        return run

    return contestant


def test_influence_is_compared_with_the_fastest_peer_that_gives_numbers(after):
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    peers = {
        "broken": after(0.5, [np.nan, 1.0]),
        "slow": after(3.0, [1.0, 2.5]),
        "fast": after(2.0, [2.0, 4.0]),
    }
    rows = bench.influence_rows(task, after(1.0, [1.0, 2.0]), peers, repeats=1)
    assert rows[0].against.startswith("fast (") and rows[0].target == "4x"
    assert {row.target for row in rows[1:]} == {"–"}
    assert rows[1].agreement == "theirs is not finite"


def test_one_array_is_compared_as_grad_dot_and_two_as_both():
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    dot, cosine = np.array([1.0, 2.0]), np.array([0.5, 0.2])
    peers = {"alone": (4, lambda _: dot), "both": (7, lambda _: (dot, cosine))}
    rows = bench.similarity_rows(task, lambda: [dot, cosine], peers, repeats=1)
    assert [row.target for row in rows] == ["4x", "7x"]
    assert rows[0].agreement == "Pearson 1.000000, largest difference 0.0e+00"
    assert rows[1].agreement.count("difference 0.0e+00") == 2


def test_a_peer_is_taken_at_its_fastest_setting(after):
    best = bench.at_its_best(after(lambda size: 1 + abs(size - 100), []), [103, 100, 97])
    assert (best.test_batch, best.seconds) == (100, 1)


@pytest.mark.slow
def test_a_quick_run_writes_its_results(tmp_path):
    assert bench.main(["--quick", "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert {"date", "cpu", "cores", "torch"} <= set(record["machine"])
    assert len(record["rows"]) == 11 and len(record["growth"]) == 2
    assert (tmp_path / "bench.md").read_text().count("\n") == 13
    assert (tmp_path / "scaling.png").stat().st_size > 1000


# ---------------- the cost of the paper's size


@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", ["posterior", "loo", "floor", "ats", "grad_dot"])
def test_images_are_counted_as_they_are_used(method, protocol, tmp_path):
    """Twice the epochs are twice the images that are trained on, where a method trains at all."""
    size = {"members": 1, "test_per_class": 2, "protocol": protocol, "store": tmp_path}
    one = tda.Experiment(epochs=2, checkpoints=1, attributed=3, **size)
    two = tda.Experiment(epochs=4, checkpoints=1, attributed=3, **size)
    few, many = cost.images(one, method), cost.images(two, method)
    trains = method in ("posterior", "loo", "floor")
    assert many.trained == few.trained * (2 if trains else 1)
    assert many.seen == few.seen


def test_ekfac_counts_two_gradients_of_each_sample_where_ggn_counts_one_for_each_direction():
    size = {"members": 1, "checkpoints": 2, "epochs": 2, "test_per_class": 2, "attributed": 3}
    exact, approximate = (
        cost.images(tda.Experiment(solver=solver, **size), "influence")
        for solver in ("ggn", "ekfac")
    )
    assert exact == (2 * (cost.LOGIT_DIRECTIONS * 30 + 6), 2 * 30)
    assert approximate == (2 * (30 + 30 + 3 + 6), 0)


def test_a_recount_measures_no_rate_that_the_record_has(monkeypatch):
    experiment = tda.Experiment(members=1, checkpoints=1, test_per_class=2, attributed=3)
    file = score_files({experiment: ("posterior",)})[0]
    known = {cost.network(file.experiment).label: cost.Rate(0.5, 0.25)}
    monkeypatch.setattr(cost, "rate_of", lambda *_, **__: pytest.fail("a rate was measured"))
    assert list(cost.measured([file], known).values()) == [cost.Rate(0.5, 0.25)]


def test_the_committed_cost_counts_what_the_manifest_asks_for(tmp_path, blank_mnist):
    record = json.loads((bench.RESULTS / "cost.json").read_text())
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    backbone = cost.papers_backbone(tmp_path, intermediate_size=24, **small)
    manifest = load_manifest(cost.MANIFEST)
    # The images of MNIST are not shipped; here it matters only how many there are.
    text = json.dumps(manifest.sizes).replace("../paper/runs/mnist", str(blank_mnist))
    manifest = dataclasses.replace(manifest, sizes=json.loads(text))
    files = score_files(cost.studies(manifest, backbone))
    assert record["files"] == len(files)
    counts = {kind.label: one._asdict() for kind, one in cost.counted(files).items()}
    # Others are of studies alone.
    recorded = {name: one["images"] for name, one in record["networks"].items()}
    assert {name: own for name, own in recorded.items() if any(own.values())} == counts
    for one in record["networks"].values():
        images, rate = one["images"], one["milliseconds"]
        seconds = sum(images[kind] * rate[kind] for kind in ("trained", "seen")) / 1e3
        assert one["core hours"] == pytest.approx(seconds / 3600)
    total = sum(one["core hours"] for one in record["networks"].values())
    assert record["core hours"] == pytest.approx(total)
    assert 0 < record["longest file"] <= total


def test_memory_for_samples_that_are_read_is_measured(tmp_path):
    assert reading.main(["--train", "30", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "reading.json").read_text(encoding="utf-8"))
    assert (found["train"], found["test"], reading.TRAIN) == (30, 20, 50_000)
    assert found["MB at the peak"] >= found["MB before"] > 0


def test_a_users_network_is_the_same_work_for_all_that_take_it(monkeypatch):
    monkeypatch.setattr(own_cnn.fused, "is_fusable", own_cnn.fused.is_fusable)
    taken = [own_cnn.trained(name, 2, 2) for name in own_cnn.CONTESTANTS if "CNN2-L" not in name]
    for losses in taken[1:]:
        np.testing.assert_allclose(losses, taken[0], atol=1e-5)


def test_ratios_of_a_users_network_are_of_medians(monkeypatch, tmp_path):
    seconds = dict.fromkeys(own_cnn.CONTESTANTS, 2.0) | {own_cnn.PLAIN: 8.0}
    given = iter([1.0] * 4 + [1.0, 5.0, 3.0] * 4)

    def timed(name, models, epochs):
        taken = seconds[name] * next(given)
        return {"seconds": taken, "processor seconds": 2 * taken}

    monkeypatch.setattr(own_cnn, "timed", timed)
    assert own_cnn.main(["--rounds", "3", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "own_cnn.json").read_text())
    assert found["rounds"] == 3 and found["medians"].keys() == set(own_cnn.CONTESTANTS)
    assert all(
        own["ratio of seconds"] == 4.0
        for name, own in found["medians"].items()
        if name != own_cnn.PLAIN
    )
