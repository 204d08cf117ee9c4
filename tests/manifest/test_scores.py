"""The scores that are committed are sound, and just those that the manifest asks for."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tda_utils import PAPER_SEEDS, Experiment
from tda_utils.experiments.names import FLOOR_DRAWS
from tda_utils.experiments.store import key_of, read_shard
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.terms import PROTOCOLS

PAPER = Path(__file__).resolve().parents[2] / "paper"
SCORES = sorted((PAPER / "scores").rglob("*.safetensors"))
NOTEBOOK = "11_all_of_mnist"
TEST_SAMPLES = 10
ATTRIBUTED = 100
SAME = ("floor_members", "double_members", "double_samples")


def test_there_is_nothing_but_scores():
    files = {path for path in (PAPER / "scores").rglob("*") if path.is_file()}
    assert files == set(SCORES)
    assert SCORES


@pytest.mark.parametrize("path", SCORES, ids=lambda path: path.stem)
def test_a_file_is_whole_and_is_what_its_name_says(path):
    shard = read_shard(path)
    values, numbers = shard.metadata["values"], _numbers(shard)
    method, _, seed, key = path.stem.split("-")
    assert values["method"] == method != "posterior"
    assert (f"seed{values['seed']}", key_of(values)) == (seed, key)
    assert np.isfinite(numbers).all()
    assert numbers.std() > 0
    assert shard.metadata["attributes"]["task"] == "mnist"
    assert shard.metadata.get("device", "cpu")


def _numbers(shard):
    return shard.arrays["floor" if shard.metadata["values"]["method"] == "floor" else "tau"]


def _defaults():
    """Sizes that are the same at every size of the notebook."""
    source = (PAPER.parent / "notebooks" / f"{NOTEBOOK}.py").read_text()
    return {name: int(re.search(rf"^{name}: int = (\d+)", source, re.M)[1]) for name in SAME}


def test_they_are_those_that_the_manifest_asks_for():
    """By what the files say of themselves: the names hang on images that are not shipped."""
    size = load_manifest(PAPER / "figures.yaml").sizes[NOTEBOOK]["full"]
    wanted = Counter()
    for protocol in PROTOCOLS:
        own = size | (size["released"] if protocol == "released" else {})
        checkpoints = own["checkpoints"]
        for method, members, samples in (
            ("loo", own["loo_members"], own["loo_samples"]),
            *(
                (m, own["members"], ATTRIBUTED)
                for m in ("ats", "influence", "grad_dot", "grad_cos")
            ),
        ):
            said = "both" if method.startswith("grad") else protocol
            shape = (1, checkpoints, samples, TEST_SAMPLES)
            wanted.update((method, said, seed, "float32", shape) for seed in PAPER_SEEDS[:members])
    same, checkpoints = _defaults(), size["checkpoints"]
    floor = (1, FLOOR_DRAWS, checkpoints, TEST_SAMPLES)
    double = (1, checkpoints, same["double_samples"], TEST_SAMPLES)
    for method, said, members, *rest in (
        ("floor", "both", same["floor_members"], "float32", floor),
        ("floor", "both", same["double_members"], "float64", floor),
        ("loo", "paired", same["double_members"], "float64", double),
    ):
        wanted.update((method, said, seed, *rest) for seed in PAPER_SEEDS[:members])
    found = Counter()
    for path in SCORES:
        shard = read_shard(path)
        values = shard.metadata["values"]
        assert values["recipe"]["epochs"] == size["epochs"]
        shape = _numbers(shard).shape
        assert values["recipe"]["keep_last"] == shape[-2 if values["method"] == "floor" else 1]
        precision = values.get("dtype", "float32")
        found[values["method"], values["protocol"], values["seed"], precision, shape] += 1
    assert found == wanted


def test_scores_of_other_images_have_other_names(blank_mnist):
    """So no file is taken for what it is not; the folder is the one that is looked into."""
    experiment = Experiment(task="mnist", root=blank_mnist, store=PAPER / "scores")
    names = {path.name for path in SCORES}
    for method in ("loo", "ats", "influence", "grad_dot", "grad_cos", "floor"):
        assert not names & {experiment.file(method, run).name for run in experiment.runs}
    for folder in {path.parent.name for path in SCORES}:
        assert folder == experiment.file("ats", experiment.runs[0]).parent.name
