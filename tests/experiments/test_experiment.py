import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

import tda_utils as tda
from tda_utils.attribution import ekfac, retraining
from tda_utils.data import load as load_module
from tda_utils.data import sources as data_module
from tda_utils.data import task as task_module
from tda_utils.experiments import names
from tda_utils.experiments.settings import Run
from tda_utils.experiments.store import read_shard, write_shard
from tda_utils.experiments.tallies import made_here
from tda_utils.files import CannotOpen
from tda_utils.models import vision_transformer
from tests.refusals import refused
from tests.tiny import ATTRIBUTIONS, take_for_originals, write_idx


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two members, one epoch, six test digits."""
    folder = tmp_path_factory.mktemp("store")
    return tda.Experiment(members=2, checkpoints=1, epochs=1, test_per_class=2, store=folder)


# ---------------- values, and what is beside them


def test_only_the_values_of_settings_can_go_by_position(tmp_path):
    own = [field.name for field in dataclasses.fields(tda.Experiment)][-3:]
    assert own == ["root", "store", "device"]
    assert tda.Experiment("mnist3", 20).per_class == 20
    with pytest.raises(TypeError):
        tda.Experiment(*(field.default for field in dataclasses.fields(tda.Experiment)))


def test_equal_experiments_are_one_key_and_another_value_is_another_key():
    one, same = (
        tda.Experiment(seeds=[446, 724], members=2),
        tda.Experiment(seeds=(446, 724), members=2),
    )
    others = [
        dataclasses.replace(one, **change)
        for change in ({"members": 1}, {"store": "elsewhere"}, {"device": "cpu"}, {"epochs": 9})
    ]
    assert len({one: "loo", same: "ats", **dict.fromkeys(others)}) == 5
    assert {one: "loo"}[same] == "loo"
    assert dataclasses.replace(others[0], members=2) == one


def test_folder_and_device_name_no_file(tmp_path):
    here = tda.Experiment(members=2, store=tmp_path)
    there = dataclasses.replace(here, store="elsewhere", device="cpu")
    for method in names.VERSIONS:
        for run in here.runs:
            place = here.file(method, run).relative_to(tmp_path)
            assert place == there.file(method, run).relative_to("elsewhere")
    assert here.study_file("S") == there.study_file("S")


def test_making_an_experiment_reads_nothing(monkeypatch):
    def fail(*arguments, **options):
        pytest.fail(f"something was read: {arguments}")

    monkeypatch.setattr(load_module, "read_pool", fail)
    for module in (load_module, data_module):
        monkeypatch.setattr(module, "package_file", fail)
    monkeypatch.setattr(vision_transformer, "_loaded", fail)
    for values in (
        {},
        {"task": "cifar10", "lists": "released", "attributed": 100, "test_per_class": 50},
        {"task": "mnist", "root": "nowhere", "attributed": 100},
        {"model": "vit"},
        {"model": "vit", "backbone": "nowhere", "image_size": 15},
        {"model": "vit", "backbone": "tiny", "protocol": "released"},
    ):
        experiment = tda.Experiment(**values)
        assert len(experiment.runs) == 10
        assert len(experiment.recipe.checkpoint_epochs) == 5
        assert dataclasses.replace(experiment, members=3) != experiment


def test_what_is_missing_is_said_when_it_is_used(tmp_path):
    images = tda.Experiment(task="mnist", root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere.*`make mnist`"):
        _ = images.data
    weights = tda.Experiment(model="vit", backbone=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="backbone is .*none.*config.json"):
        weights.file("loo", weights.runs[0])
    size = {"members": 1, "epochs": 1, "checkpoints": 1}
    patches = tda.Experiment(model="vit", backbone="tiny", image_size=15, store=tmp_path, **size)
    with pytest.raises(ValueError, match="image_size is 15; .* 7"):
        patches.posterior()


def test_the_folder_is_asked_for_where_it_is_needed_and_nowhere_else():
    for values in ({"task": "mnist"}, {"task": "mnist", "root": 3}, {"root": "data"}, {"root": 3}):
        with pytest.raises(
            ValueError, match=f"root is {values.get('root')!r}.*'mnist'.*`make mnist`"
        ):
            tda.Experiment(**values)


def test_a_device_that_is_none_is_refused():
    with pytest.raises(ValueError, match="device is 'abacus'.*'cpu'"):
        tda.Experiment(device="abacus")


# ---------------- files are computed once


def files(experiment):
    return {path: path.stat().st_mtime_ns for path in experiment.store.rglob("*.safetensors")}


@pytest.mark.parametrize(("method", "protocol"), ATTRIBUTIONS)
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


def test_what_has_no_released_counterpart_is_refused_before_anything_is_computed(tmp_path):
    released = tda.Experiment(protocol="released", store=tmp_path / "store")
    for method in names.PAIRED_ONLY:
        facts = (f"method is {method!r}", "protocol='released'", "'paired'")
        refused(ValueError, partial(released.scores, method), *facts)
    assert not any(tmp_path.iterdir())


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
    plain = retraining.train_losses

    def counted(model, images, labels, recipe, jobs, *rest, **options):
        trained.extend(jobs)
        return plain(model, images, labels, recipe, jobs, *rest, **options)

    whole.posterior()
    monkeypatch.setattr(retraining, "train_losses", counted)
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


def forged(path, metadata=None, **arrays):
    """Change a file, with a checksum that is right."""
    shard = read_shard(path)
    write_shard(path, shard.arrays | arrays, shard.metadata | (metadata or {}))


FORGED = {
    "scores of another shape": ("ats", {"tau": np.zeros((1, 1, 2, 2), np.float32)}),
    "scores of another type": ("ats", {"tau": np.zeros((1, 1, 30, 3), np.int64)}),
    "scores without a sign": ("ats", {"metadata": {"attributes": {"method": "ats"}}}),
    "scores that are not labelled": ("ats", {"metadata": {"attributes": None}}),
    "drift of another shape": ("ats", {"drift": np.zeros(3, np.float32)}),
    "a member of another network": ("posterior", {"0/state/fc2.bias": np.zeros(7, np.float32)}),
    "a member with more": ("posterior", {"7/state/x": np.zeros(7, np.float32)}),
    "no memory of steps": ("posterior", {"step": np.zeros(0)}),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_sound_file_of_another_form_is_set_aside_and_computed_again(kind, small):
    method, changes = FORGED[kind]
    wanted = small.scores("ats")
    path = small.file(method, Run(446, 446))
    sound = read_shard(path)
    forged(path, **changes)
    compute = small.posterior if method == "posterior" else lambda: small.scores("ats")
    with pytest.warns(RuntimeWarning, match=f"{path.name}.*set aside.*computed again"):
        compute()
    assert read_shard(path).arrays.keys() == sound.arrays.keys()
    for name, values in sound.arrays.items():
        np.testing.assert_array_equal(read_shard(path).arrays[name], values)
    path.with_name(f"{path.name}.damaged-1").unlink()
    assert small.scores("ats").identical(wanted)


@pytest.mark.parametrize("method", ["posterior", "ats"])
def test_a_folder_in_a_file_s_place_stops_no_other_member(method, small, tmp_path):
    wanted = small.scores("ats")
    apart = dataclasses.replace(small, store=tmp_path)
    blocked = apart.file(method, Run(446, 446))
    blocked.mkdir(parents=True)
    before = len(made_here())
    with pytest.raises(CannotOpen, match=f"{blocked.name} cannot be opened .it is a folder"):
        apart.compute("ats")
    first, second = (apart.file("ats", run) for run in apart.runs)
    assert second in made_here()[before:] and first not in made_here()[before:]
    blocked.rmdir()
    assert apart.scores("ats").identical(wanted)


def test_an_unknown_method_is_refused(small):
    for ask in (small.scores, small.compute, lambda method: small.file(method, small.runs[0])):
        with pytest.raises(ValueError, match="method is 'shapley'.*'loo'.*'grad_cos'"):
            ask("shapley")
    with pytest.raises(ValueError, match="method is 'posterior'.*'loo'.*'grad_cos'"):
        small.scores("posterior")


def test_a_run_of_another_experiment_is_refused(small):
    with pytest.raises(ValueError, match=r"runs has Run\(initialisation=1, order=1\)"):
        small.compute("ats", [Run(446, 446), Run(1, 1)])


def test_one_member_has_no_p_value(small):
    scores = dataclasses.replace(small, members=1).scores("grad_dot")
    with pytest.raises(ValueError, match="member"):
        tda.summarise(scores)


# ---------------- the floor, and the type of number


def test_a_floor_is_computed_once_and_read(small, monkeypatch):
    first = small.floor()
    assert dict(first.sizes) == {"member": 2, "draw": 4, "checkpoint": 1, "test": 6}
    xr.testing.assert_identical(first, tda.floor(small.posterior(), small.data))
    monkeypatch.setattr(tda.Experiment, "_attribute", None)
    xr.testing.assert_identical(small.floor(), first)
    assert tda.summarise(small.scores("loo"), floor=first)["defined"].dims == ("train", "test")


def test_a_crossed_floor_has_the_two_sources_of_noise(small):
    crossed = dataclasses.replace(small, orders=2)
    floor = crossed.floor()
    assert floor.dims[:2] == ("initialisation", "order")
    own = small.floor().sel(member=724).values
    seed = {"initialisation": 724, "order": 724}
    np.testing.assert_array_equal(floor.sel(seed).values, own)


def test_float64_is_another_posterior_from_the_same_start(small):
    double = dataclasses.replace(small, dtype="float64")
    assert double.scores("loo").dtype == double.floor().dtype == np.float64
    assert double.scores("loo").precision == double.floor().precision == "float64"
    states = [e.posterior().states[0][0] for e in (small, double)]
    for name, value in states[1].items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, states[0][name].double(), rtol=1e-3, atol=1e-5)


def test_float32_is_in_no_name_and_float64_in_every(small):
    double = dataclasses.replace(small, dtype="float64")
    for method in names.VERSIONS:
        for run in small.runs:
            assert small.file(method, run).name != double.file(method, run).name
    assert small.study_key != double.study_key
    refused(ValueError, lambda: tda.Experiment(dtype="float16"), "dtype", "float16", "float64")
