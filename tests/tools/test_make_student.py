"""The exercises of every notebook, and the students' copies, which lack the solutions."""

import json
import os
import re
import subprocess

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools import make_student, refresh_notebooks

FOLDER = refresh_notebooks.NOTEBOOKS
SOURCES = sorted(FOLDER.glob("*.py"))
NAMES = [path.stem for path in SOURCES]
# As they are made: those that lie there may be filled in.
COPIES = make_student.wanted(FOLDER)
every_notebook = pytest.mark.parametrize("source", SOURCES, ids=NAMES)
every_copy = pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def of_readers(cell) -> bool:
    return bool({"exercise", "solution"} & set(tags(cell)))


# ---------------- the form of exercises and quiz


@every_notebook
def test_exercises_are_the_last_section_and_tagged(source):
    cells = refresh_notebooks.build(source).cells
    ours = [of_readers(cell) for cell in cells]
    assert True in ours, "no cell has the tag 'exercise'"
    first = ours.index(True)
    assert all(ours[first:]), "an untagged cell comes after the exercises"
    assert cells[first].source.startswith("## Exercises\n")
    assert not any("BEGIN SOLUTION" in cell.source for cell in cells[:first])
    assert not any(re.search("^## ", c.source, re.M) for c in cells[first + 1 :] if is_text(c))


def is_text(cell) -> bool:
    return cell.cell_type == "markdown"


@every_notebook
def test_exercises_say_how_long_and_how_hard_they_are(source):
    cells = refresh_notebooks.build(source).cells
    headings = [c.source for c in cells if is_text(c) and c.source.startswith("### Exercise")]
    assert 2 <= len(headings) <= 4
    difficulties = []
    for number, text in enumerate(headings, start=1):
        assert re.match(rf"### Exercise {number}: \S", text)
        found = re.search(r"\*\*(\d+) minutes, difficulty ([1-5]) of 5\.\*\*", text)
        assert found, f"exercise {number} says neither minutes nor difficulty"
        difficulties.append(int(found.group(2)))
        assert "<details><summary>Hint</summary>\n\n" in text and "\n\n</details>" in text
    assert difficulties == sorted(difficulties) and difficulties[0] < difficulties[-1]


@every_notebook
def test_each_exercise_has_a_solution_and_then_a_check_with_checked_output(source):
    kinds = []
    for cell in refresh_notebooks.build(source).cells:
        if is_text(cell) and cell.source.startswith("### Exercise"):
            kinds.append("")
        elif kinds and "BEGIN SOLUTION" in cell.source:
            kinds[-1] += "s"
        elif kinds and (found := make_student.CHECK.search(cell.source)):
            kinds[-1] += "c"
            assert found.group(1) == source.stem[:2]
            assert "nbval-check-output" in tags(cell)
    assert kinds and all(re.fullmatch("(s+c)+", kind) for kind in kinds), kinds


@every_notebook
def test_a_quiz_with_answers_comes_before_what_is_next(source):
    text = "\n\n".join(c.source for c in refresh_notebooks.build(source).cells if is_text(c))
    quiz = re.search(r"^## Quiz\n(.*?)^(?:## |\*\*Next)", text, re.M | re.S)
    assert quiz, "no heading '## Quiz', or nothing after it"
    assert quiz.start() < text.index("\n## Exercises")
    answers = re.findall(r"<details><summary>Answer</summary>(.*?)</details>", quiz[1], re.S)
    assert 3 <= len(answers) <= 4
    # Without the blank lines, markdown and formulas inside would not be rendered.
    assert all(re.fullmatch(r"\n\n\S.*\S\n\n", answer, re.S) for answer in answers)


# ---------------- the copies


def test_the_copies_are_up_to_date(capsys):
    assert make_student.main(["--check"]) == 0, capsys.readouterr().err
    assert COPIES


@every_copy
def test_a_copy_differs_in_solutions_and_paths_alone(path):
    copy = nbformat.reads(COPIES[path], as_version=4)
    whole = refresh_notebooks.build(FOLDER / f"{path.stem}.py")
    assert copy.metadata == whole.metadata and copy.metadata.kernelspec.name == "python3"
    kept = [cell for cell in whole.cells if "solution" not in tags(cell)]
    assert [(c.id, c.cell_type, c.metadata) for c in copy.cells] == [
        (c.id, c.cell_type, c.metadata) for c in kept
    ]
    solved = 0
    for ours, theirs in zip(kept, copy.cells, strict=True):
        block = r"^( *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION$"
        code, count = re.subn(block, r"\1...  # your code", ours.source, flags=re.M | re.S)
        if is_text(ours) or "parameters" in tags(ours):
            code = re.sub(r"""(\(|["'])\.\./""", r"\1../../", code)
        assert theirs.source == code
        assert not count or tags(ours) == ["exercise"]
        assert is_text(theirs) or (theirs.outputs == [] and theirs.execution_count is None)
        solved += count
    assert solved >= 2


def reads_what_is_committed(path):
    """Whether a parameter of a copy names a file that is there.

    All other cells before the first check are the source's own, which runs in full elsewhere, and a
    store need not be there.
    """
    cells = nbformat.reads(COPIES[path], as_version=4).cells
    (parameters,) = [cell.source for cell in cells if "parameters" in tags(cell)]
    named = re.findall(r"""["'](\.\./[^"']+)["']""", parameters)
    return any((path.parent / name).is_file() for name in named)


RUN = [path for path in COPIES if reads_what_is_committed(path)]


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=[path.stem for path in RUN])
def test_a_copy_runs_up_to_the_first_check_and_stops_there_kindly(path):
    copy = nbformat.reads(COPIES[path], as_version=4)
    client = NotebookClient(
        copy,
        kernel_name="python3",
        timeout=refresh_notebooks.CELL_TIMEOUT,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],
    )
    with pytest.raises(CellExecutionError) as stop:
        client.execute(env={**os.environ, **refresh_notebooks.ENVIRONMENT})
    assert stop.value.ename == "NotYet", stop.value
    first = next(i for i, cell in enumerate(copy.cells) if make_student.CHECK.search(cell.source))
    (shown,) = copy.cells[first].outputs
    (sentence,) = shown.traceback
    assert sentence.startswith("Exercise 1: ") and "\n" not in sentence
    code = [cell for cell in copy.cells[:first] if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)


def test_a_copy_that_reads_what_is_committed_is_run():
    assert RUN, "no copy names a committed file, so that none would be run"


# ---------------- the generator

GOOD = """\
# %% [markdown]
# See [the notation](../docs/notation.md), <img src="../a.png" alt="a"> and [02](02_next.ipynb).

# %% tags=["parameters"]
store: str = "../paper/runs/store"  # folder of finished scores

# %%
kept = "../elsewhere"

# %% [markdown] tags=["exercise"]
# ## Exercises

# %% tags=["exercise"]
def twice(x):
    if x:
        # BEGIN SOLUTION
        y = 2 * x

        return y
        # END SOLUTION
    return 0

# %% tags=["exercise", "nbval-check-output"]
exercises.notebook_01.check_twice(twice)

# %% [markdown] tags=["solution"]
# It is the double.
"""


def source_of(folder, text=GOOD, name="01_line"):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_a_small_notebook(tmp_path):
    copy = make_student.student(source_of(tmp_path))
    assert [cell.source for cell in copy.cells] == [
        'See [the notation](../../docs/notation.md), <img src="../../a.png" alt="a"> and '
        "[02](02_next.ipynb).",
        'store: str = "../../paper/runs/store"  # folder of finished scores',
        'kept = "../elsewhere"',
        "## Exercises",
        "def twice(x):\n    if x:\n        ...  # your code\n    return 0",
        "exercises.notebook_01.check_twice(twice)",
    ]
    assert [cell.id for cell in copy.cells] == [f"01-line-{i:03d}" for i in range(1, 7)]


def test_a_notebook_without_exercises_has_no_copy(tmp_path):
    assert make_student.student(source_of(tmp_path, "# %%\n1 + 1\n")) is None
    assert make_student.wanted(tmp_path) == {}


MALFORMED = {
    "no end": ("        # END SOLUTION\n", "", "cell 5 .*# BEGIN SOLUTION.* no .*# END SOLUTION"),
    "no begin": (
        "        # BEGIN SOLUTION\n",
        "",
        "cell 5 .*# END SOLUTION.* no .*# BEGIN",
    ),
    "nested": ("y = 2 * x\n", "# BEGIN SOLUTION\n", "cell 5 .*# BEGIN SOLUTION.* inside"),
    "empty": ("        y = 2 * x\n\n        return y\n", "", "cell 5 .*empty"),
    "indentation": ("        # END", "    # END", "cell 5 .*# END SOLUTION.* indented"),
    "not alone": ("# BEGIN SOLUTION", "# BEGIN SOLUTION: x", "cell 5 .*# BEGIN SOLUTION: x"),
    "untagged": ('# %% tags=["exercise"]\ndef', "# %%\ndef", r"cell 5 .*twice.*'exercise'"),
    "in text": ("# ## Exercises", "# ## Exercises\n# # BEGIN SOLUTION", "cell 4 .*code cell"),
    "no check": ("exercises.notebook_01.check_twice(twice)", "1 + 1", "cell 5 .*no check"),
    "check of another": ("notebook_01", "notebook_02", "cell 6 .*notebook 02"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_notebook_is_refused(fault, tmp_path, monkeypatch, capsys):
    old, new, sentence = MALFORMED[fault]
    assert old in GOOD
    source_of(tmp_path, GOOD.replace(old, new, 1))
    monkeypatch.setattr(make_student, "NOTEBOOKS", tmp_path)
    assert make_student.main([]) == 2
    error = capsys.readouterr().err
    assert re.search(f"01_line.py, {sentence}", error), error
    assert not (tmp_path / "student").exists()


def test_a_solution_without_a_check_before_the_next_is_refused(tmp_path):
    second = GOOD[GOOD.index('# %% tags=["exercise"]') : GOOD.index('# %% tags=["exercise", "nb')]
    source = source_of(tmp_path, GOOD.replace(second, 2 * second))
    with pytest.raises(ValueError, match="01_line.py, cell 5 .*no check"):
        make_student.student(source)


def test_a_check_outside_the_exercises_is_refused(tmp_path):
    source = source_of(tmp_path, GOOD.replace('["exercise", "nbval-check-output"]', '["x"]'))
    with pytest.raises(ValueError, match="01_line.py, cell 6 .*'exercise'"):
        make_student.student(source)


def test_a_solution_in_a_notebook_without_exercises_is_refused(tmp_path):
    source = source_of(tmp_path, "# %%\n# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n")
    with pytest.raises(ValueError, match="01_line.py, cell 1 .*'exercise'"):
        make_student.student(source)


def test_copies_are_written_checked_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_student, "NOTEBOOKS", tmp_path)
    source, copy = source_of(tmp_path), tmp_path / "student" / "01_line.ipynb"
    assert make_student.main(["--check"]) == 1
    assert not copy.exists()
    assert "01_line.ipynb" in capsys.readouterr().err
    assert make_student.main([]) == 0
    first = copy.read_bytes()
    assert make_student.main(["--check"]) == 0
    copy.write_bytes(first + b"\n")
    assert make_student.main(["--check"]) == 1
    assert make_student.main([]) == 0 and copy.read_bytes() == first
    source.write_text("# %%\n1 + 1\n")
    capsys.readouterr()
    assert make_student.main(["--check"]) == 1
    assert "01_line.ipynb" in capsys.readouterr().err
    assert make_student.main([]) == 0 and not copy.exists()


# ---------------- the work of students


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository of one notebook, whose copy is committed, as a student clones it."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    source_of(folder)
    monkeypatch.setattr(make_student, "NOTEBOOKS", folder)
    assert make_student.main([]) == 0
    (folder / "student" / ".made").unlink()  # a clone has none
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder, *arguments):
    identity = ("-c", "user.name=A student", "-c", "user.email=student@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder):
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "A commit")


def fill_in(copy, answer="return x + x"):
    """Write an answer as Jupyter saves it."""
    notebook = nbformat.read(copy, as_version=4)
    (cell,) = [cell for cell in notebook.cells if make_student.STUB in cell.source]
    cell.source = cell.source.replace(make_student.STUB, answer)
    nbformat.write(notebook, copy)
    return copy.read_bytes()


def files(folder):
    paths = (folder / "student").glob("[!.]*")
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def next_edition(folder, word="Another text"):
    source_of(folder, f"# %% [markdown]\n# {word}\n\n{GOOD}")


@pytest.mark.parametrize("committed", [False, True])
def test_answers_stay_and_a_new_edition_lies_beside_them(course, committed, capsys):
    copy = course / "student" / "01_line.ipynb"
    answers = fill_in(copy)
    if committed:
        commit(course)
    (course / "student" / "notes.ipynb").write_text("my own")
    before = files(course)
    if not committed:
        for arguments in ([], ["--check"]):
            assert make_student.main(arguments) == 0
            assert files(course) == before
            assert "01_line.ipynb: kept" in capsys.readouterr().out or arguments
    next_edition(course)
    for _ in range(2):
        assert make_student.main([]) == 0
        new = files(course).pop("01_line.new.ipynb")
        assert "01_line.new.ipynb" in capsys.readouterr().out
        assert copy.read_bytes() == answers
        assert b"Another text" in new and make_student.STUB.encode() in new
    # A student who goes on in the new one has that kept, too.
    more = fill_in(course / "student" / "01_line.new.ipynb", "return 2 * x")
    next_edition(course, "A third text")
    assert make_student.main([]) == 0
    now = files(course)
    assert now["01_line.ipynb"] == answers and now["01_line.new.ipynb"] == more
    assert b"A third text" in now["01_line.new-2.ipynb"]
    assert now["notes.ipynb"] == b"my own"
    # The notebook goes; answers stay.
    (course / "01_line.py").unlink()
    assert make_student.main([]) == 0
    left = {"01_line.ipynb": answers, "01_line.new.ipynb": more, "notes.ipynb": b"my own"}
    assert files(course).items() >= left.items()


def test_a_copy_that_nobody_worked_in_follows_its_notebook(course):
    copy = course / "student" / "01_line.ipynb"
    for word in ("A second text", "A third text"):
        next_edition(course, word)
        assert make_student.main(["--check"]) == 1
        assert make_student.main([]) == 0
        assert set(files(course)) == {"01_line.ipynb"} and word.encode() in copy.read_bytes()
    commit(course)
    (course / "student" / ".made").unlink()
    (course / "01_line.py").unlink()
    assert make_student.main(["--check"]) == 1
    assert make_student.main([]) == 0
    assert files(course) == {}


def test_a_copy_that_was_committed_without_its_notebook_is_a_fault(course, capsys):
    fill_in(course / "student" / "01_line.ipynb")
    commit(course)
    assert make_student.main(["--check"]) == 1
    assert "01_line.ipynb" in capsys.readouterr().err


def a_link(copy):
    target = copy.parent.parent / "elsewhere.ipynb"
    copy.rename(target)
    copy.symlink_to(target)


def a_dead_link(copy):
    copy.unlink()
    copy.symlink_to(copy.parent.parent / "elsewhere.ipynb")


def a_link_to_itself(copy):
    copy.unlink()
    copy.symlink_to(copy.name)


def a_folder(copy):
    copy.unlink()
    copy.mkdir()


def a_pipe(copy):
    copy.unlink()
    os.mkfifo(copy)


STRANGE = {
    "a link": a_link,
    "a dead link": a_dead_link,
    "a link to itself": a_link_to_itself,
    "a folder": a_folder,
    "a pipe": a_pipe,
    "read-only": lambda copy: copy.chmod(0o444),
    "no notebook": lambda copy: copy.write_bytes(b"\xff\x00 my answers"),
    "deep": lambda copy: copy.write_text("[" * 100_000),
    "outputs": lambda copy: copy.write_text(with_an_output(copy)),
}


def with_an_output(copy):
    notebook = json.loads(copy.read_text())
    notebook["cells"][4]["execution_count"] = 1
    return json.dumps(notebook)


def state(path):
    """What a file is, all but the time at which it was read."""
    found = path.lstat()
    told = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
    target = os.readlink(path) if path.is_symlink() else None
    return {name: value for name, value in told.items() if "atime" not in name}, target


@pytest.mark.parametrize("kind", STRANGE)
def test_whatever_else_a_copy_is_it_is_kept(kind, course, capsys):
    copy = course / "student" / "01_line.ipynb"
    STRANGE[kind](copy)
    before = state(copy)
    next_edition(course)
    assert make_student.main([]) == 0
    assert "01_line.ipynb: kept" in capsys.readouterr().out
    assert state(copy) == before
    assert b"Another text" in copy.with_suffix(".new.ipynb").read_bytes()
    assert not os.path.exists(course / "elsewhere.ipynb") or kind == "a link"


def test_files_beside_a_copy_are_not_written_through_whatever_their_name(course, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    handout = next((course / "student").glob("*.ipynb"))
    (course / "student" / f"{handout.name}.partial").symlink_to(mine)
    before = handout.read_text()
    next_edition(course)
    assert make_student.main([]) == 0
    assert mine.read_text() == "mine" and (course / "student" / f"{handout.name}.partial").exists()
    assert handout.read_text() != before and not handout.is_symlink()


def test_a_copy_of_a_copy_is_a_file_of_ones_own(course):
    copy = course / "student" / "01_line.ipynb"
    handout = copy.with_name("01_line-Copy1.ipynb")
    handout.write_bytes(copy.read_bytes())
    assert make_student.main([]) == 0 and handout.exists()
    next_edition(course)
    assert make_student.main([]) == 0 and handout.exists()


def test_a_folder_that_takes_no_files_is_named(course, capsys):
    next_edition(course)
    for path in (course / "student").iterdir():
        path.unlink()
    (course / "student").rmdir()
    (course / "student").write_text("a file")
    assert make_student.main([]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(course / "student") in sentence
