"""The report: a verdict on anyone's scores, and how scores are kept and exchanged.

The wing is what it is called: ``tda.report(scores).save("report.html")``.

=============== ================================================================================
`making`        `report`, and what it gives
`given`         scores of any kind become cubes that fit one another
`verdict`       the words, and the tables
`warned`        what speaks against the numbers, and what to do next
`page`          one page of HTML, with what `samples` look like and what is `drawn`
`exchange`      scores to files and back; whether a file is fit, by the `form` of scores
`adapters`      scores of other libraries, one a file
`signs`         which way round scores are
`uses`          mislabelled samples, pruning, relabelling
=============== ================================================================================
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tda_utils.report.making import Report, report

__all__ = ["Report", "report"]


class _Wing(ModuleType):
    """The wing, which can be called: it does one thing."""

    def __call__(self, *arguments: Any, **options: Any) -> Report:
        return report(*arguments, **options)


sys.modules[__name__].__class__ = _Wing
