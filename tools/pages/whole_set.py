"""The section on all of MNIST of paper/REPRODUCTION.md, from the numbers of figure `full_mnist`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from tda_utils.reliability.significance import TEST_OF, null_reference
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tools.pages.filling import sentence
from tools.pages.results import Results

LEVEL, POWER = 0.05, 0.8


def section(folder: Path) -> list[str]:
    """Return the lines of the section: what the appendix's experiment adds to the claims."""
    lines = [
        "## All of MNIST",
        "",
        "The paper's appendix trains on all of MNIST. No rule above rests on it; it shows where",
        "claims 1 to 3 and 5 lead when one sample is one of very many. Of the last two columns,",
        "*FDR* is what is left after control of the false discovery rate, *with LOO* the rank",
        "correlation of mean scores. Figure `full_mnist`, notebook 11.",
        "",
    ]
    rows = []
    for protocol in PROTOCOLS:
        results = Results(folder, protocol)
        table = results.table("full_mnist")
        lines += [f"- **{protocol}.** {sentence(one_among_many(results, table))}"]
        rows += [_row(protocol, row) for _, row in table.iterrows()]
    numbers = Results(folder, "paired").numbers("full_mnist")
    lines += [f"- **Where the answer of one model ends.** {rounding(numbers['rounding'])}"]
    lines += [f"- **What it would take.** {what_it_takes(numbers)}"]
    return [
        *lines,
        "",
        "| protocol | method | members | pairs | mean p (noise) | p < 0.05 | FDR | with LOO |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]


def one_among_many(results: Results, table: pd.DataFrame) -> str:
    """Say how leave-one-out changes with the number of training digits, and what the others do."""
    (few, one), (many, other) = _by_size(results.numbers("full_mnist"))
    table = table.set_index("method")
    loo, estimators = table.loc["loo"], table.drop("loo")
    found, correlation = estimators["p < 0.05"], estimators["with LOO"]
    noise = null_reference(int(loo["members"]), TEST_OF[results.protocol])
    text = (
        f"from {few} to {many:,} training digits the median pair of LOO falls from a mean of "
        f"{one['|mean|']:.2g} to {other['|mean|']:.2g} nats (without its sign), its standard "
        f"deviation over members from {one['std']:.2g} to {other['std']:.2g}, and their ratio from "
        f"{one['|mean| / std']:.2f} to {other['|mean| / std']:.2f}. Of the pairs of LOO "
        f"{loo['p < 0.05']:.1%} have p < 0.05 (noise: "
        f"{noise.fraction_significant:.1%}), of those of ATS, IF, GD and GC {found.min():.1%} to "
        f"{found.max():.1%}; their rank correlations with LOO lie between {correlation.min():.2f} "
        f"and {correlation.max():.2f}"
    )
    return text.replace("%", " %")


def _by_size(numbers: Mapping[str, Any]) -> list[tuple[int, Mapping[str, float]]]:
    sizes = numbers["loo by training digits"]
    return sorted((int(size), values) for size, values in sizes.items())


def rounding(measured: Mapping[str, Any]) -> str:
    """Say how large the floor is by precision, and what follows for the answer of one model.

    Examples
    --------
    >>> sizes = {"members": 2, "digits": 20, "|floor|": 4e-4, "|LOO|": 5e-4, "floor / LOO": 0.8}
    >>> said = rounding({"precision": {"float32": sizes}, "float32 with float64": {"7": 0.1},
    ...     "share of variance": 0.6})
    >>> said.startswith("With nothing left out, rounding alone changes the losses by 0.0004 nats")
    True
    """
    sizes = measured["precision"]
    each = "; ".join(
        f"by {one['|floor|']:.2g} nats in {precision} (median over members and test digits; LOO: "
        f"{one['|LOO|']:.2g}, ratio {one['floor / LOO']:.2g}; {one['members']:.0f} "
        f"{'member' if one['members'] == 1 else 'members'})"
        for precision, one in sizes.items()
    )
    digits = ", ".join(f"{value:.2f}" for value in measured["float32 with float64"].values())
    return (
        f"With nothing left out, rounding alone changes the losses {each}. Between float32 and "
        "float64, scores of the same member and the same digit left out correlate by "
        f"{digits} over test digits. Rounding explains "
        f"{measured['share of variance']:.0%} of the variance over members (median pair). Where "
        "the ratio is about one, the LOO of a single model is not defined; its mean over members "
        "may be."
    ).replace("%", " %")


def what_it_takes(numbers: Mapping[str, Any]) -> str:
    """Say how many members would find one sample's effect, with the arithmetic.

    Examples
    --------
    >>> sizes = {"30": {"|mean|": 0.01, "|mean| / std": 1.0, "std": 0.01}}
    >>> sizes["3000"] = {"|mean|": 2e-4, "|mean| / std": 0.4, "std": 5e-4}
    >>> said = what_it_takes({"loo by training digits": sizes, "loo members": 4})
    >>> "0.01 x 30 / 3,000 = 0.0001 nats" in said, "(2.80 / 0.2)^2 = 196 members" in said
    (True, True)
    """
    (few, one), (many, other) = _by_size(numbers)
    members = numbers["loo members"]
    of_noise = stats.t.isf(0.25, members - 1) / math.sqrt(members)
    effect = one["|mean|"] * few / many
    ratio = effect / other["std"]
    quantiles = stats.norm.isf(LEVEL / 2) + stats.norm.isf(1 - POWER)
    return (
        f"The paired ratio at {many:,} is {other['|mean| / std']:.3f}, where pure noise over "
        f"{members} members gives {of_noise:.3f}: only what exceeds that tells of an effect. "
        f"If the effect of a digit among {few} falls as its share of the training set does, it is "
        f"{one['|mean|']:.2g} x {few} / {many:,} = {effect:.2g} nats, or {ratio:.2g} of the "
        f"measured standard deviations ({other['std']:.2g} nats). A t-test at {LEVEL} finds that "
        f"in {POWER:.0%} of cases with ({quantiles:.2f} / {ratio:.2g})^2 = "
        f"{(quantiles / ratio) ** 2:,.0f} members. That is "
        "a mean over so many models: what one digit does to one of them stays below what another "
        "seed does."
    ).replace("%", " %")


def _row(protocol: str, row: pd.Series) -> str:
    fractions = (f"{row[name]:.1%}".replace("%", " %") for name in ("p < 0.05", "after FDR"))
    # Rounded first and then added to zero, so that no zero has a sign.
    with_loo = "" if row["method"] == "loo" else f"{round(row['with LOO'], 2) + 0:.2f}"
    cells = (
        protocol,
        METHOD_LABELS[row["method"]],
        f"{row['members']}",
        f"{row['pairs']:,}",
        f"{row['mean p']:.3f} ({row['noise: mean p']:.3f})",
        *fractions,
        with_loo,
    )
    return f"| {' | '.join(cells)} |"
