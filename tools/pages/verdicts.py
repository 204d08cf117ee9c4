"""The claims on a page: verdicts, and each number with its interval, its floor and its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tda_utils.reliability.significance import null_reference
from tools.pages import filling, rules
from tools.pages.claims import CLAIMS, SIZE_RULE, VIEWS, Claim, Column, Question, Row
from tools.pages.evidence import Evidence, Number, Study

NONE = "—"
MARK = "†"
MARKED = (
    f"{MARK} Rounding alone moves the loss by more than 1 % of what leave-one-out does: single "
    "models' answers are not defined there."
)


def written(number: Number, form: str) -> str:
    """Write a number with its interval, "—" if it is not defined.

    Examples
    --------
    >>> written(Number(0.5, 0.25, 0.75), "percent"), written(Number(0.005), "percent")
    ('50 % (25 to 75 %)', '0.5 %')
    >>> written(Number(-0.001, -0.25, 0.75), "correlation"), written(Number(3.97), "count")
    ('0.00 (-0.25 to 0.75)', '4.0')
    """
    if math.isnan(number.value):
        return NONE
    value, low, high = (_one(bound, form) for bound in (number.value, number.low, number.high))
    unit = " %" if form == "percent" else ""
    if math.isnan(number.low) or math.isnan(number.high):
        return f"{value}{unit}"
    return f"{value}{unit} ({low} to {high}{unit})"


def _one(value: float, form: str) -> str:
    if form == "percent":
        return f"{100 * value:.{1 if abs(value) < 0.1 else 0}f}"
    if form == "ratio":
        return f"{value:.2g}"
    digits = {"p": 3, "correlation": 2, "count": 1}[form]
    # Rounded first and then added to zero, so that no zero has a sign.
    return f"{round(value, digits) + 0:.{digits}f}"


def floor_of(studies: Iterable[Study]) -> str:
    """Write the largest floor of some studies, marked where single models have no answer."""
    known = [one for one in studies if one.floor is not None]
    if not known:
        return NONE
    largest = max(known, key=lambda one: one.floor.value)
    return f"{written(largest.floor, 'ratio')}{f' {MARK}' if largest.rounded else ''}"


def linked(text: str, studies: Sequence[Study]) -> str:
    """Link a text to a study's file, if it is one study."""
    return f"[{text}](studies/{studies[0].file})" if len(studies) == 1 else text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return a Markdown table, its first columns to the left; nothing if it has no row."""
    rows = list(rows)
    if not rows:
        return []
    return [*filling.table(header, rows, left).splitlines(), ""]


def places(columns: Iterable[Column]) -> str:
    """Say where the numbers of columns stand in a study's file."""
    said = []
    for column in columns:
        path = column.path.replace("{last}", "{checkpoints}")
        how = f", {CHANGED[column.change]}" if column.change else ""
        said.append(f"*{column.title}* `{path}`{how}")
    return "; ".join(said)


CHANGED = {
    "R / (n - (n - 1) R)": "of that R / (n - (n - 1) R), n the number of members",
    "other sign": "with the other sign",
}


# ---------------- verdicts


def verdict_of(claim: Claim, evidence: Evidence, view: str) -> str:
    """Return the verdict on a claim under a view, or on each of its parts by letter."""
    found = [
        (letter, question.verdicts(evidence)[view])
        for letter, question in lettered(claim)
        if question.counts and view in {one.name for one in question.views}
    ]
    if not found:
        return NONE
    words = [f"{letter}{rules.pooled(verdicts)}" for letter, verdicts in found]
    return "; ".join(words)


def lettered(claim: Claim) -> list[tuple[str, Question]]:
    """Return the questions of a claim, each with a letter if there are several."""
    if len(claim.questions) == 1:
        return [("", claim.questions[0])]
    return [(f"({'abcdef'[at]}) ", one) for at, one in enumerate(claim.questions)]


def summary(evidence: Evidence) -> list[str]:
    """Return the table of all claims."""
    rows = [
        (str(number), claim.text, *(verdict_of(claim, evidence, view.name) for view in VIEWS))
        for number, claim in enumerate(CLAIMS, start=1)
    ]
    return table(("", "claim", *(view.name for view in VIEWS)), rows, left=5)


def judged(question: Question, rows: Sequence[Row]) -> list[str]:
    """Return a line for each view: its verdict, and how often each verdict was reached."""
    lines = []
    for view in question.views:
        verdicts = [one for row in rows if row.view == view.name for one in row.verdicts]
        counts = rules.counted(verdicts)
        lines.append(f"- **{view.name}: {rules.pooled(verdicts)}** ({counts}).")
    return [*lines, ""]


def evidence_table(question: Question, rows: Sequence[Row]) -> list[str]:
    """Return the table of a question: a row for each study, or for studies that are compared."""
    columns = [one for one in question.columns if any(one.title in row.cells for row in rows)]
    header = ("protocol", "study", "members", *(one.title for one in columns), "floor", "verdict")
    return table(header, (_row(row, columns) for row in rows), left=2)


def _row(row: Row, columns: Sequence[Column]) -> list[str]:
    cells = []
    several = len(row.studies) > 1
    for column in columns:
        if column.title not in row.cells:
            cells.append("")
            continue
        study, number = row.cells[column.title]
        text = written(number, column.form)
        cells.append(linked(text, [study]) if several else text)
    floor = floor_of(row.studies) if row.view == "paired" else NONE
    verdict = row.verdicts[0] if len(set(row.verdicts)) == 1 else rules.counted(row.verdicts)
    reason = f" ({row.reason})" if row.reason else ""
    name = linked(row.name, row.studies)
    return [row.view, name, str(row.members), *cells, floor, f"{verdict}{reason}"]


# ---------------- the sections


def sections(evidence: Evidence) -> list[str]:
    """Return a section for each claim."""
    lines = [
        "## The evidence",
        "",
        f"{SIZE_RULE} It is in the tables all the same.",
        "",
        "A link leads to the file of a study. Under each table is said where its numbers stand in "
        "these files, with keys in the order in which they lie in each other: `members` and "
        "`checkpoints` are the study's own numbers, and `loo` is `loo_without_drift` where the "
        "drift is removed.",
        "",
        "*Floor* is what rounding alone does to the loss of one model, divided by what "
        "leave-one-out does; it is measured for paired leave-one-out only. Its interval covers "
        f"with the probability that its members allow, `floor/confidence`. {MARKED}",
        "",
    ]
    for number, claim in enumerate(CLAIMS, start=1):
        lines += [f"### {number}. {claim.text}", ""]
        lines += [f"![{_alt(claim)}](figures/{claim.figure}-paired.png)", ""]
        for letter, question in lettered(claim):
            lines += _question(letter, question, evidence)
        lines += [*REMARKS.get(number, lambda _: [])(evidence)]
        lines += [f"*What decides.* {claim.decides}", ""]
        figures = ", ".join(f"`{name}`" for name in (claim.figure, *claim.more))
        lines += [f"*Figures.* {figures}", ""]
    return lines


def _alt(claim: Claim) -> str:
    return f"Figure {claim.figure}, protocol paired, on the claim: {claim.text}"


def _question(letter: str, question: Question, evidence: Evidence) -> list[str]:
    rows = question.rows(evidence)
    stop = "" if question.title.endswith("?") else "."
    lines = [f"**{letter}{question.title}{stop}** {question.rule}", ""]
    lines += judged(question, rows)
    found = evidence_table(question, rows)
    if not found:
        return lines
    used = [one for one in question.columns if any(one.title in row.cells for row in rows)]
    return [*lines, *found, f"In the file: {places(used)}.", ""]


def sign_artefact(evidence: Evidence) -> list[str]:
    """Say in how many studies the clusters are there, by values alone, with either sign."""
    removal, released = CLAIMS[5].questions[2:4]
    counts = []
    for question in (removal, released):
        rows = question.rows(evidence)
        counts.append((sum(_together(row) for row in rows), len(rows)))
    (without, among), (with_signs, _) = counts
    if not among:
        return []
    said = (
        f"By values alone, both correlations inside exceed all across in {with_signs} of {among} "
        f"studies with signs as released, and in {without} with removal sign."
    )
    if not without and with_signs == among:
        said += " So the clusters are an artefact of the sign."
    return [said, ""]


def _together(row: Row) -> bool:
    values = [number.value for _, number in row.cells.values()]
    return min(values[:2]) > max(values[2:])


def noise(evidence: Evidence) -> list[str]:
    """Say how often pure noise has p < 0.05, by the test of each protocol."""
    shares = {test: null_reference(TEN, test).fraction_significant for test in ("t", "released")}
    said = (
        f"With {TEN} members pure noise has p < 0.05 for {100 * shares['t']:.0f} % of the pairs by "
        f"the t-test, and for {100 * shares['released']:.2g} % by the released formula, whose "
        "border is that of (b)."
    )
    return [said, ""]


TEN = 10
REMARKS = {2: noise, 6: sign_artefact}
