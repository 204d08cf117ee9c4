import dataclasses
import shutil

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils.attribution import ekfac
from tda_utils.data import load as load_module
from tda_utils.data import sources as data_module
from tda_utils.data import task as task_module
from tda_utils.engine import training
from tda_utils.experiments import experiment as experiment_module
from tda_utils.experiments.names import Run
from tests.conftest import take_for_originals, write_idx


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two members, one epoch, six test digits."""
    folder = tmp_path_factory.mktemp("store")
    return tda.Experiment(members=2, checkpoints=1, epochs=1, test_per_class=2, store=folder)


def files(experiment):
    return {path: path.stat().st_mtime_ns for path in experiment.store.rglob("*.safetensors")}


@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", tda.METHODS)
def test_scores_are_computed_once_and_then_read_as_they_were(small, method, protocol):
    experiment = dataclasses.replace(small, protocol=protocol)
    first = experiment.scores(method)
    before = files(small)
    again = dataclasses.replace(experiment).scores(method)
    assert files(small) == before
    assert again.identical(first)
    direct = tda.attribute(experiment.posterior(), experiment.data, method, protocol=protocol)
    np.testing.assert_allclose(again, direct, rtol=1e-4, atol=1e-6 * float(abs(direct).max()))
    assert again.attrs == direct.attrs
    assert again.attrs["protocol"] == protocol


def test_names_of_files_stay_as_they_were():
    """Or finished scores would not be found any more; hours of computation hang on these."""
    paths = {
        tda.Experiment(task="mnist3", per_class=20, protocol=protocol).file(method, Run(446, 446))
        for protocol, method in [
            ("paired", "posterior"),
            ("paired", "loo"),
            ("released", "loo"),
            ("released", "influence"),
        ]
    }
    assert {str(path) for path in paths} == {
        "scores/mnist3-20-cnn2/posterior-seed446-25b1845a239a.safetensors",
        "scores/mnist3-20-cnn2/loo-paired-seed446-d72021a2b2d1.safetensors",
        "scores/mnist3-20-cnn2/loo-released-seed446-e116318b890b.safetensors",
        "scores/mnist3-20-cnn2/influence-released-seed446-ab3a87a493d0.safetensors",
    }


def test_only_a_deleted_file_is_computed_again(small):
    small.scores("grad_dot")
    before = files(small)
    deleted = small.file("grad_dot", Run(724, 724))
    deleted.unlink()
    scores = small.scores("grad_dot")
    after = files(small)
    assert {path for path in after if after[path] != before.get(path)} == {deleted}
    assert scores.sizes["member"] == 2


def test_more_members_go_on_where_fewer_stopped(small):
    fewer = small.scores("grad_cos")
    before = files(small)
    more = dataclasses.replace(small, members=3).scores("grad_cos")
    after = files(small)
    new = {path.name.split("-seed")[1][:3] for path in after if path not in before}
    assert new == {"571"}
    np.testing.assert_array_equal(more[:2], fewer)


@pytest.mark.parametrize("method", ["grad_dot", "ats"])
def test_a_crossed_design_shares_its_diagonal_with_the_plain_one(small, method):
    """Two initialisations and two orders: the runs with one seed for both are the members."""
    plain = small.scores(method)
    before = files(small)
    crossed = dataclasses.replace(small, orders=2)
    scores = crossed.scores(method)
    new = {path.name.rpartition("-")[0] for path in files(small) if path not in before}
    assert {name.partition("seed")[2] for name in new if name.startswith(method)} == {
        "446-order724",
        "724-order446",
    }
    assert scores.dims == ("initialisation", "order", "checkpoint", "train", "test")
    assert scores["initialisation"].values.tolist() == scores["order"].values.tolist() == [446, 724]
    for position in (0, 1):
        np.testing.assert_array_equal(scores[position, position], plain[position])
    direct = tda.attribute(crossed.posterior(), crossed.data, method)
    np.testing.assert_allclose(scores[0, 1], direct[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores[1, 0], direct[2], rtol=1e-4, atol=1e-6)
    if method == "ats":
        assert scores["drift"].dims == ("initialisation", "order", "checkpoint", "test")


def test_attributing_fewer_samples_shares_the_posterior(small):
    whole = small.scores("ats")
    before = files(small)
    some = dataclasses.replace(small, attributed=4)
    scores = some.scores("ats")
    new = [path for path in files(small) if path not in before]
    assert len(new) == 2 and all(path.name.startswith("ats") for path in new)
    np.testing.assert_allclose(scores, whole.sel(train=scores["train"]), rtol=1e-4, atol=1e-6)
    assert dataclasses.replace(some).scores("ats").identical(scores)


def test_gradient_similarity_is_shared_between_protocols(small):
    small.scores("grad_cos")
    before = files(small)
    released = dataclasses.replace(small, protocol="released").scores("grad_cos")
    assert files(small) == before and released.attrs["protocol"] == "released"


def test_every_value_that_matters_gives_another_file(small, monkeypatch):
    changes = [
        {"per_class": 20},
        {"test_per_class": 3},
        {"model": "cnn3"},
        {"checkpoints": 2, "epochs": 2},
        {"epochs": 2},
        {"damping": 0.1},
        {"solver": "ekfac"},
        {"protocol": "released"},
        {"task": "cifar10", "per_class": 20},
    ]
    paths = {
        dataclasses.replace(small, **change).file("influence", Run(446, 446)) for change in changes
    }
    paths.add(small.file("influence", Run(446, 446)))
    paths.add(small.file("influence", Run(724, 724)))
    assert len(paths) == len(changes) + 2
    monkeypatch.setitem(experiment_module.VERSIONS, "influence", 99)
    assert small.file("influence", Run(446, 446)) not in paths


def test_files_of_earlier_versions_are_found_again():
    """Weeks of computing lie under these names; a new value may not change them."""
    experiment = tda.Experiment(task="mnist3", per_class=20, store="S")
    released = dataclasses.replace(experiment, protocol="released")
    some = dataclasses.replace(experiment, attributed=5)
    found = [
        one.file(method, Run(446, 446)).as_posix()
        for one, method in (
            (experiment, "posterior"),
            (experiment, "loo"),
            (experiment, "influence"),
            (released, "influence"),
            (some, "loo"),
        )
    ]
    assert found == [
        "S/mnist3-20-cnn2/posterior-seed446-25b1845a239a.safetensors",
        "S/mnist3-20-cnn2/loo-paired-seed446-d72021a2b2d1.safetensors",
        "S/mnist3-20-cnn2/influence-paired-seed446-44c97a7964e8.safetensors",
        "S/mnist3-20-cnn2/influence-released-seed446-ab3a87a493d0.safetensors",
        "S/mnist3-20-cnn2/loo-paired-seed446-2da7abe4828c.safetensors",
    ]
    named = dataclasses.replace(experiment, solver="ggn")
    assert named.file("influence", Run(446, 446)).as_posix() == found[2]


# ---------------- all of MNIST, of which 240 images are at hand


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The shipped images as if they were all of MNIST, with 8 x 3 pairs of the paper."""
    folder = tmp_path_factory.mktemp("idx")
    arrays = data_module.package_file("mnist3")
    listed = np.array([200, 7, 100, 8, 239, 50, 60, 70])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ekfac, "EXPECTED", 0)  # Random signs, as for 60,000; and it takes less time.
        patch.setattr(load_module, "_paper_pairs", lambda: (listed, np.array([5, 900, 2])))
        for split, stem, n in (("train", "train", 240), ("test", "t10k", 905)):
            write_idx(folder, stem, arrays[f"{split}_image"][:n], arrays[f"{split}_label"][:n])
        take_for_originals(folder, patch)
        yield tda.Experiment(
            task="mnist", root=folder, members=1, checkpoints=1, epochs=1, store=folder / "store"
        )


def test_all_of_mnist_is_trained_on_and_the_listed_pairs_have_scores(whole):
    assert (whole.data.n_train, whole.per_class) == (240, None)
    assert dataclasses.replace(whole, epochs=None).recipe.epochs == 15
    for protocol in ("paired", "released"):
        experiment = dataclasses.replace(whole, protocol=protocol)
        for method in ("influence", "ats", "grad_dot", "grad_cos"):
            scores = experiment.scores(method)
            assert scores["train"].values.tolist() == [200, 7, 100, 8, 239, 50, 60, 70]
            assert scores["test"].values.tolist() == [5, 900, 2]
            assert bool(np.isfinite(scores).all())
    tau = whole.scores("influence")
    assert tau.attrs["solver"] == "ekfac"
    assert dataclasses.replace(whole, protocol="released").scores("influence").attrs["solver"] == (
        "lissa"
    )


def test_leave_one_out_retrains_for_a_draw_from_the_listed_only(whole, monkeypatch):
    trained = []
    plain = training._train

    def counted(network, images, labels, recipe, jobs, *rest):
        trained.extend(jobs)
        return plain(network, images, labels, recipe, jobs, *rest)

    whole.posterior()
    monkeypatch.setattr(training, "_train", counted)
    some = dataclasses.replace(whole, attributed=3)
    scores = some.scores("loo")
    # The member itself and once without each of three; nothing for the 237 others.
    assert len(trained) == 4
    assert [int((job.weights == 0).sum()) for job in trained] == [0, 1, 1, 1]
    assert set(scores["train"].values.tolist()) < {200, 7, 100, 8, 239, 50, 60, 70}
    assert float(abs(scores).max()) > 0
    more = dataclasses.replace(whole, attributed=5).data
    assert set(some.data.rows.tolist()) < set(more.rows.tolist())


def test_the_folder_is_no_part_of_a_files_name(whole, tmp_path):
    for path in whole.root.glob("*ubyte"):
        shutil.copy(path, tmp_path)
    moved = dataclasses.replace(whole, root=str(tmp_path))
    for method in ("posterior", "influence", "loo"):
        assert moved.file(method, Run(446, 446)) == whole.file(method, Run(446, 446))
    named = dataclasses.replace(whole, solver="ekfac")
    assert named.file("influence", Run(446, 446)) == whole.file("influence", Run(446, 446))
    exact = dataclasses.replace(whole, solver="ggn")
    assert exact.file("influence", Run(446, 446)) != whole.file("influence", Run(446, 446))


def test_the_training_images_are_digested_once(whole, monkeypatch):
    experiment = dataclasses.replace(whole)
    digested = []
    plain = task_module._digest_split
    monkeypatch.setattr(
        task_module,
        "_digest_split",
        lambda digest, tensors: (digested.append(len(tensors[0])), plain(digest, tensors)),
    )
    for method in ("posterior", "loo", "ats"):
        experiment.file(method, Run(446, 446))
    assert sorted(digested) == [1, 3, 240]


def test_the_posterior_survives_the_store(small):
    first, again = small.posterior(), dataclasses.replace(small).posterior()
    for name, value in first.states[1][0].items():
        assert torch.equal(value, again.states[1][0][name])
    for name, value in first.adam[1][0].exp_avg_sq.items():
        assert torch.equal(value, again.adam[1][0].exp_avg_sq[name])
    assert first.adam[0][0].step == again.adam[0][0].step == 1


@pytest.mark.parametrize("method", ["posterior", "ats"])
def test_a_damaged_file_is_named_set_aside_and_computed_again(method, small):
    before = small.scores("ats")
    path = small.file(method, Run(724, 724))
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    others = {one: time for one, time in files(small).items() if one != path}
    compute = small.posterior if method == "posterior" else lambda: small.scores("ats")
    with pytest.warns(RuntimeWarning, match=f"{path.name} is half-written.*computed again"):
        compute()
    assert len(path.read_bytes()) == len(content)
    assert {one: time for one, time in files(small).items() if one != path} == others
    (kept,) = path.parent.glob(f"{path.name}.damaged-*")
    assert kept.read_bytes() == content[:-7]
    kept.unlink()
    assert small.scores("ats").identical(before)


def test_a_file_under_another_name_is_not_taken_for_its_scores(small):
    wanted = small.scores("ats")
    path, other = (small.file("ats", Run(seed, seed)) for seed in (446, 724))
    shutil.copy(other, path)
    with pytest.warns(RuntimeWarning, match=f"{path.name} holds other scores than its name says"):
        again = small.scores("ats")
    assert again.identical(wanted)
    path.with_name(f"{path.name}.damaged-1").unlink()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "mnist5"}, "task name is 'mnist5'"),
        ({"per_class": 15}, "per_class is 15"),
        ({"model": "resnet"}, "model is 'resnet'; it must be one of"),
        ({"backbone": "tiny"}, "backbone is 'tiny'; only model 'vit' has one"),
        ({"image_size": 28}, "image_size is 28; only model 'vit' has one"),
        ({"protocol": "both"}, "protocol is 'both'"),
        ({"members": 0}, "members is 0; it must be an integer from 1 to 10"),
        ({"members": 11}, "members is 11"),
        ({"orders": 0}, "orders is 0; it must be an integer from 1 to 10"),
        ({"checkpoints": 16}, "keep_last is 16; it must be at most epochs"),
        ({"seeds": (1, 1), "members": 1}, "no seed may appear twice"),
        ({"epochs": -1}, "epochs is -1"),
        ({"task": "mnist"}, "root is None with task='mnist'; .* `make mnist`"),
        ({"root": "data"}, "root is 'data' with task='mnist3'"),
        ({"solver": "lissa"}, "solver is 'lissa'; it must be 'ggn', 'ekfac'"),
        ({"solver": "ggn", "protocol": "released"}, "under protocol='released'"),
    ],
)
def test_bad_values_are_refused_before_anything_is_computed(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tda.Experiment(**values, store=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_method_is_refused(small):
    with pytest.raises(ValueError, match="method is 'shapley'"):
        small.scores("shapley")


def test_one_member_has_no_p_value(small):
    scores = dataclasses.replace(small, members=1).scores("grad_dot")
    with pytest.raises(ValueError, match="member"):
        tda.summarise(scores)
