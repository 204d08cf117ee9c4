"""The committed tables, read without pandas and without the code under test."""

from __future__ import annotations

import csv

from tools import ROOT

PAPER = ROOT / "paper"


def rows(name: str, protocol: str) -> list[dict[str, str]]:
    """Return the rows of a table of one protocol."""
    with (PAPER / "tables" / f"{name}-{protocol}.csv").open(newline="") as file:
        return list(csv.DictReader(file))
