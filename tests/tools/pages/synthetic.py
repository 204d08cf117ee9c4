"""Contents of summaries that nobody computed: what each rule is tried on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.experiments.store import canonical, checksum
from tda_utils.experiments.studies import StudySummary
from tda_utils.posterior import HUNDRED_SEEDS
from tools.pages.evidence import Evidence, Study, in_order

MEASURES = ("mean_p", "significant", "found", "sign_uncertain", "one_model")
SOURCES = ("initialisation", "order", "interaction", "epoch", "checkpoint")
WITHOUT_DRIFT = "loo_without_drift"


def around(value: float, reach: float = 0.01) -> list[float]:
    """Return a value with its interval."""
    return [value, round(value - reach, 9), round(value + reach, 9)]


def content(**values: Any) -> dict[str, Any]:
    """Return what a summary holds: all numbers in the middle, with narrow intervals.

    ``members``, ``checkpoints`` and ``attributed`` are the size, ``floor`` its null ratio, and
    anything else a value of the experiment.
    """
    size = {"members": 10, "checkpoints": 5, "epochs": 15, "train": 30, "attributed": 30}
    size |= {"test": 900} | {name: values.pop(name) for name in list(values) if name in size}
    floor = values.pop("floor", 1e-5)
    study = {"task": "mnist3", "per_class": 10, "test_per_class": None, "lists": None}
    study |= {"draw": None, "attributed": None, "model": "cnn2", "backbone": None}
    study |= {"image_size": None, "protocol": "paired", "dtype": "float32", "orders": None}
    study |= {"members": size["members"]} | values
    study["seeds"] = list(HUNDRED_SEEDS[: size["members"]])
    methods = [*STUDY_METHODS, *([WITHOUT_DRIFT] if study["protocol"] == "released" else [])]
    found = {
        "key": "0",
        "study": study,
        "size": size,
        "precision": study["dtype"],
        "signs": dict.fromkeys(methods, "removal"),
    }
    found["floor"] = floor and {
        "null_ratio": around(floor, floor / 2),
        "rounding": 0.001,
        "defined": 0.95,
        "draws": 4,
    }
    if study["orders"]:
        shares = {source: around(0.2) for source in SOURCES}
        return found | {"variance": {method: dict(shares) for method in methods}}
    return found | _of_members(methods, size)


def _of_members(methods: list[str], size: dict[str, int]) -> dict[str, Any]:
    measures = {measure: around(0.3) for measure in MEASURES}
    counts = sorted({*range(2, 1 + min(size["members"], 10)), size["members"]})
    pairs = list(itertools.combinations(methods, 2))
    kept = range(1, 1 + size["checkpoints"])
    parts = {
        "reliability": {str(n): {m: dict(measures) for m in methods} for n in counts},
        "effective_pairs": dict.fromkeys(methods, 4.2),
        "checkpoints": {
            str(k): {m: {**measures, "halves": around(0.5)} for m in methods} for k in kept
        },
        "samples": {
            kind: {m: {name: [0.2, None, None] for name in MEASURES} for m in methods}
            for kind in ("members x checkpoints", "checkpoints")
        },
        "stability": {m: {"pearson": around(0.75)} for m in methods},
        "agreement": {"mean": {"pearson": [[a, b, *around(0.5)] for a, b in pairs]}},
        "ceiling": {"pearson": {m: around(0.6) for m in methods if m != "loo"}},
    }
    return json.loads(json.dumps(parts))  # Nothing is shared, so that a test can change one number.


def study(found: dict[str, Any]) -> Study:
    """Name a content as its file would be."""
    values, size = found["study"], found["size"]
    names = ("task", "per_class", "lists", "draw", "model", "protocol")
    parts = [str(values[name]) for name in names if values[name] is not None]
    key = f"{values['dtype']}_{values['orders'] or ''}_{size['members']}"
    return Study(f"{'-'.join(parts)}-{key}.json", StudySummary(found))


def evidence(*contents: dict[str, Any]) -> Evidence:
    """Return the evidence of these contents."""
    return Evidence(tuple(in_order([study(one) for one in contents])))


def write(folder: Path, *contents: dict[str, Any]) -> None:
    """Write contents as summaries are kept."""
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    for one in contents:
        record = {"sha256": checksum(canonical(one)), **one}
        (folder / "studies" / study(one).file).write_text(json.dumps(record))
