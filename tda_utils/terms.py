"""Words that several wings share: the two protocols, and what the methods are called in figures."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["paired", "released"]
#: Attribution as the paper defines it, and as its released code computes it.
PROTOCOLS = ("paired", "released")
#: The methods by their names in code, as figures and tables call them: the paper's five, and UR.
METHOD_LABELS = {
    "loo": "LOO",
    "ats": "ATS",
    "influence": "IF",
    "grad_dot": "GD",
    "grad_cos": "GC",
    "unrolled": "UR",
}
