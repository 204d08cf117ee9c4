"""The exercises of a notebook, and the tests that its table of likely mistakes becomes.

Solutions and stubs are the notebook's own: what stands between the marks, and what a student's copy
has there instead.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jupytext
import pytest

from tda_utils.exercises import NotYet
from tools.make_student import BEGIN, without_solution

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CALL = re.compile(r"^exercises\.notebook_(\d\d)\.check_(\w+)\(\s*(\w+)\s*\)", re.MULTILINE)
# A function as a reader might write it, and what the check has to say of it, a pattern.
Mistake = tuple[Callable[..., Any], str]


class Exercise(NamedTuple):
    """What a notebook has for one exercise."""

    number: str  # of the notebook that the check belongs to
    check: str
    function: str
    code: str
    imports: list[str]

    def run(self, code: str) -> Callable[..., Any]:
        """Return the function that this code defines, given what it imports."""
        names: dict[str, Any] = {}
        exec("\n".join([*self.imports, code]), names)
        return names[self.function]

    @property
    def solution(self) -> Callable[..., Any]:
        """The function as the notebook has it."""
        return self.run(self.code)

    @property
    def stub(self) -> Callable[..., Any]:
        """The function as a student's copy has it."""
        return self.run(without_solution(self.code))


def exercises_in(notebook: Path) -> Iterator[Exercise]:
    """Yield the exercises of a notebook in their order."""
    cells = [c for c in jupytext.read(notebook, fmt="py:percent").cells if c.cell_type == "code"]
    code: list[str] = []
    for cell in cells:
        if BEGIN in cell.source:
            code.append(cell.source)
        for number, check, function in CALL.findall(cell.source):
            whole = "\n".join(code)
            yield Exercise(number, check, function, whole, list(imports_for(whole, cells)))
            code = []


def imports_for(code: str, cells: Sequence[Any]) -> Iterator[str]:
    """Yield those of a notebook's imports that a piece of code uses."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    for cell in cells:
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                node.names = [one for one in node.names if (one.asname or one.name) in used]
                if node.names:
                    yield ast.unparse(node)


def refusal(check: Callable[..., Any], function: Callable[..., Any]) -> str:
    """Return the words with which a check refuses a function."""
    with pytest.raises(NotYet) as stop:
        check(function)
    return str(stop.value)


def cases_of(number: str, mistakes: Mapping[str, Sequence[Mistake]]) -> type:
    """Return the tests of a notebook's exercises.

    Parameters
    ----------
    number : str
        Of the notebook, two digits.
    mistakes : mapping of str to sequence of (function, pattern)
        By the name of the check without ``check_``, in the order of the exercises.
    """
    (notebook,) = NOTEBOOKS.glob(f"{number}_*.py")
    exercises = {exercise.check: exercise for exercise in exercises_in(notebook)}
    module = importlib.import_module(f"tda_utils.exercises.notebook_{number}")
    checks = {
        name.removeprefix("check_"): check
        for name, check in vars(module).items()
        if name.startswith("check_")
    }
    places = {name: f"Exercise {place}: " for place, name in enumerate(exercises, start=1)}
    known = [(name, *one) for name, some in mistakes.items() for one in some]
    each = pytest.mark.parametrize("name", exercises)

    class Tests:
        def test_every_check_is_called_in_its_notebook_and_has_likely_mistakes(self) -> None:
            assert {exercise.number for exercise in exercises.values()} == {number}
            assert list(exercises) == list(checks) == list(mistakes)
            assert 2 <= len(checks) <= 4 and all(mistakes.values())

        @each
        def test_the_notebooks_solution_passes_and_says_what_it_shows(self, name, capsys) -> None:
            checks[name](exercises[name].solution)
            said = capsys.readouterr().out
            assert re.fullmatch(rf"{places[name]}correct\. \S.{{20,}}\.\n", said)
            assert not {"nan", "inf"} & set(re.findall(r"\w+", said))

        @each
        def test_the_students_stub_is_met_kindly(self, name, capsys) -> None:
            message = refusal(checks[name], exercises[name].stub)
            assert message.startswith(places[name]) and "\n" not in message
            assert exercises[name].function in message and "Error" not in message
            assert capsys.readouterr().out == ""

        @pytest.mark.parametrize(
            ("name", "wrong", "words"),
            known,
            ids=[f"{name}-{words}" for name, _, words in known],
        )
        def test_a_likely_mistake_is_named(self, name, wrong, words) -> None:
            message = refusal(checks[name], wrong)
            assert message.startswith(places[name])
            assert re.search(words, message), message

    return Tests
