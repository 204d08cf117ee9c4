"""The manifest runner, on small notebooks; and the real manifest against the repository."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.provenance import RESULT_FOLDERS, git_state
from tda_utils.reproduce import runner
from tda_utils.reproduce.cli import main
from tda_utils.reproduce.manifest import FOLDERS, check, load_manifest, plan, run_parameters
from tda_utils.reproduce.notebook import ManifestError, fits, notebook_parameters
from tda_utils.reproduce.runner import execute

ROOT = Path(__file__).resolve().parent.parent

PARAMETERS = """\
# %% tags=["parameters"]
members: int = 2  # seeds
rate: float = 1.0e-3  # step
layers: list[str] | None = None  # all if None
protocol: str = "paired"  # paired or released
output: str = ""  # folder for results; nothing is written if empty
store: str = ""  # folder of finished scores
"""
# Scores of members that the store lacks are "computed"; each execution is counted in a file.
GOOD = """
# %%
import json
from tda_utils.reproduce import runner
from pathlib import Path

Path("executions.txt").open("a").write(protocol + "\\n")
for member in range(members):
    score = Path(store) / protocol / f"{member}.safetensors"
    score.parent.mkdir(exist_ok=True)
    if not score.exists():
        score.write_text("score")

# %%
out = Path(output)
for ending in ("csv", "md", "pdf", "png"):
    (out / f"tau-{protocol}.{ending}").write_text(f"{ending} of {members}")
(out / f"share-{protocol}.json").write_text(json.dumps({"share": 0.5}))
(out / "provenance.json").write_text(json.dumps({"seeds": [446, 724][:members], "solver": "ggn"}))

# %% [markdown] tags=["exercise"]
# ## Exercises

# %% tags=["exercise", "nbval-check-output"]
raise AssertionError("an exercise was run")

# %% tags=["solution"]
raise AssertionError("a solution was run")
"""
BAD = "\n# %%\nraise ArithmeticError('no inverse')\n"
SILENT = "\n# %%\nopen(output + '/extra.csv', 'w').write('x')\n"


def entry(notebook, outputs, **more):
    return {
        "notebook": notebook,
        "caption": "A caption.",
        "alt": "A curve.",
        "outputs": outputs,
    } | more


def manifest():
    both = ["paired", "released"]
    return {
        "figures": {
            "tau": entry("01_good", ["figure", "table"], protocols=both),
            "share": entry("01_good", ["numbers"], protocols=both),
            "broken": entry("02_bad", ["numbers"]),
            "missing": entry("03_silent", ["table"]),
        },
        "sizes": {
            "01_good": {"quick": {"members": 2}, "full": {"members": 3, "rate": 0.01}},
            "02_bad": {"quick": {}, "full": {}},
            "03_silent": {"quick": {}, "full": {}},
        },
    }


def write(folder, document):
    """Lay out a repository with three notebooks and this manifest; return the manifest's path."""
    for name, code in {"01_good": GOOD, "02_bad": BAD, "03_silent": SILENT}.items():
        path = folder / "notebooks" / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(PARAMETERS + code)
    (folder / "paper").mkdir(exist_ok=True)
    path = folder / "paper" / "figures.yaml"
    path.write_text(
        document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    )
    return path


def command(*arguments, manifest):
    return main([*arguments, "--manifest", str(manifest)])


# ---------------- executions


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
    assert (
        "FAILED 02_bad (broken): cell [3] stopped with ArithmeticError: no inverse" in done.stderr
    )
    # The copy shows how far it got.
    copy = nbformat.read(quick / "02_bad.ipynb", as_version=4)
    assert any(o.output_type == "error" for c in copy.cells for o in c.get("outputs", []))
    assert "Traceback" not in done.stderr


@pytest.mark.kernel
def test_an_output_that_is_not_written_is_an_error_and_nothing_is_left_over(everything):
    path, done = everything
    assert (
        "FAILED 03_silent (missing): the notebook did not write missing.csv, missing.md"
        in done.stderr
    )
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
    assert done.stdout.count("scores computed: 2, already in the store: 0") == 1
    assert done.stdout.count("scores computed: 2, already in the store: 2") == 1
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
    # Four of the quick runs less the deleted one; that one and a third member are computed.
    assert "scores computed: 2, already in the store: 3" in capsys.readouterr().out
    assert command(*full, manifest=path) == 0
    assert "scores computed: 0, already in the store: 5" in capsys.readouterr().out
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
        PARAMETERS + "\n# %%\nimport time\nopen(store + '/started', 'w').close()\ntime.sleep(60)\n"
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
    deadline = time.monotonic() + 60
    while not (path.parent / "runs" / "store" / "started").exists():
        assert time.monotonic() < deadline, "the notebook never started"
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; finished scores are kept" in stderr
    assert "Traceback" not in stderr
    assert not list((path.parent / "runs" / "quick").glob(".staging-*"))


@pytest.mark.parametrize(
    ("files", "sentence", "kept"),
    [
        ({"share.json": "{}", "odd.csv": "x"}, "wrote odd.csv, which no figure .* declares", False),
        ({"share.json": "{'share': 1}"}, "a .json file that the notebook wrote cannot be", True),
        ({"share.json": ""}, "did not write share.json into", True),
        ({"share.json": "{}", "provenance.json": "seeds"}, "a .json file .* cannot be read", True),
    ],
)
def test_unfit_outputs_do_not_replace_a_good_result(tmp_path, monkeypatch, files, sentence, kept):
    def pretend(manifest, run, store, output):
        for name, text in files.items():
            (output / name).write_text(text)

    monkeypatch.setattr(runner, "_execute_notebook", pretend)
    document = manifest()
    document["figures"]["share"] = entry("01_good", ["numbers"])
    paper = load_manifest(write(tmp_path, document))
    old = paper.folder / "numbers" / "share.json"
    old.parent.mkdir()
    old.write_text("old")
    (run,) = plan(paper, ["share"], size="full")
    outcome = execute(paper, run, tmp_path)
    assert re.search(sentence, outcome.error)
    assert (old.read_text() == "old") is kept


# ---------------- bad input, before a kernel


def changed(**changes):
    """The manifest with values put at dotted places; None takes the key out."""
    document = manifest()
    for place, value in changes.items():
        *parents, last = place.split("__")
        target = document
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return document


MALFORMED = {
    "not YAML": ("figures: [", "line 1: expected"),
    "a list": ([1], r"has to be a mapping \(name: value\), not \[1\]"),
    "twice": ("figures: {}\nfigures: {}\nsizes: {}", "line 2: key 'figures' is there twice"),
    "no figure": ({"figures": {}, "sizes": {}}, "names no figure; it needs at least one"),
    "unknown key": (
        changed(figures__tau__captoin="x"),
        "unknown key 'captoin'; did you mean 'capt",
    ),
    "no caption": (changed(figures__tau__caption=None), "figures.tau: key 'caption' is missing"),
    "empty caption": (changed(figures__tau__caption=" "), "caption has to be a text .* not ' '"),
    "no alt text": (changed(figures__tau__alt=None), "figures.tau.alt has to be a text"),
    "output": (changed(figures__tau__outputs=["tables"]), "unknown value 'tables'; .* 'table'"),
    "no output": (changed(figures__tau__outputs=[]), "outputs is empty; it needs at least one of"),
    "not a list": (changed(figures__tau__outputs="table"), "has to be a list of figure, table"),
    "protocol": (changed(figures__tau__protocols=["pairde"]), "unknown value 'pairde'.*'paired'"),
    "size": (changed(sizes__01_good__quick=None), "sizes.01_good: key 'quick' is missing"),
    "no sizes": (changed(sizes__01_good=None), "sizes: key '01_good' is missing"),
    "unused sizes": (changed(figures__missing=None), "sizes: unknown key '03_silent'"),
    "ours": (
        changed(sizes__02_bad__quick={"output": "x"}),
        "the runner sets 'output'; take it out",
    ),
    "outside": (
        changed(figures={"../../tau": entry("01_good", ["table"])}),
        r"a figure's name is lower-case letters.* this one is '../../tau'",
    ),
    "outside too": (changed(figures__tau__notebook="../x"), r"figures.tau.notebook .* not '../x'"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_manifest_is_refused(fault, tmp_path, capsys):
    document, sentence = MALFORMED[fault]
    path = write(tmp_path, document)
    assert command("list", manifest=path) == 2
    error = capsys.readouterr().err
    assert error.startswith("bayes-tda: error: ")
    assert re.search(sentence, error), error


UNFIT = {
    "unknown parameter": (
        changed(sizes__01_good__quick={"membres": 5}),
        "sizes.01_good.quick: unknown parameter 'membres'; did you mean 'members'? "
        "Known: members, rate, layers.",
    ),
    "wrong type": (
        changed(sizes__01_good__full={"members": "5"}),
        "sizes.01_good.full.members is '5', but the notebook declares int",
    ),
    "1e-3 is text in YAML": (
        changed(sizes__01_good__full={"rate": "1e-3"}),
        "declares float (in YAML write 1.0e-3, not 1e-3).",
    ),
    "no such notebook": (
        changed(figures__missing__notebook="03_silnt", sizes__03_silent=None)
        | {"sizes": manifest()["sizes"] | {"03_silnt": {"quick": {}, "full": {}}}},
        "unknown notebook '03_silnt'; did you mean '03_silent'?",
    ),
}
del UNFIT["no such notebook"][0]["sizes"]["03_silent"]


@pytest.mark.parametrize("fault", UNFIT)
def test_a_manifest_that_does_not_fit_its_notebooks_runs_nothing(fault, tmp_path, capsys):
    document, sentence = UNFIT[fault]
    path = write(tmp_path, document)
    for arguments in (["check"], ["run", "--all"]):
        assert command(*arguments, manifest=path) == 2
        assert sentence in capsys.readouterr().err
    assert not (path.parent / "runs").exists()


CELLS = {
    "no tag": ("# %%\nmembers: int = 2  # seeds\n", "has 0 code cells tagged 'parameters'"),
    "two tags": (PARAMETERS * 2, "has 2 code cells tagged 'parameters'; it needs exactly one"),
    "no type": (PARAMETERS + "k = 2\n", "line 'k = 2': only 'name: type = literal  # meaning'"),
    "not a literal": (PARAMETERS + "k: int = 2 + members\n", "line 'k: int = 2 [+] members'"),
    "syntax": (PARAMETERS + "k: int = = 2\n", "parameters cell: invalid syntax"),
    "wrong default": (PARAMETERS + "k: int = 'a'\n", "'k' is declared int, but its default is 'a'"),
    "odd type": (PARAMETERS + "k: set = {1}\n", "annotation 'set' is not one that a parameter may"),
    "no store": (PARAMETERS.replace("store", "shop"), "parameter 'store' is missing; the runner"),
    "no protocol": (PARAMETERS.replace("protocol", "way"), "parameter 'protocol' is missing"),
}


@pytest.mark.parametrize("fault", CELLS)
def test_a_notebook_with_unfit_parameters_is_refused(fault, tmp_path):
    cell, sentence = CELLS[fault]
    path = write(tmp_path, manifest())
    (tmp_path / "notebooks" / "01_good.py").write_text(cell)
    problems = check(load_manifest(path))
    assert len(problems) == 1, problems
    assert re.search(sentence, problems[0])


def test_a_notebook_may_do_without_protocol_if_its_figures_do(tmp_path):
    path = write(tmp_path, manifest())
    cell = PARAMETERS.replace("protocol", "way")
    (tmp_path / "notebooks" / "03_silent.py").write_text(cell)
    assert check(load_manifest(path)) == []


BAD_COMMANDS = {
    "misspelt figure": (["run", "tua"], "unknown figure 'tua'; did you mean 'tau'? Known: tau, "),
    "one of two": (["run", "tau", "wrong"], "unknown figure 'wrong'"),
    "no figure": (["run"], "name figures or say --all, one of the two"),
    "figure and all": (["run", "tau", "--all"], "name figures or say --all, one of the two"),
    "protocol": (["run", "broken", "--protocol", "paired"], "'broken' has no protocol 'paired'"),
    "store is a file": (["run", "tau", "--store", __file__], "is not a usable folder"),
}


@pytest.mark.parametrize("fault", BAD_COMMANDS)
def test_a_bad_command_says_what_is_allowed(fault, tmp_path, capsys):
    arguments, sentence = BAD_COMMANDS[fault]
    path = write(tmp_path, manifest())
    assert command(*arguments, manifest=path) == 2
    assert sentence in capsys.readouterr().err
    assert not (path.parent / "runs" / "quick").exists()


def test_a_size_that_is_none_names_the_others(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command("run", "tau", "--size", "huge", manifest=write(tmp_path, manifest()))
    assert stop.value.code == 2
    assert re.search(r"invalid choice: 'huge' .*quick.*full.*paper", capsys.readouterr().err)


def test_the_manifest_is_found_from_a_folder_below(tmp_path, monkeypatch, capsys):
    write(tmp_path, manifest())
    monkeypatch.chdir(tmp_path / "notebooks")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "4 figures from 3 notebooks: all in order.\n"
    (tmp_path / "paper" / "figures.yaml").unlink()
    assert main(["check"]) == 2
    assert "paper/figures.yaml is neither in" in capsys.readouterr().err


def test_list_shows_what_a_figure_is_made_of(tmp_path, capsys):
    assert command("list", manifest=write(tmp_path, manifest())) == 0
    first = capsys.readouterr().out.partition("share")[0]
    assert first.split("\n")[:7] == [
        "tau",
        "  A caption.",
        "  notebook   01_good",
        "  protocols  paired, released",
        "  outputs    figure, table",
        "  quick      members=2",
        "  full       members=3, rate=0.01",
    ]


def test_the_papers_size_is_the_full_one_unless_the_manifest_has_another(tmp_path):
    document = manifest()
    document["sizes"]["01_good"]["paper"] = {"members": 10}
    loaded = load_manifest(write(tmp_path, document))
    assert loaded.parameters("01_good", "paper") == {"members": 10}
    assert loaded.parameters("01_good", "full") == {"members": 3, "rate": 0.01}
    document["sizes"]["01_good"].pop("paper")
    loaded = load_manifest(write(tmp_path, document))
    assert loaded.parameters("01_good", "paper") == {"members": 3, "rate": 0.01}
    # Only the full size is committed; the paper's goes where git ignores it.
    assert loaded.results("paper") == loaded.runs("paper") != loaded.results("full")


def test_plan_groups_by_notebook_and_protocol(tmp_path):
    document = load_manifest(write(tmp_path, manifest()))
    runs = {run.name: [figure.name for figure in run.figures] for run in plan(document)}
    assert runs == {
        "01_good-paired": ["tau", "share"],
        "01_good-released": ["tau", "share"],
        "02_bad": ["broken"],
        "03_silent": ["missing"],
    }
    assert [run.name for run in plan(document, protocol="released")] == ["01_good-released"]
    assert [run.name for run in plan(document, ["missing", "share", "missing"])] == [
        "03_silent",
        "01_good-paired",
        "01_good-released",
    ]


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, "int", True),
        (True, "int", False),
        (3, "float", True),
        (True, "float", False),
        ("0.1", "float", False),
        (True, "bool", True),
        (1, "bool", False),
        (None, "int | None", True),
        ("a", "int | None", False),
        ([1, 2], "list[int]", True),
        ([1, "2"], "list[int]", False),
        ([1, "2"], "list", True),
        ({"a": 1.5}, "dict[str, float]", True),
        ({"a": "b"}, "dict[str, float]", False),
        ("t", "Literal['t', 'released']", True),
        ("z", "Literal['t', 'released']", False),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected


def test_git_state_ignores_the_results_and_nothing_else(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    path = write(tmp_path, manifest())
    git("init")
    assert git_state(path.parent) == {"commit": None, "dirty": None}
    git("add", ".")
    git("commit", "-m", "all")
    clean = git_state(path.parent)
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert clean["dirty"] is False
    for folder in RESULT_FOLDERS:
        (path.parent / folder).mkdir(exist_ok=True)
        (path.parent / folder / "new.json").write_text("{}")
    assert git_state(path.parent) == clean
    (tmp_path / "notebooks" / "01_good.py").write_text("# changed")
    assert git_state(path.parent) == {**clean, "dirty": True}


def test_only_notebooks_that_ask_for_them_are_told_where_summaries_are(tmp_path):
    path = write(tmp_path, manifest())
    notebook = tmp_path / "notebooks" / "01_good.py"
    known = load_manifest(path)
    store = tmp_path / "store"

    def handed(size):
        (run, *_) = plan(known, ["tau"], size)
        return run_parameters(known, run, store)

    assert handed("full") == {
        **{"members": 3, "rate": 0.01, "protocol": "paired", "output": "", "store": str(store)}
    }
    declared = 'summaries: str = ""  # folder of summaries\n'
    notebook.write_text(PARAMETERS + declared + GOOD)
    assert check(known, ["01_good"]) == []
    assert handed("full")["summaries"] == str(path.parent / "studies")
    assert handed("paper")["summaries"] == str(path.parent / "runs" / "paper" / "studies")
    assert handed("quick")["summaries"] == ""


# ---------------- the real manifest


@pytest.fixture(scope="module")
def paper():
    return load_manifest(ROOT / "paper" / "figures.yaml")


def test_the_manifest_fits_the_notebooks(paper):
    assert check(paper) == []


def test_every_study_of_the_manifest_is_a_valid_experiment(paper):
    """The runner knows nothing of experiments, so a misspelt value would show after hours."""
    for size, parameters in paper.sizes["09_larger_sets_and_larger_models"].items():
        for study in parameters["studies"]:
            own = dict(study)
            released = own.pop("released", {})
            # What a backbone from the hub holds is known only where it can be fetched.
            if own.get("model") == "vit" and size == "paper":
                own["backbone"] = "tiny"
            for protocol, more in (("paired", {}), ("released", released)):
                experiment = Experiment(**own | more, protocol=protocol)
                assert experiment.data.n_attributed <= experiment.data.n_train


def test_the_readme_names_every_figure_and_its_notebook(paper):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [f.name for f in paper.figures.values() if f.name not in readme]
    missing += [name for name in paper.sizes if name not in readme]
    assert missing == []


def test_the_committed_results_are_those_of_the_manifest(paper):
    """A file is there if and only if the manifest declares it, and nobody has edited it."""
    expected = {}
    for figure in paper.figures.values():
        for protocol in figure.protocols or (None,):
            files = [f"{FOLDERS[n.rpartition('.')[2]]}/{n}" for n in figure.files(protocol)]
            expected[f"provenance/{figure.stem(protocol)}.json"] = sorted(files)
    there = {
        path.relative_to(paper.folder).as_posix()
        for folder in {*FOLDERS.values(), "provenance"}
        for path in (paper.folder / folder).rglob("*")
        if path.is_file()
    }
    assert there == set(expected) | {name for files in expected.values() for name in files}
    for provenance, files in expected.items():
        record = json.loads((paper.folder / provenance).read_text(encoding="utf-8"))
        assert record["size"] == "full"
        wanted = paper.sizes[record["notebook"]]["full"]
        assert {name: record["parameters"][name] for name in wanted} == wanted, provenance
        assert sorted(record["outputs"]) == files
        for name, digest in record["outputs"].items():
            actual = hashlib.sha256((paper.folder / name).read_bytes()).hexdigest()
            assert actual == digest, f"{name} is not what {provenance} says was made"


def test_parameters_of_a_missing_notebook(tmp_path):
    with pytest.raises(ManifestError, match="unknown notebook '09_x'"):
        notebook_parameters(tmp_path / "09_x.py")
