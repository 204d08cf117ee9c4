"""Attacks on the manifest, its captions and parameters, the command line, and what is put in place.

Each ends in the right answer, or in one sentence and an exit status. All are the same each time.
"""

import __future__

import contextlib
import datetime
import functools
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys

import jinja2
import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree

from tda_utils.reproduce.cli import main
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError, notebook_parameters
from tda_utils.reproduce.placing import put_in_place, repair
from tda_utils.reproduce.shown import as_line, as_markdown, as_rst, code_in_markdown
from tda_utils.texts import MOST_DIGITS, MOST_NESTED, parse_json
from tests.faults.attacks import Attacks
from tests.reproduce.conftest import changed, manifest, write
from tests.reproduce.test_placing import NEW, OLD, Killed, _stop_at, content, lay_out
from tests.reproduce.test_shown import HOSTILE, shown
from tools import ROOT

TEXT = yaml.safe_dump(manifest(), sort_keys=False)


class Refused(Exception):
    """The command ended with a sentence and an exit status that is not 0."""


def ask(*arguments):
    """Give the command line arguments in this process; return what it prints, or raise."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as end:  # argparse's way, with a usage of several lines
            code = end.code
    return answer(code, out.getvalue(), err.getvalue())


def answer(code, out, err):
    if code == 0:
        return out
    said = err.removesuffix("\n")
    assert code in (1, 2), (code, err)
    if said.startswith("usage: "):  # which argparse puts before its own sentence
        said = f"{said.splitlines()[-1]}."
    raise Refused(said)


@pytest.fixture
def attacks(count):
    return Attacks(count, area="manifest", refusals=(Refused, ManifestError))


def dumped(document):
    """A manifest as YAML, with the faster of the two writers."""
    writer = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(document, Dumper=writer, sort_keys=False)


def listed(text):
    """Names of the figures that a listing shows."""
    return [line for line in text.splitlines() if not line.startswith("  ")]


# ---------------- the manifest's bytes


def damaged(chance):
    """Return a manifest with a few bytes that are others."""
    data = bytearray(TEXT.encode())
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at = chance.randrange(len(data))
        few = bytes(
            chance.choice(b"\0\t\n\r !\"#%&'*,-.0123:<=>?@[]`aEn{|}~\x85\xc3\xff") for _ in "ab"
        )
        match chance.randrange(6):
            case 0:
                del data[at]
            case 1:
                data[at : at + 1] = few[:1]
            case 2:
                data[at:at] = few
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at // 2 : at]
            case 5:
                cut = data[at:]
                data[:] = cut + data[:at]
        if not data:
            break
    return bytes(data)


def test_manifests_with_damaged_bytes(attacks, tmp_path):
    chance, path = random.Random(446), write(tmp_path, manifest())
    for k in range(900):
        data = damaged(chance)
        path.write_bytes(data)
        attacks.run(
            f"bytes {k}",
            lambda: listed(ask("list", "--manifest", str(path))),
            oracle=lambda found, data=data: found == as_pyyaml(data),
        )


def as_pyyaml(data):
    """Names of the figures by the library alone."""
    return list(yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["figures"])


# ---------------- values in any place

HUGE = "x" * 10_000
VALUES = {
    "null": None,
    "true": True,
    "an integer": 7,
    "a large integer": 10**MOST_DIGITS,
    "a number": 0.5,
    "nan": math.nan,
    "infinity": math.inf,
    "text": "1e-3",
    "no text": "",
    "a huge text": HUGE,
    "lines": "a\n\nb",
    "a sign of a terminal": "\x1b[2J",
    "turned round": "a\u202eb",
    "braces": "{members.__class__}",
    "bytes": b"\xff\x00",
    "a date": datetime.date(2024, 2, 29),
    "a time": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
    "a set": {"a", "b"},
    "a list": ["a"],
    "no list": [],
    "a list of a date": [[datetime.date(2024, 2, 29)]],
    "a mapping": {"a": 1},
    "a key that is a number": {7: {"notebook": "01_good"}},
    "a key that is a date": {datetime.date(2024, 2, 29): 1},
    "deep": functools.reduce(lambda inner, _: [inner], range(MOST_NESTED + 9), "a"),
    "wide": [["a"] * 60] * 60,
}


def places(document, above=()):
    """All places of a document, by the keys that lead there."""
    yield above
    if isinstance(document, list):
        document = dict(enumerate(document))
    for key, value in document.items() if isinstance(document, dict) else ():
        yield from places(value, (*above, key))


def test_any_value_in_any_place(attacks, tmp_path):
    """What is listed is what PyYAML reads; what is in no order is refused."""
    path = write(tmp_path, manifest())
    document = changed(figures__tau__notes={"full": "All."}) | {"facts": {"alpha": 0.05}}
    for place, (name, value) in itertools.product(list(places(document)), VALUES.items()):
        if not place:
            continue
        other = json.loads(json.dumps(document))
        inner = other
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        path.write_text(dumped(other), encoding="utf-8")
        attacks.run(
            f"{name} at {place}",
            lambda: listed(ask("list", "--manifest", str(path))),
            oracle=lambda found, other=other: sorted(found) == sorted(other["figures"]),
        )


def plain_fit(name, value):
    """Whether a parameter of the notebook can have a value, said plainly."""
    if type(value) is int and abs(value) >= 10**MOST_DIGITS:
        return False
    return {
        "members": type(value) is int,
        "rate": type(value) in (int, float),
        "layers": value is None or value == [] or value == ["a"],
    }[name]


def test_parameters_fit_or_are_named(attacks, tmp_path):
    path = write(tmp_path, manifest())
    for name, size in itertools.product(("members", "rate", "layers"), ("quick", "full", "paper")):
        for kind, value in VALUES.items():
            document = manifest()
            document["sizes"]["01_good"].setdefault(size, {})[name] = value
            path.write_text(dumped(document), encoding="utf-8")
            fits = plain_fit(name, value)
            attacks.run(
                f"{kind} for {name} at {size}",
                lambda: "all in order" in ask("check", "--manifest", str(path)),
                **({"oracle": True, "refusable": False} if fits else {}),
            )


def test_keys_that_are_unknown_are_named(attacks, tmp_path):
    path, chance = write(tmp_path, manifest()), random.Random(724)
    letters = "abz_09 .-:{}[]\n\t\u00e9\u202e\x07"
    for k, place in zip(range(250), itertools.cycle(["figures__tau", "sizes__01_good", "sizes"])):
        key = "".join(chance.choice(letters) for _ in range(chance.choice([1, 5, 30, 3_000])))
        document = changed(**{place: None}) if chance.random() < 0.1 else manifest()
        inner = document
        for part in place.split("__"):
            inner = inner.setdefault(part, {})
        inner[key] = {}
        path.write_text(dumped(document), encoding="utf-8")
        attacks.run(f"key {k}", lambda: ask("list", "--manifest", str(path)))


# ---------------- bombs


def bombs():
    """Yield documents that are small to write and large to have."""
    for width, depth in itertools.product((2, 9, 50), (3, 6, 9, 20, 60)):
        lines = ["a0: &a0 [x, x]"]
        merged = ["a0: &a0 {x: 1, y: 2}"]
        for k in range(1, depth):
            lines.append(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]")
            merged.append(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * width)}]}}")
        yield f"aliases {width} {depth}", "\n".join(lines)
        yield f"merged {width} {depth}", "\n".join(merged)
    for depth in (101, 1_000, 20_000, 200_000):
        yield f"lists {depth}", "[" * depth
        yield f"closed lists {depth}", "[" * depth + "]" * depth
        yield f"mappings {depth}", "{a: " * depth + "1" + "}" * depth
        yield f"keys {depth}", "? " * depth
        yield f"items {depth}", "- " * depth + "a"
        yield f"tags {depth}", "!!seq " * depth
    for digits in (41, 5_000, 500_000):
        for number in (
            "9" * digits,
            "0x" + "f" * digits,
            "1" + ":59" * digits,
            "9" * digits + ".0",
        ):
            yield f"{digits} digits of {number[:4]} {number[-2:]}", f"facts: {{alpha: {number}}}"
            yield f"{digits} digits as a key of {number[:4]} {number[-2:]}", f"? {number}\n: 1"
    for own in ("&a [*a]", "&a {b: *a}", "&a {<<: *a}", "[*a]", "&a [&a [*a]]", "&a !!set {*a}"):
        yield f"own alias {own}", f"figures: {own}"
    for tag in (
        "int",
        "float",
        "bool",
        "null",
        "timestamp",
        "binary",
        "set",
        "omap",
        "pairs",
        "seq",
    ):
        for value in (
            "''",
            "abc",
            "_",
            "2024-13-45",
            "[1]",
            "{a: 1}",
            "=",
            "9999-12-31T23:59:59-23:59",
        ):
            yield f"tag {tag} {value}", f"figures: !!{tag} {value}"
    for tag in (
        "python/object/apply:os.system",
        "python/name:os.system",
        "python/tuple",
        "x",
        "str",
    ):
        yield f"tag {tag}", f"figures: !!{tag} [touch sprung]"
        yield f"own tag {tag}", f"figures: !{tag} [touch sprung]"
    yield "long", "# " + "x" * 3_000_000
    yield "many", "[" + "1," * 200_000 + "]"
    yield "many documents", "---\n" * 10_000
    yield "anchors", "\n".join(f"- &a{k} x" for k in range(60_000))
    yield "indented", "\n".join(" " * k + "a:" for k in range(1_000))


@pytest.mark.parametrize("command", ["list", "check"])
def test_bombs_are_refused(command, attacks, tmp_path, monkeypatch):
    path = write(tmp_path, manifest())
    monkeypatch.chdir(tmp_path)
    for name, text in bombs():
        path.write_text(text)
        attacks.run(name, lambda: ask(command, "--manifest", str(path)))
    assert not list(tmp_path.rglob("sprung"))


# ---------------- captions

PIECES = [
    *HOSTILE, "{members}", "{members}", "{rate}", "{{", "}}", "{", "}", "{members", "{0}", "{x!r}",
    "{members:>9}", "{layers}", "{paper_command}", "\n", "\t", "\u2028", "\x00", "\x1b[31m", "%s",
]  # fmt: skip


def templates():
    chance = random.Random(571)
    for k in range(700):
        yield k, " ".join(chance.choice(PIECES) for _ in range(chance.choice([1, 1, 2, 4])))


def plain_caption(template):
    """What Python's own format makes of a template whose names are simple."""
    return " ".join(template.format(members=3, rate=0.01).split())


def test_captions_are_filled_as_python_would_or_refused(attacks, tmp_path):
    path = write(tmp_path, manifest())
    for k, template in templates():
        path.write_text(dumped(changed(figures__tau__caption=template)), encoding="utf-8")
        attacks.run(
            f"template {k}",
            lambda: ask("list", "--manifest", str(path)).splitlines()[1].removeprefix("  "),
            oracle=lambda found, template=template: found == plain_caption(template),
        )


def test_captions_are_text_in_reports_and_on_pages(attacks):
    docutils = pytest.importorskip("myst_parser.parsers.docutils_", reason="needs the extra 'site'")
    jinja = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    options = {"myst_enable_extensions": ["dollarmath"], "report_level": 5}

    def text_of(document):
        (paragraph,) = document.children
        assert {type(one) for one in paragraph.findall()} <= {
            nodes.paragraph, nodes.Text, nodes.literal
        }, document.pformat()  # fmt: skip
        return paragraph.astext()

    def in_report(caption):
        return text_of(publish_doctree(jinja.from_string(as_rst(caption)).render()))

    def on_page(caption):
        parser = docutils.Parser()
        made = publish_doctree(as_markdown(caption), parser=parser, settings_overrides=options)
        return text_of(made)

    seen = set()
    for k, template in templates():
        try:
            caption = as_line(template, "here")
        except ManifestError:
            continue
        if caption and caption not in seen:
            seen.add(caption)
            for place in (in_report, on_page):
                attacks.run(
                    f"{place.__name__} {k}",
                    lambda place=place, caption=caption: place(caption),
                    oracle=shown(caption),
                    refusable=False,
                )
            attacks.run(
                f"links {k}",
                lambda caption=caption: as_markdown(caption) + code_in_markdown(caption),
                oracle=lambda made: "](" not in made and "<!--" not in made,
                refusable=False,
            )


# ---------------- the command line

WORDS = [
    "run", "compute", "list", "check", "tau", "share", "broken", "missing", "nothing", "TAU",
    "../tau", "", " ", "-", "--", "--all", "--size", "quick", "full", "huge", "--protocol",
    "paired", "--store", "--only", "--manifest", "--jobs", "-4", "--help", "--unknown",
    "--size=full", "\udcff", "\x00", "{tau}", "*", "a\nb", HUGE, "/dev/null", "/proc/self/mem",
    "--manifest=/dev/zero", "9" * 5_000,
]  # fmt: skip


def test_words_on_the_command_line(attacks, tmp_path, monkeypatch):
    """No execution begins: the store is a file, so whatever would be run is refused."""
    write(tmp_path, manifest())
    (tmp_path / "file").write_text("here")
    monkeypatch.chdir(tmp_path)
    chance = random.Random(100)

    def right(out):
        return out.startswith("usage: ") or listed(out)[0] in (
            "tau",
            "4 figures from 3 notebooks: ",
        )

    for k in range(700):
        given = [chance.choice(WORDS) for _ in range(chance.choice([1, 2, 3, 5]))]
        if "run" in given or "compute" in given:
            given += ["--store", "file"]
        attacks.run(
            f"words {k}",
            lambda given=given: ask(*given),
            oracle=lambda out: (
                out.startswith("usage: ")
                or listed(out)[:4] == ["tau", "share", "broken", "missing"]
                or out.startswith("4 figures from 3 notebooks")
            ),
        )
    assert (tmp_path / "file").read_text() == "here"


# ---------------- notebooks and JSON

CELL = '# %% tags=["parameters"]\nmembers: int = 2  # seeds\nrate: float = 1.0e-3  # step\n'
LITERALS = [
    "9" * 5_000, "(" * 300 + ")" * 300, "[" * 90 + "]" * 90, "-" * 900 + "1", "f()",
    "__import__('os')", "'\\x00'", "1j", "b'a'", "{1, 2}", "{}", "...", "lambda: 0",
    "[x for x in y]", "1 if 1 else 2",
    "nan", "'a' 'b'", "{[]: 1}", "{**{}}", "[*[]]", "1_000", "0x" + "f" * 5_000, "1e999", "*a",
]  # fmt: skip


def test_cells_of_parameters(attacks, tmp_path):
    """A cell gives what Python itself has after it, or is refused."""
    path, chance = tmp_path / "01_x.py", random.Random(7)
    texts = [CELL.replace("= 2", f"= {literal}") for literal in LITERALS]
    for _ in range(250):
        data = bytearray(CELL.encode())
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = bytes(
            chance.choice(b"\0\n #'(:=[a1\xff") for _ in "a"
        )
        texts.append(data)
    for k, text in enumerate(texts):
        path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)

        def values():
            return {name: one.default for name, one in notebook_parameters(path).items()}

        def as_python(found):
            namespace = {}
            later = __future__.annotations.compiler_flag
            exec(compile(path.read_text(), "cell", "exec", flags=later), namespace)
            return all(namespace[name] == value for name, value in found.items())

        attacks.run(f"cell {k}", values, oracle=as_python)


def test_json_is_read_as_the_standard_library_does_or_refused(attacks):
    chance = random.Random(8)
    whole = json.dumps({"p": [0.5, -1e-300, None, True, "a\\[{\u20ac"], "n": {"members": 2**63}})
    signs = '[]{}",:\\ 0123456789.-eEtfnNI\x00\ud800a'
    for k in range(1_200):
        data = list(whole)
        for _ in range(chance.choice([1, 1, 2, 4])):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(2)] = chance.choice(signs) * chance.choice(
                [1, 1, 1, 150]
            )
        text = "".join(data)
        attacks.run(
            f"json {k}",
            lambda text=text: _sentence_of(text),
            oracle=lambda found, text=text: found == json.loads(text),
        )


def _sentence_of(text):
    try:
        return parse_json(text)
    except ValueError as problem:
        raise Refused(f"the text is no JSON: {problem}.") from problem


# ---------------- results that are put in place


def notes():
    chance = random.Random(9)
    strange = [
        "../victim",
        "/etc/x",
        "tables/../../victim",
        "tables/..",
        "tables/",
        "x/y",
        "tables/a/b",
        "",
    ]
    strange += [
        "tables/tau.csv",
        "figures/tau.pdf",
        "provenance/tau.json",
        "tables/\ud800",
        "tables/a\n",
    ]
    values = [None, True, False, 0, "0", "0" * 64, [], {}, math.nan]
    for k in range(300):
        sums = {chance.choice(strange): chance.choice(values) for _ in range(chance.randrange(4))}
        had = {chance.choice([*sums, *strange]): chance.choice(values) for _ in sums}
        note = chance.choice(
            [{"sums": sums, "had": had}, {"sums": sums}, {"had": sums}, [sums], None]
        )
        if isinstance(note, dict) and chance.random() < 0.5:
            note["had"] = dict.fromkeys(sums, True)
        yield k, json.dumps(note)[: chance.choice([None, None, 20])]


def test_notes_of_unfinished_work_that_are_none(attacks, tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "paper"
    victim.write_text("here")
    lay_out(folder)
    for k, note in notes():

        def repaired(note=note):
            (folder / ".tau.placing.json").write_text(note)
            repair(folder)
            return content(folder), victim.read_text()

        attacks.run(f"note {k}", repaired, oracle=({**OLD}, "here"), refusable=False)


@pytest.mark.parametrize("killed", [True, False])
def test_every_step_of_putting_in_place_can_fail(killed, attacks, tmp_path, monkeypatch):
    for step, again in itertools.product(range(40), range(40) if killed else [None]):
        if killed and again % 4:
            continue
        folder = lay_out(tmp_path / f"{step}-{again}")

        def interrupted(step=step, again=again, folder=folder):
            """Stop at a step; and stop the repair at another one, then repair once more."""
            problem = Killed if killed else lambda: OSError("no room")
            for at, act in ((step, lambda: put_in_place(folder, "tau", NEW)), (again, repairing)):
                if at is not None:
                    _stop_at(at, monkeypatch, problem)
                    with contextlib.suppress(Killed, OSError):
                        act(folder) if act is repairing else act()
                    monkeypatch.undo()
            repair(folder)
            return content(folder)

        attacks.run(f"step {step} {again}", interrupted, oracle=lambda f: f in (OLD, NEW))


def repairing(folder):
    repair(folder)


# ---------------- real processes


def outside(name):
    """What makes a manifest that is no file, or too much of one, by name."""
    return {
        "a pipe": lambda path: os.mkfifo(path),
        "no end": lambda path: path.symlink_to("/dev/zero"),
        "a circle": lambda path: path.symlink_to(path.name),
        "a folder": lambda path: path.mkdir(),
        "holes": lambda path: path.touch() or os.truncate(path, 2**40),
        "nothing": lambda path: None,
        "aliases": lambda path: path.write_text(dict(bombs())["aliases 9 20"]),
        "lists": lambda path: path.write_text(dict(bombs())["lists 200000"]),
    }[name]


@pytest.mark.parametrize("name", ["a pipe", "no end", "a circle", "aliases", "lists", "holes"])
def test_real_commands_end_in_a_sentence(name, attacks, tmp_path):
    path = tmp_path / "figures.yaml"
    outside(name)(path)

    def run():
        command = [sys.executable, "-m", "tda_utils.reproduce", "list", "--manifest", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        return answer(done.returncode, done.stdout, done.stderr)

    attacks.run(name, run, names=[str(path)])


def test_manifests_that_are_no_files(attacks, tmp_path):
    for name in ("a pipe", "no end", "a circle", "a folder", "holes", "nothing"):
        path = tmp_path / name / "figures.yaml"
        path.parent.mkdir()
        outside(name)(path)
        attacks.run(name, lambda path=path: load_manifest(path), names=[str(path)])
