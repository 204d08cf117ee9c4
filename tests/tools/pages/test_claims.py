"""The claims: their numbers are those of the committed tables, and other tables change verdicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import median

import pandas as pd
import pytest

from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tests.tools.pages.conftest import PAPER, rows
from tools.pages import claims

ESTIMATORS = tuple(label for method, label in METHOD_LABELS.items() if method != "loo")


def measured(name: str, protocol: str, method: str, measure: str, at: str) -> dict[tuple, float]:
    return {
        (row["panel"], row[at]): float(row["value"])
        for row in rows(name, protocol)
        if row["method"] == method and row["measure"] == measure
    }


def sizes_of(protocol: str, method: str, measure: str) -> dict[str, float]:
    found = measured("by_size", protocol, method, measure, "per class")
    return {f"{panel}, {size} per class": value for (panel, size), value in found.items()}


def correlations(protocol: str) -> dict[str, dict[str, float]]:
    return {
        row["methods"]: {k: float(v) for k, v in row.items() if k not in ("kind", "methods")}
        for row in rows("agreement_by_study", protocol)
        if row["kind"] == "pearson"
    }


def claim_2(protocol: str) -> dict[str, float]:
    (row,) = (row for row in rows("significant_fraction", protocol) if row["method"] == "loo")
    record = json.loads((PAPER / "numbers" / f"significant_fraction-{protocol}.json").read_text())
    values = {name: float(row[name]) for name in ("p < 0.05", "after FDR")}
    sizes = sizes_of(protocol, "LOO", "significant")
    return values | {"noise": record["null fraction"]} | sizes


def claim_3(protocol: str) -> dict[str, float]:
    return {
        f"{study}, {method}": value
        for method in ("LOO", *ESTIMATORS)
        for study, value in sizes_of(protocol, method, "sign_uncertain").items()
    }


def claim_4(protocol: str) -> dict[str, float]:
    return {
        f"{row['method']}, {row['source']}": float(row["share"])
        for row in rows("variance_sources", protocol)
        if row["source"] in ("initialisation", "order")
    }


def claim_5(protocol: str) -> dict[str, float]:
    table = correlations(protocol)
    studies = table["LOO, LOO"]
    typical = {
        f"{study}, median": median(abs(table[f"LOO, {name}"][study]) for name in ESTIMATORS)
        for study in studies
    }
    return typical | {f"{study}, LOO with itself": value for study, value in studies.items()}


def claim_6(protocol: str) -> dict[str, float]:
    alike = {f"IF, GD: {study}": v for study, v in correlations(protocol)["IF, GD"].items()}
    cosine = measured("by_size", protocol, "GC", "significant", "per class")
    least = {
        f"GC significant at least: {panel}": min(v for (p, _), v in cosine.items() if p == panel)
        for panel, _ in cosine
    }
    return alike | least


def claim_8(protocol: str) -> dict[str, float]:
    found = measured("by_model", protocol, "LOO", "mean_p", "model")
    panels = [panel for panel, _ in found]
    return {
        f"{panel}, {model}": value
        for (panel, model), value in found.items()
        if panels.count(panel) > 1
    }


def claim_9(protocol: str) -> dict[str, float]:
    table = rows("mean_p", protocol)
    ends = [name for name in table[0] if name != "method"]
    return {
        f"{row['method']}, {end}": float(row[end]) for row in table for end in (ends[0], ends[-1])
    }


RECOMPUTED = {
    1: lambda protocol: sizes_of(protocol, "LOO", "sign_uncertain"),
    2: claim_2,
    3: claim_3,
    4: claim_4,
    5: claim_5,
    6: claim_6,
    7: lambda protocol: sizes_of(protocol, "LOO", "mean_p"),
    8: claim_8,
    9: claim_9,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", RECOMPUTED)
def test_the_numbers_of_a_verdict_are_those_of_the_tables(number, protocol):
    finding = claims.CLAIMS[number - 1].judge(claims.Results(PAPER, protocol))
    wanted = RECOMPUTED[number](protocol)
    assert dict(finding.numbers) == pytest.approx(wanted, abs=1e-12)
    assert wanted


# Rules: another result gives another verdict.


@pytest.fixture
def folder(tmp_path):
    for name in ("tables", "numbers"):
        shutil.copytree(PAPER / name, tmp_path / name)
    return tmp_path


def verdict(folder: Path, number: int, table: str, change) -> str:
    path = folder / "tables" / f"{table}-paired.csv"
    frame = pd.read_csv(path)
    change(frame)
    frame.to_csv(path, index=False)
    return claims.CLAIMS[number - 1].judge(claims.Results(folder, "paired")).verdict


def setting(column: str, value: float, **where: str):
    def change(frame: pd.DataFrame) -> None:
        chosen = pd.Series(True, index=frame.index)
        for name, wanted in where.items():
            chosen &= frame[name.replace("_", " ") if name == "per_class" else name] == wanted
        assert chosen.any()
        frame.loc[chosen, column] = value

    return change


UNCERTAIN = {"method": "LOO", "measure": "sign_uncertain"}


@pytest.mark.parametrize(
    ("number", "table", "change", "expected"),
    [
        (1, "by_size", setting("value", 0.9, **UNCERTAIN), "supported"),
        (1, "by_size", setting("value", 0.1, **UNCERTAIN), "not supported"),
        (3, "by_size", setting("value", 0.3, **UNCERTAIN), "supported"),
        (3, "by_size", setting("value", 0.2, **UNCERTAIN), "not supported"),
        (2, "significant_fraction", setting("after FDR", 0.05, method="loo"), "supported"),
        (2, "significant_fraction", setting("after FDR", 0.0, method="loo"), "not supported"),
        (
            2,
            "significant_fraction",
            setting("after FDR", 0.5, method="loo"),
            "they exist and are not rare",
        ),
        (4, "variance_sources", setting("share", 0.0, source="order"), "supported"),
        (4, "variance_sources", setting("share", 1.0, source="order"), "not supported"),
        (9, "mean_p", lambda frame: frame.__setitem__("5", 0.0), "supported"),
        (9, "mean_p", lambda frame: frame.__setitem__("5", 1.0), "not supported"),
    ],
)
def test_a_rule_follows_the_numbers(number, table, change, expected, folder):
    assert verdict(folder, number, table, change) == expected


@pytest.mark.parametrize(("correlation", "expected"), [(0.1, "supported"), (0.9, "not supported")])
def test_claim_5_follows_the_correlations(correlation, expected, folder):
    def change(frame):
        frame.iloc[:, 2:] = correlation

    assert verdict(folder, 5, "agreement_by_study", change) == expected


@pytest.mark.parametrize(
    ("values", "reach", "expected"),
    [
        ((0.1, 0.3, 0.1), 0.01, "supported"),
        ((0.1, 0.3, 0.1), 0.5, "not decided"),
        ((0.1, 0.2, 0.3), 0.01, "not supported"),
        ((0.3, 0.2, 0.1), 0.5, "not supported"),
        ((0.1, 0.2), 0.01, ""),
    ],
)
def test_a_curve_turns_only_beyond_its_intervals(values, reach, expected):
    frame = pd.DataFrame({"value": values})
    frame["low"], frame["high"] = frame["value"] - reach, frame["value"] + reach
    assert claims._turns(frame) == expected
