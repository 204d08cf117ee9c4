"""The page of verdicts: it has every claim, and its numbers are those of the committed tables."""

from __future__ import annotations

import json
import re

import pytest

from tda_utils.reproduce.manifest import load_manifest
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tests.tools.pages.conftest import PAPER, rows
from tools.pages import reproduction
from tools.pages.claims import CLAIMS


@pytest.fixture(scope="module")
def judged():
    return reproduction.findings()


def test_the_page_is_up_to_date():
    assert reproduction.main(["--check"]) == 0


def test_there_are_nine_claims_each_with_a_verdict_a_rule_and_known_figures(judged):
    assert list(judged) == list(range(1, 10))
    figures = load_manifest(PAPER / "figures.yaml").figures
    text = (PAPER / "REPRODUCTION.md").read_text()
    for number, claim in enumerate(CLAIMS, start=1):
        assert set(claim.figures) <= set(figures)
        verdict = reproduction.verdict_of(judged[number])
        assert f"| {number} | {claim.text} | {verdict} |" in text
        for protocol in PROTOCOLS:
            assert judged[number][protocol].verdict in verdict
    for _, _, figure in reproduction.defects():
        assert figure in figures


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_said_of_all_of_mnist_is_in_its_table_and_numbers(protocol):
    """Recomputed without the code under test; the noise of the t-test is its level."""
    text = (PAPER / "REPRODUCTION.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    section = text.partition("## All of MNIST")[2].partition("\n## ")[0]
    (said,) = [line for line in section.splitlines() if line.startswith(f"- **{protocol}.**")]
    record = json.loads((PAPER / "numbers" / f"full_mnist-{protocol}.json").read_text())
    table = {row["method"]: row for row in rows("full_mnist", protocol)}
    assert record["all of MNIST"]
    assert table.keys() == set(METHOD_LABELS)
    wanted = []
    for size, values in record["loo by training digits"].items():
        wanted += [f"{int(size):,}", f"{values['|mean| / std']:.2f}"]
        wanted += [f"{values[name]:.2g}" for name in ("|mean|", "std")]
    estimators = [row for method, row in table.items() if method != "loo"]
    found = sorted(100 * float(row["p < 0.05"]) for row in estimators)
    with_loo = sorted(float(row["with LOO"]) for row in estimators)
    wanted += [f"{value:.1f} %" for value in (100 * float(table["loo"]["p < 0.05"]), *found[::3])]
    wanted += [f"{value:.2f}" for value in with_loo[::3]]
    if protocol == "paired":
        wanted.append("5.0 %")
    shown = re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: %)?", said)
    assert set(wanted) <= set(shown)
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith(f"| {protocol}")]
    for (_, _, members, pairs, *_), row in zip(cells, table.values(), strict=True):
        assert int(members) == int(row["members"])
        assert int(pairs.replace(",", "")) == int(row["pairs"])
