"""The claims of the paper: of each the rule that decides it, and the judge that applies the rule.

A judge reads the committed tables and numbers of one protocol, and types none: a new result changes
the verdict, not the other way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tda_utils.terms import METHOD_LABELS
from tda_utils.texts import read_json

ESTIMATORS = tuple(label for method, label in METHOD_LABELS.items() if method != "loo")
SUPPORTED, REFUTED, OPEN = "supported", "not supported", "not decided"


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim under one protocol, with the numbers that it rests on."""

    verdict: str
    said: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the rule that decides it, and the figures to look at."""

    text: str
    rule: str
    figures: tuple[str, ...]
    judge: Callable[[Results], Finding]
    decides: str


@dataclass(frozen=True)
class Results:
    """The committed tables and numbers of one protocol."""

    folder: Path
    protocol: str

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of this protocol."""
        return pd.read_csv(self.folder / "tables" / f"{name}-{self.protocol}.csv")

    def numbers(self, name: str) -> dict[str, Any]:
        """Return the numbers of a figure, of this protocol or of both."""
        own = self.folder / "numbers" / f"{name}-{self.protocol}.json"
        return read_json(own if own.is_file() else own.with_stem(name))

    @cached_property
    def by_size(self) -> pd.DataFrame:
        """Reliability against training-set size, CNN2-L."""
        return self.table("by_size")

    def loo(self, table: pd.DataFrame, measure: str) -> pd.DataFrame:
        """Return the rows of leave-one-out and one measure, in the order of the figure."""
        return table[(table["method"] == "LOO") & (table["measure"] == measure)]

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Pearson's correlations of means: a row for each two methods, a column a study."""
        table = self.table("agreement_by_study")
        return table[table["kind"] == "pearson"].drop(columns="kind").set_index("methods")


def interval(row: Any, percent: bool = True) -> str:
    """Write a value with its interval.

    Examples
    --------
    >>> interval({"value": 0.5, "low": 0.25, "high": 0.75})
    '50 % (25 to 75 %)'
    >>> interval({"value": 0.5, "low": 0.25, "high": 0.75}, percent=False)
    '0.500 (0.250 to 0.750)'
    """
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if percent:
        return f"{value:.0%} ({low:.0%} to {high:.0%})".replace("%", " %").replace(" % to", " to")
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def judged_by(table: pd.DataFrame) -> str:
    """Say how many members the studies of each panel are judged by.

    Examples
    --------
    >>> judged_by(pd.DataFrame({"panel": ["A", "A", "B"], "members": [10, 10, 5]}))
    '(members: A 10, B 5)'
    """
    members = table.groupby("panel", sort=False)["members"].min()
    return f"(members: {', '.join(f'{panel} {count}' for panel, count in members.items())})"


def study(row: Any, what: str = "per class") -> str:
    """Name a study: panel and place in it."""
    return f"{row['panel']}, {row[what]}" + (" per class" if what == "per class" else "")


# ---------------- the nine claims


def overshadowed(results: Results) -> Finding:
    """Judge claim 1: is the noise of one pair larger than its mean?"""
    rows = results.loo(results.by_size, "sign_uncertain")
    numbers = {study(row): float(row["value"]) for _, row in rows.iterrows()}
    often = [value >= 0.5 for value in numbers.values()]
    verdict = SUPPORTED if all(often) else REFUTED if not any(often) else "depends on the data"
    said = "; ".join(f"{study(row)} {interval(row)}" for _, row in rows.iterrows())
    said = f"LOO pairs whose standard deviation exceeds their absolute mean: {said}"
    return Finding(verdict, f"{said} {judged_by(rows)}", numbers)


def rare_but_there(results: Results) -> Finding:
    """Judge claim 2: after correction for many tests, are there trusted pairs, and how many?"""
    table = results.table("significant_fraction").set_index("method")
    raw, corrected = (float(table.loc["loo", name]) for name in ("p < 0.05", "after FDR"))
    null = float(results.numbers("significant_fraction")["null fraction"])
    numbers = {"p < 0.05": raw, "after FDR": corrected, "noise": null}
    rows = results.loo(results.by_size, "significant")
    numbers |= {study(row): float(row["value"]) for _, row in rows.iterrows()}
    exist, rare = corrected > 0 and raw > null, corrected < 0.1
    verdict = SUPPORTED if exist and rare else "they exist and are not rare" if exist else REFUTED
    said = (
        f"LOO on MNIST3 with 10 per class: {raw:.1%} of all pairs have p < 0.05 (noise: "
        f"{null:.2%}), {corrected:.1%} after control of the false discovery rate. In all studies, "
        "before that control: "
    )
    said = said.replace("%", " %")
    said += "; ".join(f"{study(row)} {interval(row)}" for _, row in rows.iterrows())
    return Finding(verdict, f"{said} {judged_by(rows)}", numbers)


def ground_truth_is_noisy(results: Results) -> Finding:
    """Judge claim 3: is leave-one-out noisier than the estimators?"""
    table = results.by_size[results.by_size["measure"] == "sign_uncertain"]
    values = table.pivot_table(index=["panel", "per class"], columns="method", values="value")
    numbers = {
        f"{panel}, {size} per class, {method}": float(value)
        for (panel, size), row in values.iterrows()
        for method, value in row.items()
    }
    noisy = bool((values["LOO"] >= 0.25).all())
    some = bool((values["LOO"] >= 0.25).any())
    verdict = SUPPORTED if noisy else "depends on the data" if some else REFUTED
    noisier = (values[list(ESTIMATORS)].median(axis=1) < values["LOO"]).sum()
    said = (
        "pairs with more noise than mean under LOO: "
        + "; ".join(
            f"{panel}, {size} per class {row['LOO']:.0%}"
            for (panel, size), row in values.iterrows()
        )
        + f"; that is more than the median of the four estimators in {noisier} of {len(values)} "
        f"studies {judged_by(table)}"
    )
    return Finding(verdict, said.replace("%", " %"), numbers)


def initialisation_or_order(results: Results) -> Finding:
    """Judge claim 4: which source has the larger share of the variance?"""
    table = results.table("variance_sources").set_index(["method", "source"])
    numbers, larger, apart = {}, 0, 0
    for method in METHOD_LABELS:
        start, order = table.loc[(method, "initialisation")], table.loc[(method, "order")]
        numbers |= {f"{method}, initialisation": start["share"], f"{method}, order": order["share"]}
        larger += start["share"] > order["share"]
        apart += start["low"] > order["high"]
    loo = table.loc["loo"]
    titles = {"interaction": "both together", "epoch": "epoch in all runs"}
    parts = ", ".join(f"{titles.get(source, source)} {share(loo, source)}" for source in loo.index)
    said = (
        f"initialisation has the larger share for {larger} of {len(METHOD_LABELS)} methods, "
        f"with intervals apart for {apart}; LOO: {parts}"
    )
    verdict = OPEN
    if larger == len(METHOD_LABELS):
        verdict = SUPPORTED
    elif larger == 0:
        verdict = REFUTED
    return Finding(verdict, said, {name: float(value) for name, value in numbers.items()})


def share(table: pd.DataFrame, source: str) -> str:
    """Write a share of the variance with its interval."""
    return interval(table.loc[source].rename({"share": "value"}))


def estimates_against_truth(results: Results) -> Finding:
    """Judge claim 5: do the estimators correlate with leave-one-out?"""
    table = results.agreement
    rows = table.loc[[f"LOO, {name}" for name in ESTIMATORS]].abs()
    typical, itself = rows.median(), table.loc["LOO, LOO"]
    numbers = {f"{name}, median": float(value) for name, value in typical.items()}
    numbers |= {f"{name}, LOO with itself": float(value) for name, value in itself.items()}
    low = typical < 0.5
    verdict = SUPPORTED if low.all() else REFUTED if not low.any() else "depends on the data"
    said = "; ".join(
        f"{name}: {value:.2f}, LOO with itself {itself[name]:.2f}"
        for name, value in typical.items()
    )
    return Finding(
        verdict, f"median over ATS, IF, GD and GC of the correlation with LOO: {said}", numbers
    )


def families(results: Results) -> Finding:
    """Judge claim 6: IF like GD, GC steady on MNIST3 only, {ATS, IF} and {GD, GC} together."""
    table = results.agreement
    alike = table.loc["IF, GD"]
    cosine = results.by_size.query("method == 'GC' and measure == 'significant'")
    least = {panel: float(rows["value"].min()) for panel, rows in cosine.groupby("panel")}
    inside = table.loc[["ATS, IF", "GD, GC"]].min()
    across = table.loc[["ATS, GD", "ATS, GC", "IF, GD", "IF, GC"]].max()
    parts = {
        "IF and GD alike": bool((alike >= 0.9).all()),
        "GC steady on MNIST3 and not on CIFAR-10": least["MNIST3"] >= 0.9 > least["CIFAR-10"] + 0.1,
        "clusters": bool((inside > across).all()),
    }
    numbers = {f"IF, GD: {name}": float(value) for name, value in alike.items()}
    numbers |= {f"GC significant at least: {panel}": value for panel, value in least.items()}
    held = [name for name, holds in parts.items() if holds]
    verdict = SUPPORTED if len(held) == len(parts) else REFUTED
    if held and verdict == REFUTED:
        verdict = f"in part: {', '.join(held)}"
    said = (
        f"correlation of IF and GD {alike.min():.2f} to {alike.max():.2f}; GC significant for at "
        f"least {least['MNIST3']:.0%} of the pairs on MNIST3, {least['CIFAR-10']:.0%} on CIFAR-10; "
        f"both correlations within the clusters exceed all across in {int((inside > across).sum())}"
        f" of {len(inside)} studies"
    )
    return Finding(verdict, said.replace("%", " %"), numbers)


def size_is_not_monotonic(results: Results) -> Finding:
    """Judge claim 7: does mean p both rise and fall with the training-set size?"""
    rows = results.loo(results.by_size, "mean_p")
    verdicts, said, numbers = [], [], {}
    for panel, own in rows.groupby("panel", sort=False):
        own = own.sort_values("per class")
        numbers |= {study(row): float(row["value"]) for _, row in own.iterrows()}
        text = " → ".join(f"{row['value']:.3f}" for _, row in own.iterrows())
        said.append(f"{panel}, {', '.join(str(size) for size in own['per class'])}: {text}")
        verdicts.append(_turns(own))
    said = f"mean p of LOO by samples of each class, {'; '.join(said)} {judged_by(rows)}"
    known = {verdict for verdict in verdicts if verdict}
    verdict = known.pop() if len(known) == 1 else "depends on the data" if known else OPEN
    return Finding(verdict, said, numbers)


def _turns(own: pd.DataFrame) -> str:
    """Say whether a curve turns, by steps whose intervals do not overlap; "" for two sizes."""
    if len(own) < 3:
        return ""
    pairs = list(itertools.pairwise(own[["value", "low", "high"]].to_dict("records")))
    rises = any(after["low"] > before["high"] for before, after in pairs)
    falls = any(after["high"] < before["low"] for before, after in pairs)
    if rises and falls:
        return SUPPORTED
    steps = {after["value"] > before["value"] for before, after in pairs}
    return REFUTED if len(steps) == 1 else OPEN


def complexity(results: Results) -> Finding:
    """Judge claim 8: does mean p rise from CNN2-L to CNN3-L to ViT + LoRA?"""
    rows = results.loo(results.table("by_model"), "mean_p")
    said, numbers, rising = [], {}, []
    for panel, own in rows.groupby("panel", sort=False):
        if len(own) < 2:
            continue
        numbers |= {study(row, "model"): float(row["value"]) for _, row in own.iterrows()}
        text = ", ".join(f"{row['model']} {interval(row, False)}" for _, row in own.iterrows())
        said.append(f"{panel}: {text}")
        rising.append(bool(own["value"].is_monotonic_increasing))
    if not rising:
        return Finding(OPEN, "no data set has scores of two models", numbers)
    verdict = SUPPORTED if all(rising) else REFUTED if not any(rising) else "depends on the data"
    if not rows["model"].str.startswith("ViT").any():
        verdict += " for CNN2-L and CNN3-L; ViT + LoRA not run at this size"
    return Finding(verdict, f"mean p of LOO, {'; '.join(said)}", numbers)


def more_checkpoints(results: Results) -> Finding:
    """Judge claim 9: does mean p fall when more checkpoints are averaged?"""
    table = results.table("mean_p").set_index("method")
    first, last = table.columns[0], table.columns[-1]
    numbers = {
        f"{method}, {column}": float(table.loc[method, column])
        for method in table.index
        for column in (first, last)
    }
    falls = table[last] < table[first]
    verdict = SUPPORTED if falls.all() else REFUTED if not falls.any() else "depends on the method"
    said = f"mean p with {first} and with {last} checkpoints: " + "; ".join(
        f"{METHOD_LABELS[method]} {row[first]:.3f} → {row[last]:.3f}"
        for method, row in table.iterrows()
    )
    return Finding(verdict, said, numbers)


CLAIMS = (
    Claim(
        "The influence of one sample is often overshadowed by initialisation and batch noise.",
        "Supported if for at least half of the pairs the standard deviation of leave-one-out over "
        "members exceeds the absolute mean, in every study of CNN2-L.",
        ("by_size", "mean_against_std"),
        overshadowed,
        "How much one sample counts, which is more among few than among many. And the released "
        "scores hold the drift of continued training, which all pairs of a test sample share: it "
        "moves the mean away from zero and hides what one sample does.",
    ),
    Claim(
        "Noise-independent train-test pairs are rare, but exist; only there should TDA be trusted.",
        "They exist if more pairs have p < 0.05 than noise would give and some are left after "
        "control of the false discovery rate; they are rare if these are fewer than a tenth.",
        ("significant_fraction", "concept"),
        rare_but_there,
        "The test: the released formula lacks the square root of the number of members, so it asks "
        "whether one model can be trusted, not whether the mean differs from zero.",
    ),
    Claim(
        "Ground-truth leave-one-out is itself noisy.",
        "Supported if in every study of CNN2-L at least a quarter of the pairs have a standard "
        "deviation over members that exceeds the absolute mean.",
        ("by_size",),
        ground_truth_is_noisy,
        "Retraining shows the noise; in the released scores the drift covers it.",
    ),
    Claim(
        "Initialisation gives more variance than batch order.",
        "Supported if its share of the variance in the crossed design is the larger one for all "
        "five methods, not supported if for none.",
        ("variance_sources",),
        initialisation_or_order,
        "Which variance is meant. Initialisation and order compete for what differs between runs; "
        "what differs between the checkpoints of one run is another matter, and can be the larger.",
    ),
    Claim(
        "Estimated attribution and ground truth disagree: correlations of LOO with the rest are "
        "low.",
        "Supported if the median over the four estimators of the absolute Pearson correlation of "
        "means with LOO is below one half in every study.",
        ("agreement", "agreement_by_study"),
        estimates_against_truth,
        "What LOO is: continued training measures something other than retraining does. LOO with "
        "itself, two halves of the members, says how noisy the means are that estimators are held "
        "against.",
    ),
    Claim(
        "IF and GD behave alike; GC is rather stable on MNIST3 and not on CIFAR-10; methods "
        "cluster as {ATS, IF} and {GD, GC}.",
        "Three parts: the correlation of IF and GD is at least 0.9 in every study; GC is "
        "significant for at least 90 % of the pairs in every study of MNIST3 and for at least 10 "
        "points less in some study of CIFAR-10; both correlations within the clusters exceed all "
        "four across them in every study.",
        ("agreement_by_study", "by_size", "released_influence"),
        families,
        "The solver: the released recursion stops at a multiple of Grad-Dot, so IF and GD are "
        "one method there. A converged solve is another one.",
    ),
    Claim(
        "Noise is not monotonic in training-set size.",
        "Supported for a data set if mean p of LOO rises in one step and falls in another, both "
        "with intervals apart; not supported if all steps go one way.",
        ("by_size", "list_defect"),
        size_is_not_monotonic,
        "The intervals: a turn within them may be an accident of ten seeds.",
    ),
    Claim(
        "More complex models (CNN2-L < CNN3-L < ViT + LoRA) give noisier attribution.",
        "Supported if mean p of LOO rises in that order on every data set.",
        ("by_model",),
        complexity,
        "How far each model's training has come after the same number of epochs.",
    ),
    Claim(
        "More checkpoints make scores more stable.",
        "Supported if mean p is lower with all checkpoints averaged than with the last one alone, "
        "for all five methods; not supported if for none.",
        ("mean_p",),
        more_checkpoints,
        "What varies between checkpoints. Averaging removes independent noise; where epochs share "
        "a trend, as in unfinished training, it adds the trend.",
    ),
)
