"""Captions: templates whose numbers are the manifest's.

In a caption ``{members}`` stands for a value, and ``{{`` and ``}}`` for a brace. Nothing else may
be between braces: no attribute, no index, no format. These are the names of values:

========================= ==================================================================
``members`` and the like  the notebook's parameters at the size that is run
a fact's name             what the manifest says under ``facts``
``retrainings``           of leave-one-out: ``loo_members`` times ``loo_samples``
``per_class``, ...        of the parameter ``studies``: what these have, each value once; see
                          `of_studies` for what has the values of some of them
``least_``, ``most_``     before one of those: the smallest and the largest value
``paper_``                before any: its value at the paper's size
``missing_``              before one of a study: the values that only the paper's size has
``retrainings_share``     what part of the paper's retrainings, in words
``paper_command``         the command that makes the figure at the paper's size
========================= ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tda_utils.reproduce.notebook import ManifestError, unknown_name

#: A doubled brace, a name in braces, or a brace that is neither, with what it encloses.
_PIECES = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]*)\}|\{[^{}]*\}?|\}")
#: Classes of the data that studies train on.
CLASSES = {"mnist3": 3, "cifar10": 10}
#: What a study says in numbers, and its training samples, which follow.
_SIZES = ("members", "per_class", "attributed", "test_per_class", "image_size", "train")


def names_in(template: str, where: str) -> list[str]:
    """Return the names of the values that a caption asks for, each once.

    Parameters
    ----------
    template
        The caption.
    where
        Its place, for the message.

    Raises
    ------
    ManifestError
        If there is anything but a name between braces.

    Examples
    --------
    >>> names_in("{members} members, {{as they are}}", "figures.tau.caption")
    ['members']
    >>> names_in("{members.__class__}", "figures.tau.caption")
    Traceback (most recent call last):
    tda_utils.reproduce.notebook.ManifestError: figures.tau.caption: '{members.__class__}' is not \
the name of a value in braces, such as {members}; a brace itself is written twice.
    """
    names = {}
    for found in _PIECES.finditer(template):
        if found[1]:
            names[found[1]] = None
        elif found[0] not in ("{{", "}}"):
            raise ManifestError(
                f"{where}: {found[0]!r} is not the name of a value in braces, such as {{members}}; "
                "a brace itself is written twice."
            )
    return list(names)


def fill(template: str, values: Mapping[str, Any], where: str) -> str:
    """Return a caption with its values in place of their names.

    Parameters
    ----------
    template, where
        As `names_in` takes them.
    values
        By name: numbers, texts, or lists of these.

    Raises
    ------
    ManifestError
        If a value is unknown, or of another kind; and as `names_in` does.

    Examples
    --------
    >>> values = {"members": 10, "pairs": 27_000, "sizes": [10, 20, 50]}
    >>> fill("{members} members, {pairs} pairs, sets of {sizes}", values, "figures.tau.caption")
    '10 members, 27,000 pairs, sets of 10, 20 and 50'
    """
    written = {}
    for name in names_in(template, where):
        if name not in values:
            raise ManifestError(f"{where}: {unknown_name('value', name, values)}")
        written[name] = _written(values[name])
        if written[name] is None:
            raise ManifestError(
                f"{where}: {name!r} is {values[name]!r}; a caption can write numbers, texts and "
                "lists of these."
            )
    return _PIECES.sub(lambda found: written[found[1]] if found[1] else found[0][0], template)


def _written(value: Any) -> str | None:
    """Write a value as prose does; None if it is not of a kind that prose has."""
    if isinstance(value, list) and value:
        *first, last = map(_written, value)
        if last is None or None in first:
            return None
        return f"{', '.join(first)} and {last}" if first else last
    if _is_number(value):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return value if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def caption_values(
    figure: str, facts: Mapping[str, Any], own: Mapping[str, Any], paper: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what a figure's caption can name.

    Parameters
    ----------
    figure
        Its name.
    facts
        Of the manifest.
    own
        The notebook's parameters at the size that is run.
    paper
        Those at the paper's size, None where that is the full one.

    Examples
    --------
    >>> own = {"loo_members": 2, "loo_samples": 30}
    >>> values = caption_values("tau", {"alpha": 0.05}, own, {"loo_members": 10, "loo_samples": 90})
    >>> values["alpha"], values["retrainings"], values["paper_retrainings"]
    (0.05, 60, 900)
    >>> values["retrainings_share"], values["paper_command"]
    ('less than a tenth', 'bayes-tda run tau --size paper')
    """
    here = _with_derived(own)
    values = {**facts, **here}
    if paper is None:
        return values
    there = _with_derived(paper)
    values |= {f"paper_{name}": value for name, value in there.items()}
    for name in of_studies(paper.get("studies")):
        if missing := [one for one in there[name] if one not in here.get(name, [])]:
            values[f"missing_{name}"] = missing
    if "retrainings" in here and there.get("retrainings"):
        values["retrainings_share"] = _share(here["retrainings"] / there["retrainings"])
    return values | {"paper_command": f"bayes-tda run {figure} --size paper"}


def _with_derived(parameters: Mapping[str, Any]) -> dict[str, Any]:
    derived: dict[str, Any] = {}
    for name, values in of_studies(parameters.get("studies")).items():
        derived |= {name: values, f"least_{name}": values[0], f"most_{name}": values[-1]}
    members, samples = parameters.get("loo_members"), parameters.get("loo_samples")
    if _is_number(members) and _is_number(samples):
        derived["retrainings"] = members * samples
    return {**derived, **parameters}


def _share(share: float) -> str:
    bounds = {"a hundredth": 1 / 100, "a tenth": 1 / 10, "half": 1 / 2}
    return next(
        (f"less than {words}" for words, bound in bounds.items() if share < bound), f"{share:.0%}"
    )


def of_studies(studies: Any) -> dict[str, list[float]]:
    """Return the sizes of studies by name: ``members`` of all, ``vit_members`` of some.

    Parameters
    ----------
    studies
        What the parameter ``studies`` is; of anything else than a list of mappings nothing is said.

    Returns
    -------
    dict of str to list of float
        For each size (``members``, ``per_class``, ``attributed``, ``test_per_class``,
        ``image_size``, and ``train``, the training samples) the values that occur, ascending.
        Before it a name may have ``released_``, for the values under that protocol; then
        ``mnist3_`` or ``cifar10_``, for the convolutional networks on these data; and then
        ``sound_`` or ``defective_``, by the list of samples, or ``some_``, for studies where not
        all training samples have scores. Vision transformers are ``vit_``, after the data if any.

    Examples
    --------
    >>> studies = [
    ...     {"task": "mnist3", "per_class": 10, "members": 10},
    ...     {"task": "mnist3", "per_class": 50, "members": 10, "released": {"attributed": 75}},
    ...     {"task": "cifar10", "per_class": 10, "model": "vit", "members": 3},
    ... ]
    >>> sizes = of_studies(studies)
    >>> sizes["members"], sizes["vit_members"], sizes["mnist3_per_class"]
    ([3, 10], [3], [10, 50])
    >>> sizes["released_mnist3_some_attributed"], sizes["released_mnist3_some_train"]
    ([75], [150])
    """
    if not isinstance(studies, list) or not all(isinstance(one, dict) for one in studies):
        return {}
    released = [{**one, **_mapping(one.get("released"))} for one in studies]
    named = {}
    for protocol, own in (("", studies), ("released_", released)):
        for group, some in _groups([_with_train(one) for one in own]).items():
            for size in _SIZES:
                if values := {one[size] for one in some if _is_number(one.get(size))}:
                    named[f"{protocol}{group}{size}"] = sorted(values)
    return named


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _with_train(study: Mapping[str, Any]) -> dict[str, Any]:
    classes, each = CLASSES.get(str(study.get("task"))), study.get("per_class")
    return {**study, "train": classes * each if classes and _is_number(each) else None}


def _groups(studies: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the studies by what their sizes are named after."""
    groups = {"": studies, "vit_": [one for one in studies if one.get("model") == "vit"]}
    for task in CLASSES:
        own = [one for one in studies if one.get("task") == task]
        convolutional = [one for one in own if one.get("model") != "vit"]
        groups |= {
            f"{task}_": convolutional,
            f"{task}_vit_": [one for one in own if one.get("model") == "vit"],
            f"{task}_sound_": [one for one in convolutional if "lists" not in one],
            f"{task}_defective_": [one for one in convolutional if "lists" in one],
            f"{task}_some_": [one for one in convolutional if "attributed" in one],
        }
    return groups
