"""Write docs/verdicts.md: do verdicts of few members hold on members that they have not seen?

All numbers come from the summaries in paper/heldout, which `bayes-tda heldout` makes.

python -m tools.pages.heldout           write docs/verdicts.md
python -m tools.pages.heldout --check   exit with 1 if it would change
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import xarray as xr

from tda_utils.experiments.heldout import HeldOutSummary, file_of, held_out_of
from tda_utils.reliability.heldout import RULES
from tda_utils.reproduce.heldout import Held, held_of
from tda_utils.reproduce.manifest import Manifest, load_manifest
from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages.evidence import Evidence, read_evidence
from tools.pages.filling import filled, table, write_or_check

PAGE = ROOT / "docs" / "verdicts.md"
#: The verdict that README shows: of so many members, by this rule.
TEN, RULE = 10, "bh"
RULE_LABELS = {
    "none": "p < 0.05",
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "max_t": "max-t",
    "lfsr": "local false sign rate",
}
ALL_METHODS = "together"
NONE = "–"


class Set(NamedTuple):
    """A set of data with many members: its name for a reader, and what is known of its verdicts."""

    name: str
    held: Held
    summary: HeldOutSummary
    #: What the summary says of each method.
    methods: Mapping[str, xr.Dataset]
    floor: float | None

    @property
    def steps(self) -> int:
        """How many steps a training has."""
        experiment = self.held.experiment
        recipe, train = experiment.recipe, experiment.data.n_train
        return recipe.epochs * -(-train // recipe.batch_size)

    @property
    def left(self) -> int:
        """How many members are left when ten are seen."""
        return self.held.experiment.members - TEN

    def number(
        self, method: str, variable: str, statistic: str = "mean", **chosen: object
    ) -> float:
        """Return a number of a method, by default of ten members and README's rule."""
        where = {"seen": TEN, "rule": RULE, "statistic": statistic} | chosen
        values = self.methods[method][variable]
        return float(values.sel({dim: where[dim] for dim in values.dims}))


def sets_of(manifest: Manifest) -> list[Set]:
    """Return the sets whose summary is there, in the manifest's order."""
    folder, evidence = manifest.folder / "heldout", read_evidence(manifest.folder)
    found = []
    for held in held_of(manifest).values():
        if file_of(held.experiment, folder, held.methods).is_file():
            summary = held_out_of(held.experiment, folder, held.methods)
            methods = {method: summary.of(method) for method in summary.methods}
            found.append(Set(_name(held), held, summary, methods, _floor(held, evidence)))
    return found


def _floor(held: Held, evidence: Evidence) -> float | None:
    """Return the floor of a study of the same trainings, whatever its members."""
    own = dataclasses.asdict(held.experiment)
    same = ("task", "per_class", "lists", "model", "draw", "dtype")
    for study in evidence.studies:
        if study.floor is not None and all(study.values.get(name) == own[name] for name in same):
            return study.floor.value
    return None


def _name(held: Held) -> str:
    experiment = held.experiment
    task = {"mnist3": "MNIST3", "cifar10": "CIFAR-10"}[experiment.task]
    return f"{task} {experiment.per_class}"


def percent(share: float) -> str:
    """Return a share in percent, with a decimal where it is small.

    Examples
    --------
    >>> percent(0.0021), percent(0.274), percent(float("nan"))
    ('0.2 %', '27 %', '–')
    """
    if math.isnan(share):
        return NONE
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _between(low: float, high: float) -> str:
    first, last = percent(low), percent(high)
    return first if first == last else f"{first} to {last}"


# ---------------- README


def short(manifest: Manifest) -> str:
    """Return README's table: what ten members name, and what the others say of it."""
    found = sets_of(manifest)
    rows = []
    for one in found:
        for method in one.summary.methods:
            wrong = percent(one.number(method, "wrong"))
            rows.append(
                [
                    one.name,
                    METHOD_LABELS[method],
                    percent(one.number(method, "named")),
                    f"{wrong} ({percent(one.number(method, 'wrong', 'high'))})",
                    NONE if method == "loo" else percent(one.number(method, "truth_wrong")),
                ]
            )
        rows.append(
            [
                one.name,
                "several, with a tenth of the retrainings",
                percent(_right(one, "named")),
                NONE,
                percent(1 - _right(one, "right_decided")),
            ]
        )
    draws = found[0].summary.content["draws"]
    heads = [
        "data",
        "method",
        "pairs named",
        "other sign on seeds left (95 % of draws below)",
        "other sign than leave-one-out on seeds left",
    ]
    return "\n\n".join(
        [
            f"**{repeated(found)}** {right(found)}",
            table(heads, rows, left=2),
            f"Ten of {found[0].held.experiment.members} seeds name pairs (t-test, "
            f"Benjamini-Hochberg at 5 %), and the {found[0].left} others judge them; means over "
            f"{draws} draws of which ten. The last column counts pairs that leave-one-out decides. "
            "Other rules, other numbers of seeds, and how many are needed: "
            "[Do verdicts hold?](docs/verdicts.md)",
        ]
    )


def _right(one: Set, variable: str, statistic: str = "mean", verdict: str = ALL_METHODS) -> float:
    values = one.summary.right()[variable]
    return float(values.sel(verdict=verdict, statistic=statistic))


def repeated(found: list[Set]) -> str:
    """Say how often verdicts are repeated, and how often those of estimators are right.

    Only the estimators of the paper count: the unrolled derivative is no estimate.
    """
    pairs = [(one, method) for one in found for method in one.summary.methods]
    most = max(one.number(method, "wrong") for one, method in pairs)
    against = [
        one.number(method, "truth_wrong")
        for one, method in pairs
        if method not in ("loo", "unrolled")
    ]
    return (
        f"What ten seeds name repeats: at most {percent(most)} of it has the other sign on seeds "
        f"not seen. What repeats need not be right: {_between(min(against), max(against))} of what "
        "the estimators name has the other sign than leave-one-out."
    )


def right(found: list[Set]) -> str:
    """Say how far a verdict gets that is to be right."""
    shares = [_right(one, "right_decided") for one in found]
    part = [_right(one, "found") for one in found]
    return (
        f"{_unrolled(found)}Several methods added up, with a tenth of leave-one-out's retrainings "
        f"to say how large a sum has to be, are right in {_between(min(shares), max(shares))} of "
        f"what they name, and name {_between(min(part), max(part))} of what leave-one-out finds."
    )


def _unrolled(found: list[Set]) -> str:
    """Say what the derivative through training does, where it was computed."""
    known = [one for one in found if "unrolled" in one.summary.methods]
    if not known:
        return ""
    wrong = [one.number("unrolled", "truth_wrong") for one in known]
    named = [[one.number(method, "named") for one in known] for method in ("unrolled", "loo")]
    own, loos = (_between(min(shares), max(shares)) for shares in named)
    return (
        "The derivative through the whole training run (UR) retrains nothing, names "
        f"{own} of the pairs where leave-one-out names {loos}, and has another sign than "
        f"leave-one-out in {_between(min(wrong), max(wrong))} of them. "
    )


# ---------------- the page


def seen_table(one: Set) -> str:
    """Return what each method names with few members, and what becomes of it."""
    heads = [
        "method",
        "seeds",
        "named",
        "other sign on seeds left, named",
        "not named",
        "correlation, named",
        "other sign than leave-one-out, named",
        "all",
    ]
    rows = [
        _seen_row(one, method, seen)
        for method in one.summary.methods
        for seen in one.summary.content["seen"]
    ]
    return table(heads, rows)


def _seen_row(one: Set, method: str, seen: int) -> list[str]:
    def of(variable: str, statistic: str = "mean") -> str:
        return percent(one.number(method, variable, statistic, seen=seen))

    correlation = one.number(method, "correlation", seen=seen)
    row = [
        METHOD_LABELS[method],
        str(seen),
        of("named"),
        f"{of('wrong')} ({of('wrong', 'high')})",
        of("others_wrong"),
        NONE if math.isnan(correlation) else f"{correlation:.2f}",
    ]
    if method == "loo":
        return [*row, NONE, NONE]
    return [*row, f"{of('truth_wrong')} ({of('truth_wrong', 'high')})", of("all_truth_wrong")]


def rule_table(one: Set) -> str:
    """Return what each rule makes of ten members' scores."""
    rows = [
        [
            METHOD_LABELS[method],
            RULE_LABELS[rule],
            percent(one.number(method, "named", rule=rule)),
            percent(one.number(method, "wrong", rule=rule)),
            percent(one.number(method, "wrong", "high", rule=rule)),
            percent(one.number(method, "power", rule=rule)),
        ]
        for method in one.summary.methods
        for rule in RULES
    ]
    return table(["method", "rule", "named", "other sign", "95 % of draws below", "power"], rows, 2)


def right_table(one: Set) -> str:
    """Return how far calibrated verdicts get, of each method and of several together."""
    names = one.summary.right()["verdict"].values.tolist()
    rows = [
        [
            METHOD_LABELS.get(name, name),
            percent(_right(one, "named", verdict=name)),
            percent(_right(one, "right", verdict=name)),
            f"{percent(_right(one, 'right_decided', verdict=name))} "
            f"({percent(_right(one, 'right_decided', 'low', name))})",
            percent(_right(one, "found", verdict=name)),
        ]
        for name in names
    ]
    heads = ["verdict of", "named", "right", "right where decided", "of what leave-one-out finds"]
    return table(heads, rows)


def plan_table(one: Set) -> str:
    """Return the share found by more members, as pilots predict it and as it is."""
    planned = one.summary.planned()["power"]
    names = planned["plan"].values.tolist()
    pilots = sorted({int(name.split()[0]) for name in names if " for " in name})
    reached = [int(name.split()[-1]) for name in names if name.startswith("reached")]

    def of(plan: str) -> str:
        low, high = (float(planned.sel(plan=plan, statistic=end)) for end in ("low", "high"))
        return f"{percent(float(planned.sel(plan=plan, statistic='mean')))} ({_between(low, high)})"

    rows = [
        [str(members), of(f"reached by {members}")]
        + [of(f"{pilot} for {members}") for pilot in pilots]
        for members in reached
    ]
    return table(["members", "found", *(f"predicted by {pilot}" for pilot in pilots)], rows)


def stopped_text(one: Set) -> str:
    """Say where leave-one-out stops, and what that saves."""
    stopped = one.summary.stopped()
    if "fixed" not in stopped or stopped["fixed"] is None:
        return "No fixed number of members reaches half of what all find."
    said = [
        f"Half of what all members find is {percent(stopped['share'])} of the pairs. "
        f"{stopped['fixed']:.0f} members reach that in 95 % of draws, with "
        f"{percent(stopped['fixed_wrong'])} of other sign."
    ]
    for bound, label in {"bh": "Benjamini-Hochberg", "e": "e-values"}.items():
        stop, wrong = stopped["stop"][bound], stopped["wrong"][bound]
        if stop[0] is None:
            said.append(f"With {label} no draw stops.")
            continue
        saved, low, high = stopped["saved"][bound]
        more = "saves" if saved >= 0 else "costs"
        ends = sorted((abs(low), abs(high)))
        said.append(
            f"To look after each member and stop, with {label}, takes {stop[0]:.1f} on average "
            f"(95 % of draws up to {stop[2]:.0f}), with {percent(wrong[0])} of other sign; that "
            f"{more} {percent(abs(saved))} of the trainings ({_between(*ends)}) against the fixed "
            "number."
        )
    return " ".join(said)


def sections(one: Set) -> Iterator[str]:
    """Write the section of a set."""
    summary, experiment = one.summary, one.held.experiment
    size = summary.content
    yield f"## {one.name}"
    yield (
        f"{experiment.members} members, {size['checkpoints']} checkpoints each (their mean), "
        f"{size['attributed']} training and {size['test']} test samples, {size['draws']} draws."
    )
    yield "### Few members against the others"
    yield (
        "Named by Benjamini-Hochberg at 5 %. In brackets what 95 % of the draws stay below. "
        "Correlation is that of the mean of the members seen and of those left."
    )
    yield seen_table(one)
    yield f"### Rules, with {TEN} members"
    yield (
        "Power is the share that is named of the pairs which the members left decide. `max-t` has "
        "no p-value small enough with five members or fewer."
    )
    yield rule_table(one)
    yield "### Right, with a tenth of the retrainings"
    yield (
        "`tda.calibrated`, from ten members' scores and leave-one-out of two of them for half of "
        "the training samples. In brackets what 95 % of the draws stay above."
    )
    yield right_table(one)
    yield "### Is leave-one-out broken, or just noisy?"
    yield (
        "Pearson's correlation of a method's mean over so many members with leave-one-out's over "
        "as many others; in brackets what it would be if the two differed by their noise alone, "
        "the root of the product of both methods' own."
    )
    yield noisy_table(one)
    yield noisy(one)
    yield "### How many members?"
    yield (
        "The share that leave-one-out of so many members finds of what it finds with all of them, "
        "and what `tda.seeds_needed` predicts from a pilot; in brackets the range of 90 % of draws."
    )
    yield plan_table(one)
    yield stopped_text(one)


def noisy_table(one: Set) -> str:
    """Return each method's agreement with leave-one-out, by how many members are averaged."""
    members = one.summary.curve("loo")["members"].values.tolist()
    rows = [["LOO with itself", *(f"{_agreed(one, 'loo', n):.2f}" for n in members)]]
    for method in one.summary.methods:
        if method != "loo":
            found = (
                f"{_agreed(one, method, n):.2f} ({_most(one, method, n):.2f})" for n in members
            )
            rows.append([METHOD_LABELS[method], *found])
    return table(["method", *map(str, members)], rows)


def _agreed(one: Set, method: str, members: int, variable: str = "other") -> float:
    curve = one.summary.curve(method)["own" if method == "loo" else variable]
    return float(curve.sel(kind="pearson", statistic="mean", members=members))


def _most(one: Set, method: str, members: int) -> float:
    """Return the correlation of two means that differ by nothing but their noise."""
    own = (_agreed(one, name, members, "own") for name in ("loo", method))
    return math.sqrt(max(math.prod(own), 0))


def noisy(one: Set) -> str:
    """Say what is noise, and what is not, of how little the estimators agree with leave-one-out."""
    most = one.summary.curve("loo")["members"].values.tolist()[-1]
    estimators = [name for name in one.summary.methods if name not in ("loo", "unrolled")]
    best = max(estimators, key=lambda method: _agreed(one, method, most))
    floor = "not measured" if one.floor is None else f"{one.floor:.2g}"
    return (
        f"Noisy: leave-one-out of one member correlates {_agreed(one, 'loo', 1):.2f} with that of "
        f"another, of {most} members {_agreed(one, 'loo', most):.2f} with that of {most} others. "
        f"And not just noisy: of {most} members the best of the estimators, "
        f"{METHOD_LABELS[best]}, correlates {_agreed(one, best, most):.2f} with leave-one-out, "
        f"where noise alone would leave {_most(one, best, most):.2f}. A training has {one.steps} "
        f"steps; the floor, rounding divided by leave-one-out, is {floor}."
    )


OPENING = """\
# Do verdicts hold?

Of many members a few are drawn, and rules name the pairs whose scores stand out from noise. The
members that were left out then say what is so: does a pair's mean over them have the same sign? For
an estimator they are asked a second question: does leave-one-out, averaged over the members left,
have that sign? That is counted over the pairs that it decides. Draws share members, so that the
spread over draws says what may happen with other few members of these, not how sure a mean is.

The summaries lie in `paper/heldout`; `bayes-tda heldout` makes them.
[Notebook 13](../notebooks/13_do_verdicts_hold.ipynb) does the same on a small scale.
"""


def page(manifest: Manifest) -> str:
    """Return the whole page."""
    found = sets_of(manifest)
    parts = [OPENING.rstrip(), filled(f"**{repeated(found)}** {right(found)}")]
    for one in found:
        parts += [part if part.startswith("|") else filled(part) for part in sections(one)]
    missing = len(held_of(manifest)) - len(found)
    if missing:
        parts.append(
            f"{missing} of the {len(held_of(manifest))} sets that the manifest names have not been "
            "summed up yet."
        )
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write docs/verdicts.md, or check it; return the exit code."""
    manifest = load_manifest(ROOT / "paper" / "figures.yaml")

    def make(_: str) -> str:
        return page(manifest)

    return write_or_check(PAGE, make, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
