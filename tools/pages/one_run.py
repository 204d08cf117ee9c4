"""Write docs/one-run.md: what a single run says of itself, held against a hundred seeds.

python -m tools.pages.one_run           write docs/one-run.md
python -m tools.pages.one_run --check   exit with 1 if it would change
"""

from __future__ import annotations

import json
import sys

import numpy as np
import xarray as xr

from tda_utils.experiments.one_run import OneRunSummary
from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages import filling
from tools.pages.filling import filled, write_or_check

PAGE, SUMMARIES = ROOT / "docs" / "one-run.md", ROOT / "paper" / "one_run"
#: What a warning is made of, in words.
WARNINGS = {
    "size": "size of the score",
    "checkpoints": "mean over spread, {checkpoints} checkpoints",
    "laplace": "size over spread, {draws} draws of last-layer Laplace",
    "langevin": "size over spread, {draws} draws of Langevin",
    "three": "mean over spread, three seeds",
}
NUMBERS = ("tried", "around", "attributed", "test", "draws", "every")
OF_ONE = ("size", "checkpoints", "laplace", "langevin")
OPENING = """\
# One run's own warning

Most people have one trained model. Does it know by itself which of its scores would come out the
same with another seed, and which are right? Here {tried} single runs of MNIST3 with {attributed}
training digits, CNN2-L and {test} test digits are asked, one after the other, and held against the
other {others} seeds.

A pair *repeats* if the other seeds have it significant after Benjamini-Hochberg, with the sign of
this run's score. It is *right* if that sign is the one of leave-one-out's mean over the other
seeds; that is asked of the pairs where leave-one-out itself repeats. A warning is a number for each
pair that says how sure the run is. Its AUC is the probability that of two pairs, one that repeats
and one that does not, the first has the higher number: 0.5 is chance, 1 is always. Intervals are of
95 % and over runs. *All* is the share of pairs that repeat, or are right, of all; *surest* that of
the {surest:.0f} % of which the run is the surest.

The draws stand around the last checkpoint of {around} of these runs. Last-layer Laplace draws
{draws} last layers from the normal distribution with the inverse Hessian as its covariance;
Langevin takes {steps} more steps, with noise, and keeps every {every}th. Their settings (precision
of the prior {laplace}; step and temperature {langevin}) were chosen among {choices} on {tuned}
other runs, for the highest AUC of repeating. Cost is in trainings: each draw has its own gradients
to be taken besides, as each checkpoint has, and a training without each digit counts for LOO.
"""
HEADINGS = {
    "repeats": "Does the pair repeat in other seeds?",
    "right": "Is the sign that of leave-one-out?",
}


def read() -> OneRunSummary:
    """Return the committed summary."""
    (path,) = sorted(SUMMARIES.glob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    return OneRunSummary({name: value for name, value in content.items() if name != "sha256"})


def auc(one: xr.Dataset) -> str:
    """Return an AUC with its interval.

    Examples
    --------
    >>> auc(xr.Dataset({"auc": 0.7, "low": 0.65, "high": 0.751}))
    '0.70 (0.65 to 0.75)'
    """
    return f"{float(one['auc']):.2f} ({float(one['low']):.2f} to {float(one['high']):.2f})"


def best(found: xr.Dataset, warnings: tuple[str, ...]) -> tuple[str, str]:
    """Return the method, leave-one-out apart, and the warning with the highest AUC."""
    values = found["auc"].drop_sel(by="loo").sel(warning=list(warnings))
    by, warning = np.unravel_index(int(np.nanargmax(values.values)), values.shape)
    return str(values["by"][by].item()), str(values["warning"][warning].item())


def conclusion(summary: OneRunSummary) -> str:
    """Say how far one run foretells what repeats and what is right, beside three and LOO."""
    said = []
    for target, what in (("repeats", "repeat"), ("right", "have leave-one-out's sign")):
        found = summary.warnings(target)
        method, warning = best(found, OF_ONE)
        one, three = (found.sel(by=method, warning=w) for w in (warning, "three"))
        said.append(
            f"the best clue in one run to which pairs {what} is the {words(summary)[warning]} of "
            f"{METHOD_LABELS[method]}: an AUC of {auc(one)}, where three seeds have {auc(three)}. "
            f"Of the pairs it is surest of, {100 * float(one['surest']):.0f} % do; of all pairs, "
            f"{100 * float(one['all']):.0f} %"
        )
    gains = summary.warnings("repeats")["gain"].drop_sel(by="loo").sel(warning=list(OF_ONE[1:]))
    said.append(
        "checkpoints of the run, and draws around it, do no better than the size of a score: they "
        f"change the AUC of repeating by {float(gains.min()):+.2f} to {float(gains.max()):+.2f}"
    )
    loo = summary.warnings("right").sel(by="loo", warning="size")
    trainings = float(summary.trainings().sel(by="loo", warning="size"))
    right = 100 * float(loo["all"])
    said.append(
        f"leave-one-out of one run costs {trainings:.0f} trainings; {right:.0f} % of its signs are "
        f"right, and its size says which with an AUC of {auc(loo)}"
    )
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in said)


def draws(summary: OneRunSummary) -> str:
    """Say how far checkpoints and draws tell more than the plain size of a score."""
    found = summary.warnings("repeats")
    told = []
    for name in OF_ONE[1:]:
        gains = [
            f"{METHOD_LABELS[by]} {gain(found.sel(by=by, warning=name))}"
            for by in found["by"].values.tolist()
            if by != "loo"
        ]
        told.append(f"{words(summary)[name]}: {', '.join(gains)}")
    return (
        "How far the AUC of repeating exceeds that of the plain size of the score, run by run. "
        f"{'. '.join(f'{one[:1].upper()}{one[1:]}' for one in told)}."
    )


def gain(one: xr.Dataset) -> str:
    """Return a gain with its interval.

    Examples
    --------
    >>> gain(xr.Dataset({"gain": 0.02, "gain_low": -0.01, "gain_high": 0.05}))
    '+0.02 (-0.01 to +0.05)'
    """
    value, low, high = (float(one[name]) for name in ("gain", "gain_low", "gain_high"))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def words(summary: OneRunSummary) -> dict[str, str]:
    """Return what each warning is made of."""
    return {name: text.format(**summary.content) for name, text in WARNINGS.items()}


def table(summary: OneRunSummary, target: str) -> str:
    """Return the table of a target, a row for each method and warning."""
    found, costs = summary.warnings(target), summary.trainings()
    heads = ("method", "warning", "trainings", "runs", "AUC", "all", "surest")
    rows = []
    for method in found["by"].values.tolist():
        for warning, text in words(summary).items():
            one = found.sel(by=method, warning=warning)
            if np.isnan(one["auc"]):
                continue
            cost = float(costs.sel(by=method, warning=warning))
            shares = [f"{100 * float(one[name]):.0f} %" for name in ("all", "surest")]
            counts = [f"{cost:g}", f"{int(one['runs'])}"]
            cells = [METHOD_LABELS[method], text, *counts, auc(one), *shares]
            rows.append(cells)
    return filling.table(heads, rows, left=2)


def page(summary: OneRunSummary) -> str:
    """Return the whole page."""
    content = summary.content
    chosen = content["chosen"]
    heading, *paragraphs = OPENING.format(
        **{
            name: content[name]
            for name in ("tried", "around", "attributed", "test", "draws", "every")
        },
        others=content["members"] - 1,
        tuned=content["tuned"],
        surest=100 * content["surest"],
        steps=content["draws"] * content["every"],
        laplace=f"{chosen['laplace']['precision']:g}",
        langevin=f"{chosen['langevin']['step']:g} and {chosen['langevin']['temperature']:g}",
        choices=" and ".join(str(len(own)) for own in content["settings"].values()),
    ).split("\n\n")
    parts = [heading, filled(f"**{conclusion(summary)}**"), *map(filled, paragraphs)]
    for target, title in HEADINGS.items():
        parts += [f"## {title}", table(summary, target)]
    parts += [
        filled(draws(summary)),
        "`make one-run` computes it again, and `paper/one_run` has the numbers.",
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write docs/one-run.md, or check it; return the exit code."""
    return write_or_check(PAGE, lambda _: page(read()), __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
