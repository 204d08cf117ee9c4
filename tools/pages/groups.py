"""Write docs/groups.md and its picture: what groups of training samples do, and who foretells it.

python -m tools.pages.groups           write docs/groups.md and docs/groups.png
python -m tools.pages.groups --check   exit with 1 if the page would change
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import xarray as xr

from tda_utils import outputs, plots
from tda_utils.experiments.groups import OTHERS, OWN, GroupSummary
from tda_utils.terms import METHOD_LABELS
from tools import ROOT
from tools.pages.filling import filled, write_or_check

PAGE, SUMMARIES = ROOT / "docs" / "groups.md", ROOT / "paper" / "groups"
SEEDS = {"same": "same seed", "other": "other seeds", "mean": "means"}
OPENING = """\
# Groups: what many training samples do together

Scores are of single samples. Who removes data removes many. Here groups of training digits are left
out of MNIST3, {attributed} training digits of three classes, and CNN2-L is trained again without
them: {trainings:,} trainings of {members} seeds, {test} test digits, the mean of the last
{checkpoints} epochs. Intervals are of 95 % and over seeds: what other seeds might have said.
LOO is leave-one-out, ATS one additional training step, IF influence, GD Grad-Dot, GC Grad-Cos.
"""
SCORES = """\
The *linear datamodelling score* adds up the scores of what is left out, and asks how well that
orders {halves} random halves by the loss after training on them: Spearman's correlation, the mean
over test digits. Scores of a seed are held against the losses of the *same seed*, against those of
*other seeds*, and the *means* of all scores against the means of all losses. After the semicolon
stands the interval over halves. The losses of one seed order the halves as those of another with
{between:.2f}: no score of one seed needs to do better in other seeds.
"""
CURVES = """\
Rise of the mean test loss, in nats, without the first digits by each method; a random group is the
mean of {random} groups, of half of the digits of {halves}. **Bold**: it repeats over seeds, after
control of the false discovery rate over this table. In brackets the share of test digits
whose own loss changes so that it repeats.

A method ranks by its mean score over these seeds and test digits. For a single digit of LOO that is
the very effect that is measured, so its first column flatters it. A group may be most of a class,
and what is lost then is the class. So many of the first {half} digits are of one class: {alike}.
"""
CLASSES = """\
Rise of the loss without a whole class, on test digits of that class and on the others.
"""


def read() -> GroupSummary:
    """Return the committed summary."""
    (path,) = sorted(SUMMARIES.glob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    return GroupSummary({name: value for name, value in content.items() if name != "sha256"})


def picture(summary: GroupSummary):
    """Return the figure of the page."""
    scores = summary.scores()
    by_method = {name: scores.sel(by=name) for name in scores["by"].values.tolist()}
    return plots.groups_by_size(summary.curves(), by_method, summary.content["between_seeds"])


def ends(low: float, high: float, digits: int = 2) -> str:
    """Return an interval in words.

    Examples
    --------
    >>> ends(0.123, 0.456)
    '0.12 to 0.46'
    """
    return f"{low:.{digits}f} to {high:.{digits}f}"


def conclusion(summary: GroupSummary) -> str:
    """Say who foretells halves best in other seeds, what half does, and since when it repeats."""
    other = summary.scores().sel(seeds="other")
    best = str(other["by"][int(other["value"].values.argmax())].item())
    score = other.sel(by=best)
    curves, half = summary.curves(), summary.content["sizes"][-1]
    rise = curves.sel(size=half).drop_sel(by="random")
    most = str(rise["by"][int(rise["value"].values.argmax())].item())
    top, by_chance = rise.sel(by=most), float(curves["value"].sel(by="random", size=half))
    return (
        f"In seeds that they have not seen, sums of {METHOD_LABELS[best]} scores order random "
        f"halves best, with {float(score['value']):.2f} ({ends(score['low'], score['high'])}), "
        "where the losses of two seeds agree with "
        f"{summary.content['between_seeds']:.2f}. Without the {half} digits that "
        f"{METHOD_LABELS[most]} puts first the mean loss rises by {float(top['value']):.2f} nats "
        f"({ends(top['low'], top['high'])}), without {half} at random by {by_chance:.2f}. "
        f"{since(summary)}"
    )


def since(summary: GroupSummary) -> str:
    """Say how many samples must go before the effect on the mean loss is told from luck."""
    sizes: dict[int | None, list[str]] = {}
    for by, size in summary.smallest().items():
        if by in METHOD_LABELS:
            sizes.setdefault(size, []).append(METHOD_LABELS[by])
    said = [
        f"{size} (chosen by {', '.join(names)})"
        for size, names in sorted((s, n) for s, n in sizes.items() if s is not None)
    ]
    text = f"The smallest groups whose effect repeats over seeds have {', '.join(said)} digits"
    if None in sizes:
        text += f"; no group of {', '.join(sizes[None])} does"
    return f"{text}."


def scores_table(scores: xr.Dataset) -> str:
    """Return the table of linear datamodelling scores."""
    lines = [f"| method | {' | '.join(SEEDS.values())} |", "| --- | --- | --- | --- |"]
    for method in scores["by"].values.tolist():
        cells = []
        for seeds in SEEDS:
            one = scores.sel(by=method, seeds=seeds)
            over = ends(one["low_subsets"], one["high_subsets"])
            cells.append(f"{float(one['value']):.2f} ({ends(one['low'], one['high'])}; {over})")
        lines.append(f"| {METHOD_LABELS[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curves_table(curves: xr.Dataset) -> str:
    """Return the table of rises of the loss by method and size."""
    sizes = curves["size"].values.tolist()
    lines = [f"| chosen by | {' | '.join(map(str, sizes))} |", "| --- |" + " --- |" * len(sizes)]
    for by in curves["by"].values.tolist():
        cells = []
        for size in sizes:
            one = curves.sel(by=by, size=size)
            said = f"{float(one['value']):.3f} ({ends(one['low'], one['high'], 3)})"
            said = f"**{said}**" if one["repeats"] else said
            cells.append(f"{said} [{100 * float(one['tests']):.0f} %]")
        lines.append(f"| {METHOD_LABELS.get(by, 'chance')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def classes_table(classes: xr.Dataset) -> str:
    """Return the table of classes."""
    lines = [f"| class left out | {OWN} | {OTHERS} |", "| --- | --- | --- |"]
    for label in classes["label"].values.tolist():
        cells = []
        for on in (OWN, OTHERS):
            one = classes.sel(label=label, on=on)
            cells.append(f"{float(one['value']):.2f} ({ends(one['low'], one['high'])})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(summary: GroupSummary) -> str:
    """Return the whole page."""
    content = summary.content
    half = content["sizes"][-1]
    alike = "; ".join(
        f"{METHOD_LABELS[by]} {counts[str(half)]}" for by, counts in content["of_one_class"].items()
    )
    words = {**content, "between": content["between_seeds"], "half": half, "alike": alike}
    heading, opening = OPENING.format(**words).split("\n\n")
    random, not_fair = CURVES.format(**words).split("\n\n")
    alt = outputs.alt_text(picture(summary))
    parts = [
        heading,
        filled(f"**{conclusion(summary)}**"),
        filled(opening),
        f"![{alt}](groups.png)",
        "## Do scores foretell what halves do?",
        filled(SCORES.format(**words)),
        scores_table(summary.scores()),
        "## Without the first samples",
        filled(random),
        curves_table(summary.curves()),
        filled(not_fair),
        "## Without a class",
        filled(CLASSES),
        classes_table(summary.classes()),
        "`make groups` computes it again, `tda.retrain` and `tda.datamodelling_score` do so for "
        "your own model, and `paper/groups` has the numbers.",
    ]
    return "\n\n".join(parts) + "\n"


def draw(summary: GroupSummary, to: Path) -> None:
    """Write the picture of the page."""
    with tempfile.TemporaryDirectory() as folder:
        _, png = outputs.save(picture(summary), folder, "groups")
        shutil.copyfile(png, to)


def main(arguments: list[str] | None = None) -> int:
    """Write docs/groups.md and its picture, or check the page; return the exit code."""
    code = write_or_check(PAGE, lambda _: page(read()), __doc__.splitlines()[0], arguments)
    given = sys.argv[1:] if arguments is None else arguments
    if not code and "--check" not in given:
        draw(read(), PAGE.with_suffix(".png"))
    return code


if __name__ == "__main__":
    sys.exit(main())
