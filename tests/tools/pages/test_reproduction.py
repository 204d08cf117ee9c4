"""The page of verdicts: its numbers are read again from the files that it names."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from scipy import stats

from tda_utils.data.load import load_task
from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tests.tools.pages.conftest import PAPER, rows
from tests.tools.pages.synthetic import content, write
from tools.pages import reproduction
from tools.pages.claims import CLAIMS, VIEWS
from tools.pages.studies import COST

METHODS = {METHOD_LABELS[method]: method for method in STUDY_METHODS}
LOO = {"released, drift removed": "loo_without_drift"}
DECIMALS = {"p": 3, "correlation": 2, "count": 1}


def varied(found: dict, shift: float) -> dict:
    """Give every number of a content a value of its own, so that none stands for another."""
    count = iter(range(10_000))

    def change(part):
        if isinstance(part, dict):
            return {name: change(one) for name, one in part.items()}
        if isinstance(part, list) and part and isinstance(part[0], str):
            return [*part[:2], *change(part[2:])]
        if isinstance(part, list) and part and isinstance(part[0], float):
            step = shift + 0.0007 * next(count) % 0.3
            return [None if one is None else round(one + step, 5) for one in part]
        return part

    kept = {name: found[name] for name in ("study", "size", "floor", "signs")}
    return change(found) | kept


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results with studies of every kind, and their page."""
    folder = tmp_path_factory.mktemp("paper")
    for name in ("tables", "numbers"):
        shutil.copytree(PAPER / name, folder / name)
    shutil.copy(PAPER / "figures.yaml", folder)
    contents = [
        content(),
        content(protocol="released", floor=None),
        content(per_class=20),
        content(per_class=50),
        content(model="cnn3"),
        content(members=100),
        content(draw=1),
        content(per_class=20, members=5, orders=5, attributed=12),
        content(task="cifar10", per_class=50, attributed=50, floor=0.4),
    ]
    for one in contents:
        if one["study"]["task"] == "cifar10" or one["study"]["orders"]:
            one["study"]["attributed"] = one["size"]["attributed"]
    first = contents[0]
    without = {
        str(k): {m: {"halves": [0.5 + 0.01 * k * i for i in range(10)]} for m in METHODS.values()}
        for k in (1, 5)
    }
    first["without"] = {"checkpoints": without}
    varied_contents = [varied(one, 0.01 * at) for at, one in enumerate(contents)]
    varied_contents[0]["without"] = first["without"]
    write(folder, *varied_contents)
    return folder, plain(reproduction.page(folder))


@pytest.fixture(scope="module")
def committed():
    return PAPER, plain((PAPER / "REPRODUCTION.md").read_text())


@pytest.fixture(params=["made", "committed"])
def results(request):
    return request.getfixturevalue(request.param)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def tables(text: str):
    """Yield header, rows and the text below of each table that says where its numbers stand."""
    for block in re.finditer(r"((?:^\|.*\n)+)\n([^\n]*In the file: [^\n]*)", text, re.MULTILINE):
        header, _, *lines = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in block[1].splitlines()
        )
        yield header, lines, block[2]


def places(said: str) -> dict[str, tuple[str, str]]:
    """Return path and change of each column, from the line below a table."""
    found = re.findall(r"\*([^*]+)\* `([^`]+)`(, of that R|, with the other sign)?", said)
    return {title: (path, change) for title, path, change in found}


def at(found, path: str):
    for key in path.split("/"):
        if isinstance(found, list):
            found = next(row[2:] for row in found if set(row[:2]) == set(key.split(", ")))
        else:
            found = found[key]
    return [
        math.nan if one is None else one
        for one in (found if isinstance(found, list) else [found, None, None])
    ]


def number(record: dict, path: str, members: int, change: str) -> list[float]:
    parts = [at(record, one) for one in path.split(" - ")]
    if len(parts) == 2:
        return gain(record, path, parts)
    (found,) = parts
    if "R" in change:
        return [r / (members - (members - 1) * r) for r in found]
    return [-found[0], -found[2], -found[1]] if change else found


def gain(record: dict, path: str, parts: list[list[float]]) -> list[float]:
    (after, low_after, high_after), (before, low_before, high_before) = parts
    value = after - before
    if "without" in record and "checkpoints" in record["without"]:
        a, b = (list_at(record["without"], one) for one in path.split(" - "))
        apart = [x - y for x, y in zip(a, b, strict=True)]
        mean = sum(apart) / len(apart)
        spread = sum((one - mean) ** 2 for one in apart) * (len(apart) - 1) / len(apart)
        reach = stats.t.ppf(0.975, len(apart) - 1) * math.sqrt(spread)
        return [value, value - reach, value + reach]
    below = math.sqrt((after - low_after) ** 2 + (high_before - before) ** 2)
    above = math.sqrt((high_after - after) ** 2 + (before - low_before) ** 2)
    return [value, value - below, value + above]


def list_at(found, path: str):
    for key in path.split("/"):
        found = found[key]
    return found


def shown(cell: str) -> list[float]:
    """Return the numbers in a cell, in the unit of the file."""
    parts = [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", cell)]
    return [one / 100 for one in parts] if "%" in cell else parts


def same(cell: str, wanted: list[float]) -> bool:
    """Tell whether a cell says these numbers, rounded as it is; "—" is none."""
    if math.isnan(wanted[0]):
        return cell == "—"
    wanted = wanted[:1] if math.isnan(wanted[1]) or math.isnan(wanted[2]) else wanted
    found = shown(cell)
    scale = 0.01 if "%" in cell else 1
    digits = [len(one.partition(".")[2]) for one in re.findall(r"-?\d+(?:\.\d+)?", cell)]
    close = (
        abs(a - b) <= scale * 0.5000001 * 10**-places
        if "e-" not in cell
        else a == float(f"{b:.2g}")
        for a, b, places in zip(found, wanted, digits, strict=False)
    )
    return len(found) == len(wanted) and all(close)


def linked(cell: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"\[(.*)\]\(studies/(.*)\)", cell)
    return (found[1], found[2]) if found else (cell, None)


def record_of(folder: Path, file: str) -> dict:
    return json.loads((folder / "studies" / file).read_text())


def method_of(name: str, protocol: str) -> str:
    label = name.rpartition(": ")[2] if ": " in name else ""
    return METHODS.get(label) or LOO.get(protocol, "loo")


def test_every_number_of_a_table_is_read_again_from_the_file_that_it_names(results):
    folder, text = results
    count = 0
    for header, lines, said in tables(text):
        where = places(said)
        for line in lines:
            cells = dict(zip(header, line, strict=True))
            name, file = linked(cells["study"])
            for title, (path, change) in where.items():
                if not cells.get(title):
                    continue
                cell, own = linked(cells[title])
                record = record_of(folder, own or file)
                values = {"loo": method_of(name, cells.get("protocol", "paired"))}
                values |= {
                    "members": cells.get("members"),
                    "checkpoints": record["size"]["checkpoints"],
                }
                members = int(cells.get("members", 0))
                wanted = number(record, path.format(**values), members, change)
                assert same(cell.removesuffix(" †"), wanted), (title, name, cell, wanted)
                count += 1
    # Summaries of the format before have no precision, and are not judged.
    files = [json.loads(file.read_text()) for file in (folder / "studies").iterdir()]
    assert count >= 20 * sum("precision" in one for one in files)


def test_every_floor_is_that_of_its_study_and_is_marked_beyond_one_percent(results):
    folder, text = results
    for header, lines, _ in tables(text):
        for line in lines if "floor" in header else ():
            cells = dict(zip(header, line, strict=True))
            files = re.findall(r"\(studies/([^)]+)\)", " ".join(line))
            floors = [record_of(folder, file)["floor"] for file in files]
            if cells.get("protocol", "paired") != "paired" or not any(floors):
                assert cells["floor"] == "—"
                continue
            largest = max(floor["null_ratio"][0] for floor in floors if floor)
            assert float(re.match(r"[-\d.e]+", cells["floor"])[0]) == float(f"{largest:.2g}")
            assert ("†" in cells["floor"]) == (largest > 0.01)


def test_verdicts_are_counted_from_the_rows_below_them(results):
    _, text = results
    words = ("supported", "refuted", "not decided")
    for section in re.split(r"^### ", text.partition("\n## ")[2], flags=re.MULTILINE)[1:]:
        section = section.partition("\n## ")[0]
        for part in re.split(r"^\*\*(?=[(A-Z])", section, flags=re.MULTILINE)[1:]:
            found = list(tables(part))
            counts = {}
            for header, lines, _ in found:
                for line in lines:
                    cells = dict(zip(header, line, strict=True))
                    counts.setdefault(cells["protocol"], []).extend(all_verdicts(cells, header))
            for view, pooled, said in re.findall(
                r"^- \*\*(.+): (.+?)\*\* \((.+)\)\.$", part, re.MULTILINE
            ):
                own = counts.get(view, [])
                assert said == (
                    ", ".join(f"{own.count(w)} {w}" for w in words if w in own)
                    or "nothing to judge"
                )
                if "not decided" in own:
                    assert pooled not in ("supported", "refuted")


def all_verdicts(cells: dict[str, str], header: list[str]) -> list[str]:
    """Spell out a row's verdicts; one word stands for each cell that is judged by itself."""
    verdict = re.sub(r" \(.*\)$", "", cells["verdict"])
    several = re.findall(r"(\d+) (supported|refuted|not decided)", verdict)
    if several:
        return [word for number, word in several for _ in range(int(number))]
    judged = [one for one in header if one in METHODS]
    return [verdict] * (len(judged) or 1)


#: Of tables with one number: the border, and whether being at least that supports the claim.
BORDERS = {
    "noise > mean": (0.5, True),
    "one model": (0.5, False),
    "mean over members": (0.8, False),
    "IF, GD": (0.9, True),
}


def test_verdicts_follow_from_the_border_and_the_interval_in_the_file(results):
    folder, text = results
    seen = set()
    for header, lines, said in tables(text):
        where = places(said)
        if len(where) != 1 or "verdict" not in header or not set(where) <= set(BORDERS):
            continue
        ((title, (path, change)),) = where.items()
        border, wanted = BORDERS[title]
        for line in lines:
            cells = dict(zip(header, line, strict=True))
            record = record_of(folder, linked(cells["study"])[1])
            members = int(cells["members"])
            values = {"loo": LOO.get(cells["protocol"], "loo"), "members": members}
            _, low, high = number(record, path.format(**values), members, change)
            verdict = "not decided"
            if low >= border or high < border:
                verdict = "supported" if (low >= border) == wanted else "refuted"
            rounding = title == "noise > mean" and "†" in cells["floor"]
            if members <= 5 or record["size"]["attributed"] < 20 or rounding:
                verdict = "not decided"
            assert cells["verdict"].partition(" (")[0] == verdict
            seen.add(title)
    assert seen == set(BORDERS) or not any(tables(text))


def test_the_page_is_up_to_date():
    assert reproduction.main(["--check"]) == 0


def test_there_are_nine_claims_each_with_rules_a_verdict_and_a_picture(results):
    _, text = results
    figures = load_manifest(PAPER / "figures.yaml").figures
    assert len(CLAIMS) == 9
    for number_, claim in enumerate(CLAIMS, start=1):
        assert {claim.figure, *claim.more} <= set(figures)
        (line,) = re.findall(rf"^\| {number_} \| .* \|$", text, re.MULTILINE)
        assert claim.text in line and line.count("|") == 3 + len(VIEWS)
        section = text.partition(f"### {number_}. {claim.text}")[2].partition("\n### ")[0]
        assert f"(figures/{claim.figure}-paired.png)" in section
        assert (PAPER / "figures" / f"{claim.figure}-paired.png").is_file()
        for question in claim.questions:
            assert question.rule in section
            for view in question.views:
                assert f"- **{view.name}: " in section
    for _, _, _, figure in reproduction.defects():
        assert figure in figures


def test_signs_make_the_clusters(made):
    _, text = made
    (found,) = re.findall(
        r"exceed all across in (\d+) of (\d+) studies with signs as released, and in (\d+)", text
    )
    with_signs, among, without = map(int, found)
    assert among == 6  # Without the other draw, the hundred seeds and the crossed study.
    assert 0 <= without <= with_signs <= among
    artefact = not without and with_signs == among
    assert ("an artefact of the sign" in text) == artefact


def test_other_seeds_are_held_against_the_papers(made):
    folder, text = made
    section = text.partition("## Ten seeds and a hundred")[2].partition("\n## ")[0]
    few, many = (record_of(folder, file) for file in re.findall(r"\(studies/([^)]+)\)", section))
    where = places(section)
    lines = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 30
    for title, label, *cells in lines:
        title, cells = title.removeprefix("| "), [one.removesuffix(" |") for one in cells]
        if title == "correlation with LOO":
            path, method = f"ceiling/pearson/{METHODS[label]}", "loo"
        else:
            path, method = where[title][0], METHODS[label]
        for record, cell in zip((few, many), cells, strict=True):
            members = record["size"]["members"]
            assert same(cell, number(record, path.format(loo=method, members=members), members, ""))


def test_times_and_commands_are_those_of_the_manifest(made):
    _, text = made
    known = json.loads(COST.read_text())["studies"]
    there = 0
    for name, one in known.items():
        row = f"| {name} | {one['core hours']:.2f} | {one['files']:,} |"
        (line,) = (line for line in text.splitlines() if line.startswith(row))
        there += line.endswith("| yes |")
    assert there
    total = sum(one["core hours"] for one in known.values())
    assert f"Together {total:.1f} core hours." in text
    assert f"{len(known) - there} of {len(known)} studies" in text
    command = "`.venv/bin/bayes-tda studies --only mnist3-20-crossed-paired`"
    assert f"(studies/mnist3-20-cnn2-paired-float32_5_5.json) | {command} |" in text


def test_a_damaged_summary_is_refused(made, tmp_path):
    folder = tmp_path / "paper"
    shutil.copytree(made[0], folder)
    file = next((folder / "studies").iterdir())
    file.write_text(file.read_text().replace("float32", "float64", 1))
    with pytest.raises(ValueError, match=re.escape(file.name)):
        reproduction.page(folder)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_said_of_all_of_mnist_is_in_its_table_and_numbers(protocol):
    """Recomputed without the code under test; the noise of the t-test is its level."""
    text = (PAPER / "REPRODUCTION.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    section = text.partition("## All of MNIST")[2].partition("\n## ")[0]
    (said,) = [line for line in section.splitlines() if line.startswith(f"- **{protocol}.**")]
    record = json.loads((PAPER / "numbers" / f"full_mnist-{protocol}.json").read_text())
    table = {row["method"]: row for row in rows("full_mnist", protocol)}
    assert record["all of MNIST"]
    assert table.keys() == set(STUDY_METHODS)
    wanted = []
    for size, values in record["loo by training digits"].items():
        wanted += [f"{int(size):,}", f"{values['|mean| / std']:.2f}"]
        wanted += [f"{values[name]:.2g}" for name in ("|mean|", "std")]
    estimators = [row for method, row in table.items() if method != "loo"]
    found = sorted(100 * float(row["p < 0.05"]) for row in estimators)
    with_loo = sorted(float(row["with LOO"]) for row in estimators)
    wanted += [f"{value:.1f} %" for value in (100 * float(table["loo"]["p < 0.05"]), *found[::3])]
    wanted += [f"{value:.2f}" for value in with_loo[::3]]
    if protocol == "paired":
        wanted.append("5.0 %")
    shown = re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: %)?", said)
    assert set(wanted) <= set(shown)
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith(f"| {protocol}")]
    for (_, _, members, pairs, *_), row in zip(cells, table.values(), strict=True):
        assert int(members) == int(row["members"])
        assert int(pairs.replace(",", "")) == int(row["pairs"])


@pytest.mark.parametrize("row", range(8))
def test_what_a_difference_of_the_released_code_does_is_measured(row):
    """Each number that is shown is one of the figure's, rounded as it is shown."""
    text = plain((PAPER / "REPRODUCTION.md").read_text())
    section = text.partition("## What the released code does otherwise")[2].partition("\n## ")[0]
    lines = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 8
    _, kind, said, figure = lines[row]
    assert kind in (reproduction.DEFECT, reproduction.QUESTION)
    known = measured(figure.strip("` |"))
    for number_ in re.findall(r"-?\d+(?:\.\d+)?(?:e-\d+)?(?: %)?", said):
        assert any(same(number_, [value, math.nan, math.nan]) for value in known), number_


def measured(figure: str) -> list[float]:
    """Return every number of a figure's files, and those that are no measurement."""
    known = [0.0, 0.5]  # What a solved equation leaves, and the mean p of a fair test.
    for file in (PAPER / "numbers").glob(f"{figure}*.json"):
        known += leaves(json.loads(file.read_text()))
    for file in (PAPER / "tables").glob(f"{figure}-*.csv"):
        known += [float(one) for one in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", file.read_text())]
    if figure == "list_defect":
        lists = [load_task("cifar10", per_class=size, lists="released") for size in (10, 30, 40)]
        known += [500 - one.n_test for one in lists]
    return known


def leaves(part) -> list[float]:
    if isinstance(part, dict):
        return [one for value in part.values() for one in leaves(value)]
    if isinstance(part, list):
        return [one for value in part for one in leaves(value)]
    return [float(part)] if isinstance(part, int | float) else []
