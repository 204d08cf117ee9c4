"""The manifest, held against its notebooks; and what is planned by it."""

import pytest

from tda_utils.reproduce.manifest import check, load_manifest, plan, run_parameters
from tests.reproduce.conftest import GOOD, PARAMETERS, changed, command, holds, manifest, write

#: For each fault a manifest, and what the sentence has to name.
UNFIT = {
    "unknown parameter": (
        changed(sizes__01_good__quick={"membres": 5}),
        ["sizes.01_good.quick", "'membres'", "did you mean 'members'", "rate, layers"],
    ),
    "wrong type": (
        changed(sizes__01_good__full={"members": "5"}),
        ["sizes.01_good.full.members", "'5'", "int"],
    ),
    "1e-3 is text in YAML": (
        changed(sizes__01_good__full={"rate": "1e-3"}),
        ["sizes.01_good.full.rate", "float", "1.0e-3"],
    ),
    "no such notebook": (
        changed(
            figures__missing__notebook="03_silnt",
            sizes__03_silent=None,
            sizes__03_silnt={"quick": {}, "full": {}},
        ),
        ["'03_silnt'", "did you mean '03_silent'"],
    ),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_manifest_that_does_not_fit_its_notebooks_runs_nothing(fault, tmp_path, capsys):
    document, words = UNFIT[fault]
    path = write(tmp_path, document)
    for arguments in (["check"], ["run", "--all"]):
        assert command(*arguments, manifest=path) == 2
        holds(capsys.readouterr().err, *words)
    assert not (path.parent / "runs").exists()


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
