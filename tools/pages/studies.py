"""The studies on a page: other seeds, lists and samples, floors, sizes, times and commands."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.posterior import PAPER_SEEDS
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.studies import studies_of
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tda_utils.texts import read_json
from tools import ROOT
from tools.pages.claims import (
    CEILING,
    FOUND,
    MEAN_P,
    OF_MEAN,
    ONE_MODEL,
    PAIRS,
    SIGN_UNCERTAIN,
    SIGNIFICANT,
    Column,
    View,
)
from tools.pages.evidence import Evidence, Study
from tools.pages.verdicts import floor_of, linked, places, table, written

#: What a study takes, by the rates that were measured.
COST = ROOT / "benchmarks" / "results" / "cost.json"
HEADLINES = (Column("mean p", MEAN_P, "p"), SIGNIFICANT, FOUND, ONE_MODEL, SIGN_UNCERTAIN, OF_MEAN)
ONE_KIND = (SIGNIFICANT, FOUND, ONE_MODEL, SIGN_UNCERTAIN)


def other_seeds(evidence: Evidence) -> list[str]:
    """Compare every headline number with the paper's seeds and with many more."""
    lines = []
    for many in evidence.beside:
        few = next((one for one in evidence.studies if _same_but_seeds(one, many)), None)
        if few is None:
            continue
        rows = list(_headlines(few, many))
        header = ("number", "method", f"{few.members} seeds", f"{many.members} seeds")
        lines += [f"{many.name}, protocol {many.protocol}.", ""]
        lines += table(header, rows, left=2)
        columns = (*HEADLINES, *_ceilings())
        lines += [
            f"The files: {linked(few.name, [few])} and {linked(many.name, [many])}. In the file, "
            f"`loo` standing for any method: {places(columns)}.",
            "",
        ]
    if not lines:
        return []
    intro = "Are the paper's ten seeds enough? The first of the many are the paper's."
    return ["## Ten seeds and a hundred", "", intro, "", *lines]


def _same_but_seeds(few: Study, many: Study) -> bool:
    names = ("task", "per_class", "lists", "draw", "attributed", "model", "protocol", "dtype")
    alike = all(few.values.get(name) == many.values.get(name) for name in (*names, "orders"))
    return alike and few.members == len(PAPER_SEEDS) < many.members


def _headlines(few: Study, many: Study) -> Iterable[tuple[str, ...]]:
    for column, method in itertools.product(HEADLINES, STUDY_METHODS):
        view = View("", few.protocol, method)
        yield _of_both(column, METHOD_LABELS[method], view, few, many)
    for column, label in zip(_ceilings(), (column.title for column in CEILING), strict=True):
        yield _of_both(column, label, View("", few.protocol), few, many)


def _ceilings() -> list[Column]:
    return [Column("correlation with LOO", one.path, one.form) for one in CEILING]


def _of_both(column: Column, label: str, view: View, few: Study, many: Study) -> tuple[str, ...]:
    texts = (
        written(one.of(study, view, study.members), column.form)
        for one, study in ((column, few), (column, many))
    )
    return (column.title, label, *texts)


def other_lists(evidence: Evidence) -> list[str]:
    """Tabulate leave-one-out with other draws of training samples, and of one source of noise."""
    parts = (
        (
            "Other training samples",
            "Does the list of training samples matter? Other draws from the digits that are "
            "shipped, with the paper's seeds.",
            [one for one in evidence.beside if one.values.get("draw") is not None],
        ),
        (
            "One source of noise alone",
            "Members that differ in the initialisation only, and in the batch order only.",
            [one for one in evidence.beside if one.one_source],
        ),
    )
    lines = []
    for title, intro, studies in parts:
        found = _of_loo(studies, (*HEADLINES, PAIRS))
        if found:
            lines += [f"## {title}", "", intro, "", *found]
    return lines


def other_samples(evidence: Evidence) -> list[str]:
    """Tabulate leave-one-out with other samples than members: the paper's T, and checkpoints."""
    kinds = ("members x checkpoints", "checkpoints")
    columns = [
        Column(f"{kind}: {one.title}", f"samples/{kind}/{{loo}}/{Path(one.path).name}", one.form)
        for kind in kinds
        for one in (SIGNIFICANT, ONE_MODEL)
    ]
    found = _of_loo(
        [one for protocol in PROTOCOLS for one in evidence.of(protocol)],
        (SIGNIFICANT, ONE_MODEL, *columns),
    )
    if not found:
        return []
    intro = (
        "What if all members and checkpoints are counted as samples of one posterior, as in the "
        "paper, or the checkpoints of a single member? Checkpoints of one run are not independent, "
        "so the former has no interval."
    )
    return ["## Other samples than members", "", intro, "", *found]


def _of_loo(studies: Sequence[Study], columns: Sequence[Column]) -> list[str]:
    rows = []
    for study in studies:
        view = View("", study.protocol)
        numbers = (written(one.of(study, view, study.members), one.form) for one in columns)
        row = (study.protocol, linked(study.name, [study]), str(study.members))
        rows.append((*row, *numbers, floor_of([study])))
    titles = [one.title for one in columns]
    found = table(("protocol", "study", "members", *titles, "floor"), rows, left=2)
    return [*found, f"Leave-one-out. In the file: {places(columns)}.", ""] if found else []


# ---------------- what the studies are


def floors(evidence: Evidence) -> list[str]:
    """Tabulate what rounding alone does in each study."""
    rows = []
    for study in evidence.studies:
        if study.floor is None:
            continue
        floor = study.content["floor"]
        shares = (written(study.number(f"floor/{name}"), "percent") for name in FLOOR_SHARES)
        name = linked(study.name, [study])
        steps = f"{_steps(study):,}"
        defined = "no" if study.rounded else "yes"
        row = (name, study.precision, steps, floor_of([study]), *shares, str(floor["draws"]))
        rows.append((*row, defined))
    header = ("study", "precision", "steps", "floor", *FLOOR_SHARES.values(), "draws", "one model")
    found = table(header, rows)
    if not found:
        return []
    intro = (
        "Each member was trained again with nothing left out, from an initialisation that differs "
        "in the last digit. *Floor* is the median change of the loss, divided by that of "
        "leave-one-out; *of the spread* the share of the variance over members that rounding "
        "explains, in the median pair; *defined* the share of pairs and members whose answer "
        "exceeds what rounding does; *one model* says whether the floor is at most 1 %."
    )
    where = "In the file: *floor* `floor/null_ratio`; *of the spread* `floor/rounding`; *defined* "
    return ["## The floor", "", intro, "", *found, f"{where}`floor/defined`.", ""]


FLOOR_SHARES = {"rounding": "of the spread", "defined": "defined"}


def _steps(study: Study) -> int:
    size = study.content["size"]
    return size["epochs"] * -(-size["train"] // BATCH)


#: The paper's batch size.
BATCH = 32


def sizes(evidence: Evidence) -> list[list[str]]:
    """Return a row for each study: its size, precision and floor."""
    rows = []
    for study in evidence.studies:
        size = study.content["size"]
        rows.append(
            [
                linked(study.name, [study]),
                study.protocol,
                f"{study.members} x {size['checkpoints']}",
                f"{size['train']:,}",
                f"{size['attributed']} x {size['test']}",
                study.precision,
                floor_of([study]),
            ]
        )
    return rows


def times(evidence: Evidence, names: Mapping[str, str]) -> list[str]:
    """Say how long each study takes from an empty store, by the measured rates."""
    record = read_json(COST)
    known: Mapping[str, Mapping[str, Any]] = record["studies"]
    there = set(names.values())
    rows = [
        (name, f"{one['core hours']:.2f}", f"{one['files']:,}", "yes" if name in there else "no")
        for name, one in known.items()
    ]
    total = sum(one["core hours"] for one in known.values())
    lines = [
        "## How long it takes",
        "",
        "What `make paper SIZE=full` reads, in place of computing it: the summary of every study "
        f"whose file is in `paper/studies`, which are {len(evidence.studies)}, and the scores in "
        "`paper/scores`. Without them, from an empty store, a study takes the core hours below: "
        "the images that its trainings and gradients look at, times the time that one takes on "
        f"one core, measured on {record['machine']['date']} ({record['machine']['cpu']}, torch "
        f"{record['machine']['torch']}).",
        "",
        *table(("study", "core hours", "files", "summary here"), rows),
        f"Together {total:.1f} core hours. File: `benchmarks/results/cost.json`, made by "
        "`python -m benchmarks.cost`.",
        "",
    ]
    if missing := [name for name in known if name not in there]:
        lines += [
            f"Not computed yet at this size, and so in no table above: {len(missing)} of "
            f"{len(known)} studies. `make studies` computes all that is missing, and goes on "
            "where it stopped.",
            "",
        ]
    return lines


def commands(names: Mapping[str, str]) -> list[str]:
    """Say which command computes each file."""
    rows = [
        (f"[{file}](studies/{file})", f"`.venv/bin/bayes-tda studies --only {name}`")
        for file, name in names.items()
    ]
    intro = (
        "Each command computes what the store lacks, and writes the file. `make readme` writes "
        "this page from the files. Where a section names a figure, its numbers are in "
        "`paper/numbers` and `paper/tables` under that name, and "
        "`.venv/bin/bayes-tda run FIGURE --size full` makes them."
    )
    return ["## Files and commands", "", intro, "", *table(("file", "command"), rows, left=2)]


def names_of(evidence: Evidence, folder: Path) -> dict[str, str]:
    """Return what `bayes-tda studies` calls each study, by file; it asks for no data.

    Raises
    ------
    ValueError
        If the manifest has no study of these values.
    """
    asked = studies_of(load_manifest(folder / "figures.yaml"))
    found = {}
    for study in evidence.studies:
        wanted = {**study.values, "checkpoints": study.content["size"]["checkpoints"]}
        wanted["seeds"] = tuple(wanted["seeds"])
        for name, experiment in asked.items():
            values = {key: getattr(experiment, key) for key in wanted}
            values["seeds"] = values["seeds"][: len(wanted["seeds"])]
            if values == wanted:
                found[study.file] = name
                break
        else:
            raise ValueError(f"the manifest has no study with the values of {study.file}.")
    return found
