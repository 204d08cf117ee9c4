"""Executions: what a notebook wrote goes where it belongs, whole or not at all."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from tda_utils.reproduce import kernel, runner
from tda_utils.reproduce.manifest import load_manifest, plan
from tda_utils.reproduce.runner import execute
from tests.reproduce.conftest import (
    GOOD,
    PARAMETERS,
    changed,
    command,
    entry,
    holds,
    manifest,
    write,
)
from tools import ROOT

# Seconds after which a run is taken to hang, which is an error and says nothing of its speed.
PATIENCE = 600


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The path of a manifest of which every figure has been run once, in quick size."""
    path = write(tmp_path_factory.mktemp("a folder {with} spaces"), manifest())
    done = subprocess.run(
        [sys.executable, "-m", "tda_utils.reproduce", "run", "--all", "--manifest", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return path, done


@pytest.mark.kernel
def test_exercises_and_solutions_are_left_out(everything):
    path, _ = everything
    copy = nbformat.read(path.parent / "runs" / "quick" / "01_good-paired.ipynb", as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in copy.cells]
    assert ["parameters"] in tags and len(tags) == 4  # papermill adds a cell of its own
    assert not any({"exercise", "solution"} & set(own) for own in tags)


@pytest.mark.kernel
def test_a_failing_notebook_does_not_stop_the_others(everything):
    path, done = everything
    assert done.returncode == 1
    quick = path.parent / "runs" / "quick"
    for protocol in ("paired", "released"):
        assert (quick / "figures" / f"tau-{protocol}.pdf").read_text() == "pdf of 2"
        assert (quick / "tables" / f"tau-{protocol}.md").is_file()
        assert json.loads((quick / "numbers" / f"share-{protocol}.json").read_text())
    assert "2 of 4 notebook runs done" in done.stdout
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("FAILED 02_bad ")]
    assert "ArithmeticError: no inverse" in failed
    # The copy shows how far it got.
    copy = nbformat.read(quick / "02_bad.ipynb", as_version=4)
    assert any(o.output_type == "error" for c in copy.cells for o in c.get("outputs", []))
    assert "Traceback" not in done.stderr


@pytest.mark.kernel
def test_an_output_that_is_not_written_is_an_error_and_nothing_is_left_over(everything):
    path, done = everything
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("FAILED 03_silent ")]
    assert "missing.csv" in failed and "missing.md" in failed
    names = {p.name for p in (path.parent / "runs" / "quick").iterdir()}
    assert names == {
        *("figures", "tables", "numbers", "provenance"),
        *("01_good-paired.ipynb", "01_good-released.ipynb", "02_bad.ipynb", "03_silent.ipynb"),
    }
    assert {p.name for p in path.parent.iterdir()} == {"figures.yaml", "runs"}


@pytest.mark.kernel
def test_figures_of_one_notebook_and_protocol_share_one_execution(everything):
    path, done = everything
    # The notebook ran in its own folder, as it does in Jupyter.
    executions = (path.parent.parent / "notebooks" / "executions.txt").read_text().split()
    assert sorted(executions[:2]) == ["paired", "released"]
    assert done.stdout.count("done; scores computed: 2, already in the store: 0\n") == 2
    assert "scores computed: 4, already in the store: 0. Results" in done.stdout


@pytest.mark.kernel
def test_provenance_says_how_a_figure_was_made(everything):
    path, _ = everything
    quick = path.parent / "runs" / "quick"
    text = (quick / "provenance" / "tau-released.json").read_text()
    record = json.loads(text)
    assert record["figure"] == "tau"
    assert record["size"] == "quick"
    assert record["parameters"] == {
        "members": 2,
        "rate": 0.001,  # a default, said all the same
        "layers": None,
        "protocol": "released",
    }
    assert record["seeds"] == [446, 724]
    assert record["reported"] == {"solver": "ggn"}
    assert set(record["outputs"]) == {
        *("figures/tau-released.pdf", "figures/tau-released.png"),
        *("tables/tau-released.csv", "tables/tau-released.md"),
    }
    for name, digest in record["outputs"].items():
        assert hashlib.sha256((quick / name).read_bytes()).hexdigest() == digest
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.match(r"\d", record["versions"]["numpy"])
    assert record["platform"]["cpus"] == os.cpu_count()
    assert str(path.parent.parent) not in text, "a path of this machine"
    assert os.uname().nodename not in text


@pytest.mark.kernel
def test_a_copy_is_not_paired_with_the_source(everything):
    path, _ = everything
    copy = nbformat.read(path.parent / "runs" / "quick" / "01_good-paired.ipynb", as_version=4)
    assert "jupytext" not in copy.metadata
    injected = [c for c in copy.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert "members = 2" in injected[0].source
    assert (path.parent.parent / "notebooks" / "01_good.py").read_text() == PARAMETERS + GOOD
    assert not list((path.parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.kernel
def test_full_size_computes_only_what_the_store_lacks(everything, capsys):
    path, _ = everything
    full = ("run", "tau", "--size", "full", "--protocol", "paired")
    store = path.parent / "runs" / "store"
    kept = store / "paired" / "1.safetensors"
    before = kept.stat().st_mtime_ns
    (store / "paired" / "0.safetensors").unlink()

    assert command(*full, manifest=path) == 0
    # Two of the quick run less the deleted one; that one and a third member are computed.
    assert "scores computed: 2, already in the store: 1" in capsys.readouterr().out
    assert command(*full, manifest=path) == 0
    assert "scores computed: 0, already in the store: 3" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before

    paper = path.parent
    assert (paper / "figures" / "tau-paired.pdf").read_text() == "pdf of 3"
    assert not (paper / "numbers").exists(), "share was not asked for"
    assert not (paper / "figures" / "tau-released.pdf").exists()
    record = json.loads((paper / "provenance" / "tau-paired.json").read_text())
    assert record["parameters"]["members"] == 3
    assert record["parameters"]["rate"] == 0.01


@pytest.mark.kernel
def test_an_interruption_leaves_the_results_as_they_were(tmp_path):
    path = write(tmp_path, manifest())
    source = tmp_path / "notebooks" / "02_bad.py"
    source.write_text(
        PARAMETERS
        + "\n# %%\nimport time\nopen(store + '/started', 'w').close()\ntime.sleep(3600)\n"
    )
    arguments = ["run", "broken", "--manifest", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tda_utils.reproduce", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and hands that on: the child must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    given_up = time.monotonic() + PATIENCE
    while not (path.parent / "runs" / "store" / "started").exists():
        assert process.poll() is None, "it ended before the notebook began"
        if time.monotonic() > given_up:
            raise TimeoutError("the notebook never began")
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stderr and "Traceback" not in stderr
    assert not list((path.parent / "runs" / "quick").glob(".staging-*"))


@pytest.mark.parametrize(
    ("files", "culprit", "kept"),
    [
        ({"share.json": "{}", "odd.csv": "x"}, "odd.csv", False),
        ({"share.json": "{'share': 1}"}, ".json", True),
        ({"share.json": ""}, "share.json", True),
        ({"share.json": "{}", "provenance.json": "seeds"}, ".json", True),
    ],
)
def test_unfit_outputs_do_not_replace_a_good_result(tmp_path, monkeypatch, files, culprit, kept):
    def pretend(manifest, run, store, output):
        for name, text in files.items():
            (output / name).write_text(text)
        return {"computed_with": {}}, None

    monkeypatch.setattr(runner, "_execute_notebook", pretend)
    document = manifest()
    document["figures"]["share"] = entry("01_good", ["numbers"])
    paper = load_manifest(write(tmp_path, document))
    old = paper.folder / "numbers" / "share.json"
    old.parent.mkdir()
    old.write_text("old")
    (run,) = plan(paper, ["share"], size="full")
    outcome = execute(paper, run, tmp_path)
    assert culprit in outcome.error
    assert (old.read_text() == "old") is kept


# ---------------- what is put in place, and what is not


@pytest.fixture
def pretending(monkeypatch):
    """Let executions write these files, with no kernel; return the names of those that ran."""

    def begin(files, account=None):
        ran = []

        def pretend(manifest, run, store, output):
            ran.append(run.name)
            for name, content in files(run).items():
                (output / name).write_text(content)
            return {"computed_with": {}, **(account or {})}, None

        monkeypatch.setattr(runner, "_execute_notebook", pretend)
        return ran

    return begin


def of_every_figure(run):
    return {
        name: "{}" if name.endswith("json") else f"new {name}"
        for figure in run.figures
        for name in figure.files(run.protocol)
    }


@pytest.mark.parametrize("blocked", ["figures/tau-paired.png", "provenance/tau-paired.json"])
def test_a_file_that_cannot_be_written_keeps_the_figure_and_the_others_are_replaced(
    blocked, tmp_path, pretending, capsys
):
    pretending(of_every_figure)
    path = write(tmp_path, manifest())
    places = ["figures/tau-paired.pdf", "tables/tau-paired.csv", "numbers/share-paired.json"]
    for place in (path.parent / place for place in places):
        place.parent.mkdir(exist_ok=True)
        place.write_text("old")
    (path.parent / blocked).mkdir(parents=True)
    full = ("run", "tau", "share", "--size", "full", "--protocol", "paired")
    assert command(*full, manifest=path) == 1
    said = capsys.readouterr()
    assert "0 of 1 notebook runs done" in said.out
    holds(said.err.splitlines()[-1], "FAILED 01_good-paired", "figure tau", blocked)
    tau, table, share = ((path.parent / place).read_text() for place in places)
    assert (tau, table, share) == ("old", "old", "{}")
    assert not (path.parent / "tables" / "tau-paired.md").exists()
    record = json.loads((path.parent / "provenance" / "share-paired.json").read_text())
    assert list(record["outputs"]) == ["numbers/share-paired.json"]
    assert not list(path.parent.rglob(".*")), "a leftover"
    (path.parent / blocked).rmdir()
    assert command(*full, manifest=path) == 0
    record = json.loads((path.parent / "provenance" / "tau-paired.json").read_text())
    for place, digest in record["outputs"].items():
        assert hashlib.sha256((path.parent / place).read_bytes()).hexdigest() == digest


#: Values that YAML knows and JSON does not, and what the sentence has to name.
FOREIGN_VALUES = {
    "2024-02-29": "datetime.date(2024, 2, 29)",
    "2024-02-29 12:00:00": "datetime",
    "!!binary aGk=": "b'hi'",
    "!!set {a, b}": "set",
    "!!omap [a: 1]": "tuple",
    "!!pairs [a: 1, a: 2]": "tuple",
    "[{a: [2024-02-29]}]": "date",
    "{2024-02-29: 1}": "date",
}


@pytest.mark.parametrize("declared", ["dict | list | None = None", "float = 1.0e-3"])
@pytest.mark.parametrize("value", FOREIGN_VALUES)
def test_a_parameter_that_json_cannot_say_is_one_sentence_and_the_others_run(
    value, declared, tmp_path, pretending, capsys
):
    ran = pretending(of_every_figure)
    path = write(tmp_path, changed(figures__broken__caption="At {rate}."))
    source = PARAMETERS.replace("rate: float = 1.0e-3", f"rate: {declared}")
    (tmp_path / "notebooks" / "02_bad.py").write_text(source)
    text = path.read_text().replace(
        "  02_bad:\n    quick: {}\n    full: {}",
        f"  02_bad:\n    quick: {{rate: {value}}}\n    full: {{rate: {value}}}",
    )
    path.write_text(text)
    assert command("run", "--all", manifest=path) == 1
    said = capsys.readouterr()
    assert ran == ["01_good-paired", "01_good-released", "03_silent"]
    (failed,) = [line for line in said.err.splitlines() if line.startswith("FAILED")]
    holds(failed, "02_bad", "sizes.02_bad.quick.rate", FOREIGN_VALUES[value])
    assert "3 of 4 notebook runs done" in said.out
    assert command("check", manifest=path) == 2
    for line, size in zip(capsys.readouterr().err.splitlines(), ("quick", "full"), strict=True):
        holds(line, f"sizes.02_bad.{size}.rate", FOREIGN_VALUES[value])


def _no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_a_parameter_that_is_no_number_leaves_a_provenance_that_is_json(tmp_path, pretending):
    pretending(lambda run: of_every_figure(run) | {"provenance.json": '{"residual": NaN}'})
    document = manifest()
    document["sizes"]["01_good"]["full"] = {"rate": float("nan"), "layers": None}
    path = write(tmp_path, document)
    arguments = ("run", "share", "--protocol", "paired", "--size", "full")
    assert command(*arguments, manifest=path) == 0
    text = (path.parent / "provenance" / "share-paired.json").read_text()
    record = json.loads(text, parse_constant=_no_constant)
    assert record["parameters"]["rate"] == "NaN"
    assert record["reported"] == {"residual": "NaN"}


@pytest.mark.parametrize("numbers", ['{"share": NaN}', "[" * 20_000, "9" * 5_000, '"\\ud800'])
def test_numbers_that_are_no_json_are_not_put_in_place(numbers, tmp_path, pretending, capsys):
    pretending(lambda run: dict.fromkeys(of_every_figure(run), numbers))
    path = write(tmp_path, manifest())
    assert command("run", "share", "--protocol", "paired", manifest=path) == 1
    holds(capsys.readouterr().err, "share-paired.json", "FAILED")
    assert not (path.parent / "runs" / "quick" / "numbers").exists()


def test_a_link_that_a_notebook_leaves_is_no_output(tmp_path, monkeypatch, capsys):
    secret = tmp_path / "secret"
    secret.write_text("{}")

    def pretend(manifest, run, store, output):
        (output / "share-paired.json").symlink_to(secret)
        return {"computed_with": {}}, None

    monkeypatch.setattr(runner, "_execute_notebook", pretend)
    path = write(tmp_path, manifest())
    assert command("run", "share", "--protocol", "paired", manifest=path) == 1
    assert "did not write share-paired.json" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "lay"), [("a pipe", os.mkfifo), ("a folder", os.mkdir)])
def test_what_has_the_place_of_an_executed_copy_is_named_and_not_waited_for(
    kind, lay, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(kernel, "run_notebook", lambda *unused: pytest.fail("it was begun"))
    path = write(tmp_path, manifest())
    (tmp_path / "paper" / "runs" / "quick").mkdir(parents=True)
    lay(tmp_path / "paper" / "runs" / "quick" / "01_good-paired.ipynb")
    assert command("run", "share", "--protocol", "paired", manifest=path) == 1
    holds(capsys.readouterr().err, "FAILED", "01_good-paired.ipynb", kind)


@pytest.mark.kernel
def test_a_link_in_an_executed_copy_s_place_is_replaced_and_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    path = write(tmp_path, manifest())
    copy = tmp_path / "paper" / "runs" / "quick" / "01_good-paired.ipynb"
    copy.parent.mkdir(parents=True)
    copy.symlink_to(mine)
    assert command("run", "share", "--protocol", "paired", manifest=path) == 0
    assert mine.read_text() == "mine" and copy.is_file() and not copy.is_symlink()


def test_what_nobody_thought_of_is_one_sentence_and_the_others_run(tmp_path, monkeypatch, capsys):
    def fail(manifest, run, store, output):
        raise ZeroDivisionError("on\ntwo lines")

    monkeypatch.setattr(runner, "_execute_notebook", fail)
    path = write(tmp_path, manifest())
    assert command("run", "--all", manifest=path) == 1
    said = capsys.readouterr()
    assert "0 of 4 notebook runs done" in said.out and "not known of 4" in said.out
    failed = [line for line in said.err.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 4
    assert all(line.endswith("ZeroDivisionError: on two lines.") for line in failed)


def test_files_that_others_write_meanwhile_are_not_counted(tmp_path, pretending, capsys):
    account = {"scores": {"made": 2, "read": 1, "set aside": 1}}
    store = tmp_path / "paper" / "runs" / "store"

    def files(run):
        (store / "another.safetensors").write_text("by another process")
        return of_every_figure(run)

    pretending(files, account)
    assert command("run", "tau", manifest=write(tmp_path, manifest())) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "scores computed: 4, already in the store: 2;" in said and "again: 2" in said
