"""Captions: templates whose numbers are the manifest's.

In a caption ``{members}`` stands for a value, and ``{{`` and ``}}`` for a brace. Nothing else may
be between braces: no attribute, no index, no format. These are the names of values:

========================= ==================================================================
``members`` and the like  the notebook's parameters at the size that is run
a fact's name             what the manifest says under ``facts``
``retrainings``           of leave-one-out: ``loo_members`` times ``loo_samples``
``per_class``, ...        of the parameter ``studies``: the values that these have, see `of_studies`
``least_``, ``most_``     before one of those: the smallest and the largest value
``paper_``                before any: its value at the paper's size
``missing_``              before one of a study: the values that only the paper's size has
``retrainings_share``     what part of the paper's retrainings, in words below a half
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
#: What a study says in numbers.
_SIZES = ("members", "per_class", "attributed", "test_per_class", "image_size")


def names_in(template: str, where: str) -> list[str]:
    """Return the names of the values that a caption asks for; ``where`` is its place.

    Raises
    ------
    ManifestError
        If there is anything but a name between braces.

    Examples
    --------
    >>> names_in("{members} members, {{as they are}}", "figures.tau.caption")
    ['members']
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
    """Return a caption with values, which are numbers, texts or lists of these, for their names.

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

    ``own`` and ``paper`` are the notebook's parameters at the size that is run and at the paper's:
    None where that is the full one.

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
    ours = of_studies(own.get("studies"))
    for name, theirs in of_studies(paper.get("studies")).items():
        if missing := [one for one in theirs if one not in ours.get(name, [])]:
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
    for words, bound in (("a hundredth", 1 / 100), ("a tenth", 1 / 10), ("half", 1 / 2)):
        if share < bound:
            return f"less than {words}"
    return f"{share:.0%}"


def of_studies(studies: Any) -> dict[str, list[float]]:
    """Return for each size of studies the values that occur, ascending.

    The sizes are ``members``, ``per_class``, ``attributed``, ``test_per_class``, ``image_size`` and
    ``train``, the training samples. Before one of these a name may have ``released_``, for the
    values under that protocol; then ``mnist3_`` or ``cifar10_``, for the convolutional networks on
    these data; and then ``sound_`` or ``defective_``, by the list of samples, or ``some_``, for
    studies where not all training samples have scores. Vision transformers are ``vit_``, after the
    data if any. Of anything but a list of mappings nothing is said.

    Examples
    --------
    >>> studies = [
    ...     {"task": "mnist3", "per_class": 50, "members": 10, "released": {"attributed": 75}},
    ...     {"task": "cifar10", "per_class": 10, "model": "vit", "members": 3},
    ... ]
    >>> sizes = of_studies(studies)
    >>> sizes["members"], sizes["vit_members"], sizes["mnist3_per_class"]
    ([3, 10], [3], [50])
    >>> sizes["released_mnist3_some_attributed"], sizes["released_mnist3_some_train"]
    ([75], [150])
    """
    if not isinstance(studies, list) or not all(isinstance(one, dict) for one in studies):
        return {}
    named: dict[str, set[float]] = {}
    for study in studies:
        changes = study.get("released")
        released = study | changes if isinstance(changes, dict) else study
        for protocol, own in (("", study), ("released_", released)):
            sizes = {size: own[size] for size in _SIZES if _is_number(own.get(size))}
            if "per_class" in sizes and str(own.get("task")) in CLASSES:
                sizes["train"] = CLASSES[own["task"]] * sizes["per_class"]
            for group in _groups(own):
                for size, value in sizes.items():
                    named.setdefault(f"{protocol}{group}{size}", set()).add(value)
    return {name: sorted(values) for name, values in named.items()}


def _groups(study: Mapping[str, Any]) -> list[str]:
    """Return what the sizes of a study are named after, as `of_studies` says."""
    data = f"{study.get('task')}_"
    if study.get("model") == "vit":
        return ["", "vit_", f"{data}vit_"]
    some = [f"{data}some_"] if "attributed" in study else []
    return ["", data, f"{data}{'defective_' if 'lists' in study else 'sound_'}", *some]
