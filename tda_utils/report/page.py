"""The page: one text of HTML that holds all it shows, and can ask nobody for anything.

There is no script. Names, labels and texts come from files of anyone's, so all are escaped where
they are put; and the page's own policy forbids whatever would be loaded or run in spite of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tda_utils.reliability.words import CANNOT_TELL, MAY_BE_LUCK, NO_SCORE, REPEATS, WORDS
from tda_utils.report import drawn
from tda_utils.report.drawn import percent
from tda_utils.report.samples import Shown, class_name
from tda_utils.report.verdict import POWER, Judged

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
CODES = {word: code for code, word in WORDS.items()}
#: Rows of a table that lists pairs.
ROWS = 25


@dataclass(frozen=True, eq=False)
class Content:
    """All that a page shows."""

    title: str
    sentence: str
    judged: Mapping[str, Judged]
    lists: Mapping[str, xr.Dataset]
    tables: Mapping[str, pd.DataFrame]
    warnings: Sequence[str]
    advice: Sequence[str]
    samples: Mapping[str, Shown]
    shown: int
    alpha: float
    k: int


def page(content: Content) -> str:
    """Return the page."""
    parts = [
        f"<h2 id='{name}'>{heading}</h2>\n{make(content)}"
        for name, (heading, make) in SECTIONS.items()
    ]
    links = "".join(
        f'<li><a href="#{name}">{heading}</a></li>' for name, (heading, _) in SECTIONS.items()
    )
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(content.title)}</title>\n<link rel='icon' href='data:,'>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{escape(content.title)}</h1>\n"
        f'<p class="verdict">{escape(content.sentence)}</p>\n</header>\n'
        f'<nav aria-label="Parts of this report"><ul>{links}</ul></nav>\n<main>\n'
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


# ---------------- the parts


def _repeats(content: Content) -> str:
    verdicts = content.tables["verdict"].rename(columns={"share_that_repeats": "share"})
    lines = {
        "Models": ("members", _count),
        "Checkpoints of each": ("checkpoints", _count),
        "Scores": ("pairs", _count),
        "Repeat": ("repeats", _count),
        "May be luck": ("may_be_luck", _count),
        "Cannot tell": ("cannot_tell", _count),
        "No score": ("no_score", _count),
        "Share that repeats": ("share", percent),
        "95 % interval from": ("low", percent),
        "95 % interval to": ("high", percent),
        f"p below {content.alpha:g}": ("p_below_alpha", _count),
        f"p below {content.alpha:g} by noise alone": ("p_below_alpha_by_noise", _about),
        "Effective number of scores": ("effective_pairs", _about),
        "One model is enough for": ("one_model_enough", percent),
        "One model may have the wrong sign in": ("sign_uncertain_of_one", percent),
    }
    table = _upright("How many scores of each method repeat", verdicts, lines)
    legend = " ".join(f"<span>{_word(WORDS[code])}</span>" for code in drawn.ORDER)
    charts = "".join(
        f"<h3>p-values of {escape(name)}</h3>{drawn.histogram(one)}"
        for name, one in content.judged.items()
    )
    return (
        f'{drawn.bars(content.judged)}<p class="legend">{legend}</p>{table}'
        '<p class="note">A score repeats if its mean over models differs from zero by the rule of '
        f"Benjamini and Hochberg at {content.alpha:g}: of those found, at most so many are "
        "expected to be noise. Seed noise moves many scores together; the effective number says "
        "how many move by themselves, and where it is small, all counts here hang on luck. One "
        "model is enough where a single one has the sign of the mean with certainty 97.5 %.</p>"
        f"<details><summary>p-values of each method</summary>{charts}</details>"
        f"{_clearest(content)}"
    )


def _clearest(content: Content) -> str:
    pairs = content.tables["pairs"]
    parts = []
    for name in content.judged:
        own = pairs[pairs["method"] == name].head(ROWS)
        columns = _pair_columns(content) | {
            "Mean": ("mean", _number),
            "Std": ("std", _number),
            "p": ("p", _number),
            "Verdict": ("word", _word),
        }
        if "defined" in own and own["defined"].notna().any():
            columns["Models with an answer"] = ("defined", percent)
        parts.append(_table(f"The clearest scores of {name}", own, columns))
    return (
        f"<details><summary>The clearest scores of each method</summary>{''.join(parts)}</details>"
    )


def _top(content: Content) -> str:
    parts = []
    for number, (name, lists) in enumerate(content.lists.items()):
        shown = [
            _list(content, name, lists.isel(test=at))
            for at in range(min(content.shown, lists.sizes["test"]))
        ]
        text = "".join(shown)
        if number:
            text = f"<details><summary>Lists of {escape(name)}</summary>{text}</details>"
        parts.append(text)
    helps = "help most" if _is_signed(content) else "have the highest scores"
    return (
        f'<p class="note">For {content.shown} test samples, those first that have most scores that '
        f"repeat: the {content.k} training samples that {helps} by the mean over models. "
        "The probability of a place is that of a model drawn from these: in how many of their own "
        "lists the sample is among the first. The rank lies in its interval with certainty "
        "95 %.</p>" + "".join(parts)
    )


def _is_signed(content: Content) -> bool:
    return all("sign" in one.scores.attrs for one in content.judged.values())


def _list(content: Content, name: str, places: xr.Dataset) -> str:
    at = int(places["at"])
    test, train = content.samples["test"], content.samples["train"]
    rows = []
    for place in range(places.sizes["place"]):
        one = places.isel(place=place)
        position = int(one["position"])
        if position < 0:
            continue
        looks = f"<td>{train.cell(position)}</td>" if train.kind else ""
        rows.append(
            f'<tr><th scope="row">{place + 1}</th>{looks}<td>{train.title(position)}</td>'
            f'<td class="number">{_number(one["mean"].item())} ± {_number(one["std"].item())}</td>'
            f"<td>{_word(WORDS[int(one['word'])])}</td>"
            f'<td class="number">{percent(one["in_top"].item())}</td>'
            f'<td class="number">{_count(one["low"].item())} to {_count(one["high"].item())}</td>'
            "</tr>"
        )
    heads = ["Place", *(["Looks"] if train.kind else []), "Training sample", "Mean ± std"]
    heads += ["Verdict", f"In a model's top {content.k}", "Rank, 95 %"]
    numbers = ("Mean ± std", "Rank, 95 %", heads[-2])
    head = "".join(
        f'<th scope="col"{" class=number" if h in numbers else ""}>{escape(h)}</th>' for h in heads
    )
    label = f"{name}, test sample {test.names[at]}"
    body = "".join(rows) or f'<tr><td colspan="{len(heads)}">It has no scores.</td></tr>'
    return (
        f"<h3>{escape(name)}: test sample {test.title(at)}</h3>"
        f'<div class="head">{test.cell(at)}</div>'
        + _scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", label)
    )


def _contradictions(content: Content) -> str:
    agreement = content.tables["agreement"]
    if not len(agreement):
        return "<p>There is one method, which nothing here contradicts or confirms.</p>"
    columns = {
        "Method": ("method_a", _text),
        "and": ("method_b", _text),
        "Correlation of means": ("correlation", _number),
        "95 % interval from": ("low", _number),
        "to": ("high", _number),
        "Repeat in both": ("both_repeat", _count),
        "with opposite signs": ("opposite_signs", _count),
    }
    if "right" in agreement:
        columns |= {
            "Right by leave-one-out": ("right", _count),
            "of those that repeat": ("of_those_that_repeat", _count),
        }
    if "without_noise_of_loo" in agreement:
        columns["Correlation without the noise of leave-one-out"] = (
            "without_noise_of_loo",
            _number,
        )
    text = _table("How methods agree", agreement, columns)
    against = content.tables["contradictions"]
    if not len(against):
        return f"{text}<p>No score repeats in two methods with opposite signs.</p>"
    columns = {"Method": ("method_a", _text), "and": ("method_b", _text)}
    columns |= _pair_columns(content)
    columns |= {"Mean": ("mean_a", _number), "of the other": ("mean_b", _number)}
    shown = _table("Scores that contradict each other, the clearest", against.head(ROWS), columns)
    return f"{text}{shown}"


def _floor(content: Content) -> str:
    table = content.tables["floor"]
    if not len(table):
        return (
            "<p>It is not known here: the floor is what rounding alone does to leave-one-out, and "
            "needs models that can be trained again (<code>tda.floor</code>).</p>"
        )
    columns = {
        "Method": ("method", _text),
        "Floor by size of scores": ("floor_by_scores", _number),
        "95 % interval from": ("low", _number),
        "to": ("high", _number),
        "No answer for one model": ("no_answer_for_one_model", _count),
        "of scores": ("of_pairs", _count),
        "of them repeat on average": ("of_them_repeat_on_average", _count),
        "Share of the variance that is rounding": ("rounding_share_of_variance", percent),
    }
    return _table("What rounding alone does", table, columns) + (
        '<p class="note">A score has no answer for one model where rounding alone moves the loss '
        "as far in more than half of the models. Its mean over many models may still be one.</p>"
    )


def _variance(content: Content) -> str:
    table = content.tables["variance"]
    if not len(table):
        return (
            "<p>Each model has one checkpoint, so that all of the noise lies between models "
            "here.</p>"
        )
    table = table.assign(
        source=table["source"].map({"member": "models", "checkpoint": "checkpoints"})
    )
    columns = {
        "Method": ("method", _text),
        "Between": ("source", _text),
        "Share of the variance": ("share", percent),
    }
    return _table("Where the noise comes from", table, columns)


def _members(content: Content) -> str:
    table = content.tables["members"]
    columns = {
        "Method": ("method", _text),
        "Models": ("members", _count),
        f"Needed to find {POWER:.0%} of what a hundred would".replace("%", " %"): (
            "needed",
            _needed,
        ),
        "Agrees with the mean of as many other models": ("agrees_with_other_members", _number),
        "95 % interval from": ("low", _number),
        "to": ("high", _number),
    }
    if "mean_p_of_all_checkpoints" in table:
        columns |= {
            "Mean p of the last checkpoint": ("mean_p_of_last_checkpoint", _number),
            "of all checkpoints": ("mean_p_of_all_checkpoints", _number),
        }
    return _table("Would other models say the same?", table, columns) + (
        '<p class="note">The correlation that the mean over as many other models would have with '
        "this one: near 1 there are enough of them, near 0 the mean is noise. How many models are "
        "needed is worked out from these, and is rough with few of them; more than a thousand are "
        "not looked at.</p>"
    )


def _groups(content: Content) -> str:
    table = content.tables["groups"]
    if not len(table):
        return "<p>The classes of the samples are not known, or are too many for a table.</p>"
    names = content.samples["train"].class_names
    table = table.assign(
        training_class=[class_name(one, names) for one in table["training_class"]],
        test_class=[class_name(one, names) for one in table["test_class"]],
    )
    columns = {
        "Method": ("method", _text),
        "All training samples of": ("training_class", _text),
        "on test samples of": ("test_class", _text),
        "Mean": ("mean", _number),
        "Std": ("std", _number),
        "p": ("p", _number),
        "Verdict": ("word", _word),
    }
    first = table[table["method"] == table["method"].iloc[0]]
    rest = table[table["method"] != table["method"].iloc[0]]
    more = _table("The other methods", rest, columns) if len(rest) else ""
    return (
        _table("Classes of training samples, and of test samples", first.head(100), columns)
        + (f"<details><summary>The other methods</summary>{more}</details>" if more else "")
        + '<p class="note">Scores of a class are added up, and averaged over test samples: what '
        "leaving all of it out would do, if effects added up.</p>"
    )


def _warned(content: Content) -> str:
    if not content.warnings:
        return "<p>Nothing was found that speaks against these numbers.</p>"
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in content.warnings)
    return f'<ul class="warnings">{lines}</ul>'


def _next(content: Content) -> str:
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in content.advice)
    words = {
        WORDS[REPEATS]: "Its mean over models differs from zero, and not by luck: the rule keeps "
        f"false discoveries below {percent(content.alpha)} of all that it finds. Other models "
        "would most likely give it the same sign. Whether it is right is another question.",
        WORDS[MAY_BE_LUCK]: f"Its own p is below {content.alpha:g}, but so would be many others if "
        "all were noise.",
        WORDS[CANNOT_TELL]: "These models do not tell it from zero. That does not say that the "
        "sample does not matter.",
        WORDS[NO_SCORE]: "A model has no number for it.",
        "no answer for one model": "Rounding alone moves leave-one-out as far.",
        "right": "Leave-one-out of the same models repeats, too, with the same sign. Nothing else "
        "is called so here.",
    }
    explained = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in words.items())
    return f'<ol class="advice">{lines}</ol><h3>The words</h3><dl>{explained}</dl>'


#: The parts in their order, with the heading of each and what makes it.
SECTIONS: dict[str, tuple[str, Callable[[Content], str]]] = {
    "repeats": ("How much repeats, and how much is noise", _repeats),
    "top": ("Which training samples lead the lists", _top),
    "contradictions": ("Where methods contradict each other", _contradictions),
    "floor": ("What rounding alone does", _floor),
    "variance": ("Where the noise comes from", _variance),
    "members": ("Are there enough models and checkpoints?", _members),
    "groups": ("Groups of samples", _groups),
    "warnings": ("Warnings", _warned),
    "next": ("What to do next", _next),
}


# ---------------- tables


def _pair_columns(content: Content) -> dict[str, tuple[str, Callable]]:
    """Return the columns of a pair: its samples by name, and their classes where they are known."""
    columns: dict[str, tuple[str, Callable]] = {}
    for dim, head in (("train", "Training sample"), ("test", "Test sample")):
        columns[head] = (dim, _text)
        if content.samples[dim].labels is not None:
            names = content.samples[dim].class_names
            columns[f"{head}: class"] = (
                f"{dim}_label",
                lambda label, names=names: escape(class_name(label, names)),
            )
    return columns


def _table(
    caption: str, table: pd.DataFrame, columns: Mapping[str, tuple[str, Callable[[Any], str]]]
) -> str:
    """Return a table; each column has a heading, its name in the DataFrame and how it is said."""
    numbers = {
        heading: table[name].dtype.kind in "iuf" and say not in (_text, _word)
        for heading, (name, say) in columns.items()
    }
    marks = {heading: " class=number" if number else "" for heading, number in numbers.items()}
    head = "".join(f'<th scope="col"{marks[h]}>{escape(h)}</th>' for h in columns)
    rows = []
    for record in table.to_dict("records"):
        cells = [
            f"<td{marks[heading]}>{say(record[name])}</td>"
            for heading, (name, say) in columns.items()
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _scrolling(
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
        caption,
    )


def _upright(
    caption: str, table: pd.DataFrame, lines: Mapping[str, tuple[str, Callable[[Any], str]]]
) -> str:
    """Return a table with a column a method, which is read from above."""
    head = "".join(f'<th scope="col" class=number>{_text(one)}</th>' for one in table["method"])
    rows = [
        f'<tr><th scope="row">{escape(heading)}</th>'
        + "".join(f"<td class=number>{say(value)}</td>" for value in table[name])
        + "</tr>"
        for heading, (name, say) in lines.items()
    ]
    return _scrolling(
        f'<table><caption>{escape(caption)}</caption><thead><tr><th scope="col">Method</th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>",
        caption,
    )


def _scrolling(table: str, label: str) -> str:
    """Return a wide table in a frame that scrolls by itself, by keyboard too."""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'
    )


def _text(value: Any) -> str:
    return escape(str(value))


def _count(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:,.0f}"


def _needed(value: Any) -> str:
    return "not known" if pd.isna(value) else f"{value:,.0f}"


def _about(value: Any) -> str:
    if pd.isna(value):
        return "not known"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _number(value: Any) -> str:
    if pd.isna(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _word(word: str) -> str:
    return f'<span class="word {drawn.CLASSES[CODES[word]]}">{word}</span>'
