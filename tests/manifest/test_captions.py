"""Captions of the paper: every number in them is a value, and facts are those of the code."""

import inspect
import json
import re
from pathlib import Path

import pytest

import tda_utils as tda
from tda_utils.attribution.lissa import LISSA_SCALE
from tda_utils.models.vision_transformer import PAPER_BACKBONE
from tda_utils.reproduce.captions import names_in
from tda_utils.reproduce.manifest import SIZES, load_manifest, plan
from tda_utils.reproduce.work import work_of
from tools import ROOT

MANIFEST = load_manifest(ROOT / "paper" / "figures.yaml")
FIGURES = sorted(MANIFEST.figures)
#: What has a digit in its name, is a format of numbers, or a convention of how intervals are drawn.
NAMES = (
    "MNIST3",
    "CIFAR-10",
    "CNN2-L",
    "32 bits",
    "64 bits",
    "90 %",
    "95 %",
    "95 times in a hundred",
)


def templates(name: str) -> list[str]:
    return [MANIFEST.figures[name].template(size) for size in SIZES]


@pytest.mark.parametrize("name", FIGURES)
def test_every_number_in_a_caption_is_a_value(name):
    for template in templates(name):
        typed = re.sub(r"\{\w+\}|" + "|".join(map(re.escape, NAMES)), "", template)
        assert not re.search(r"\d", typed), typed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_is_filled_at_every_size(name, size):
    caption = MANIFEST.caption(MANIFEST.figures[name], size)
    assert caption and not re.search(r"[{}]", caption)


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_names_the_command_for_the_papers_size_where_full_is_smaller(name):
    figure = MANIFEST.figures[name]
    sizes = MANIFEST.sizes[figure.notebook]
    smaller = "paper" in sizes and sizes["paper"] != sizes["full"]
    assert ("paper_command" in names_in(figure.template("full"), name)) == smaller
    assert (f"`bayes-tda run {name} --size paper`" in MANIFEST.caption(figure, "full")) == smaller


def test_every_fact_is_in_a_caption():
    used = {name for one in FIGURES for text in templates(one) for name in names_in(text, one)}
    assert set(MANIFEST.facts) <= used


def test_facts_are_those_of_the_code(tmp_path):
    numbers = json.loads(
        (ROOT / "paper" / "numbers" / "full_mnist-paired.json").read_text(encoding="utf-8")
    )
    (run,) = plan(MANIFEST, ["released_vit"], "quick")
    (vit,) = [one for one in work_of(MANIFEST, run, Path(tmp_path)) if one.model == "vit"]
    pairs = numbers["methods"]["grad_dot"]["pairs"]
    facts = {
        "alpha": inspect.signature(tda.significant).parameters["alpha"].default,
        "scale": LISSA_SCALE,
        "imagenet_pixels": int(re.search(r"-(\d{3})-", PAPER_BACKBONE)[1]),
        "vit_tests": vit.data.n_test,
        "mnist_train": max(map(int, numbers["loo by training digits"])),
        "appendix_train": numbers["attributed"],
        "appendix_test": pairs / numbers["attributed"],
        "stand_in_train": tda.load_task("mnist3", per_class=50).n_train,
    }
    assert {name: float(fact) for name, fact in MANIFEST.facts.items()} == facts
    # A quick look takes fewer test digits of each class for the transformer, or just as many.
    quick, full = (MANIFEST.parameters(run.notebook, size) for size in ("quick", "full"))
    assert quick["test_per_class"] <= full["test_per_class"]
