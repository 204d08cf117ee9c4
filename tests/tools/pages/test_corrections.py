"""The page of corrections: what changed is listed with its reason, and nothing else is."""

from __future__ import annotations

import re

import pytest

from tda_utils.terms import PROTOCOLS
from tda_utils.texts import read_json
from tests.tools.pages.synthetic import around, content, evidence, study
from tools.pages import corrections
from tools.pages.claims import CLAIMS
from tools.pages.verdicts import verdict_of


def test_the_page_is_up_to_date():
    assert corrections.main(["--check"]) == 0


def test_every_claim_of_0_1_has_its_verdicts_and_a_reason():
    before = read_json(corrections.BEFORE)["claims"]
    assert list(before) == [str(number) for number in range(1, 10)]
    assert all(set(verdicts) == set(PROTOCOLS) for verdicts in before.values())
    assert list(corrections.WHY) == list(range(1, 10))


def told(studies=None, claims=None, *contents):
    found = evidence(*contents)
    now = {
        str(at): {protocol: verdict_of(claim, found, protocol) for protocol in PROTOCOLS}
        for at, claim in enumerate(CLAIMS, start=1)
    }
    page = corrections.page(found, {"claims": now | (claims or {}), "studies": studies or {}})
    return page.replace("\N{NO-BREAK SPACE}", " ")


def test_a_verdict_is_listed_where_it_changed_and_only_there():
    found = content()
    assert "| paired |" not in told(None, None, found)
    other = {"3": {"paired": "supported", "released": "not decided; not decided"}}
    lines = [line for line in told(None, other, found).splitlines() if line.startswith("| 3")]
    assert len(lines) == 2
    assert corrections.WHY[3] in lines[0]
    assert "| supported | (a) supported; (b) supported |" in lines[0]
    # The word is another one, the verdict is not.
    refuted = {"1": {"paired": "not supported", "released": "not decided"}}
    assert "| 1 |" not in told(None, refuted, found)


@pytest.mark.parametrize(
    ("was", "dtype", "listed", "reason"),
    [
        (around(0.3), "float32", False, ""),
        (around(0.3001), "float32", False, ""),  # Not to be seen in the digits that are shown.
        (around(0.3, 0.05), "float32", True, "interval"),
        (around(0.4), "float32", True, "level"),
        (around(0.4), "float64", True, "float64"),
    ],
)
def test_a_number_is_listed_where_it_is_shown_otherwise(was, dtype, listed, reason):
    found = content(dtype=dtype)
    name = study(found).file.rpartition("-")[0]
    page = told({name: {"significant": was}}, None, found)
    lines = [line for line in page.splitlines() if "(../paper/studies/" in line]
    assert len(lines) == listed
    assert all(reason in line and re.search(r"\| 30 % \(29 to 31 %\) \|", line) for line in lines)
