"""Fill the generated parts of docs/teaching.md from the notebooks and the measured run times.

What a notebook teaches and needs stands in the notebook, and is gathered here.

    python -m tools.pages.teaching           write docs/teaching.md
    python -m tools.pages.teaching --check   exit with 1 if it would change
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jupytext

from tools import ROOT, measure_notebooks
from tools.pages.filling import course, fill, sections, write_or_check

TEACHING = ROOT / "docs" / "teaching.md"


@dataclass(frozen=True)
class Lesson:
    """What a notebook says about itself.

    Attributes
    ----------
    title : str
        As in README.md's table, with the number.
    path : str
        From the root of the repository, without ending.
    learn, need : str
        The texts under *What you'll learn* and *What you need*, in Markdown.
    minutes : int
        Reading time.
    exercises : tuple of (str, int, int)
        Title, minutes and difficulty of each.
    questions : int
        Number of questions in the quiz.
    """

    title: str
    path: str
    learn: str
    need: str
    minutes: int
    exercises: tuple[tuple[str, int, int], ...]
    questions: int


def lesson(title: str, path: str, text: str) -> Lesson:
    """Read what the Markdown of a notebook says.

    Raises
    ------
    ValueError
        If the opening is not complete.

    Examples
    --------
    >>> learn, need = "## What you'll learn\\n\\n- count;\\n\\n", "## What you need\\n\\nA hand.\\n"
    >>> one = lesson("01 Counting", "notebooks/01", learn + need + "\\n**5 minutes**")
    >>> one.learn, one.need, one.minutes, one.questions
    ('- count;', 'A hand.', 5, 0)
    """
    parts = {name: _body(part) for name, part in sections(text).items()}
    opening = "\n".join(parts.get(name, "") for name in ("", "What you'll learn", "What you need"))
    minutes = re.search(r"\*\*(\d+) minutes\*\*", opening)
    if not minutes or not {"What you'll learn", "What you need"} <= parts.keys():
        raise ValueError(f"{path} has no complete opening: what you'll learn, need, minutes.")
    exercises = re.findall(
        r"^### Exercise \d+: (.+)\n+\*\*(\d+) minutes, difficulty (\d) of 5\.?\*\*",
        text,
        re.MULTILINE,
    )
    return Lesson(
        title,
        path,
        parts["What you'll learn"],
        parts["What you need"].partition("**" + minutes[1])[0].strip(),
        int(minutes[1]),
        tuple((name, int(time), int(difficulty)) for name, time, difficulty in exercises),
        len(re.findall(r"<summary>Answer", parts.get("Quiz", ""))),
    )


def _body(part: str) -> str:
    return part.partition("\n")[2].strip() if part.startswith("## ") else part


def lessons() -> list[Lesson]:
    """Return what every notebook of the course says about itself."""
    readme = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    found = []
    for title, path in course(readme):
        cells = jupytext.read(ROOT / f"{path}.py", fmt="py:percent").cells
        # The first part of each cell that has no heading of its own belongs to the one above.
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found.append(lesson(title, path, text.replace("\u2019", "'")))
    return found


def goals(course: list[Lesson]) -> str:
    """Return goals, prerequisites, exercises and quiz of each notebook."""
    lines = []
    for one in course:
        lines += [
            f"### {one.title}",
            "",
            f"[Notebook](../{one.path}.ipynb), {one.minutes} minutes to read. You need: "
            f"{_from_docs(_inline(one.need))}",
            "",
            _from_docs(one.learn),
            "",
        ]
        if one.exercises:
            lines += ["Exercises:", ""]
            lines += [
                f"{number}. {name} ({time} minutes, difficulty {difficulty} of 5)"
                for number, (name, time, difficulty) in enumerate(one.exercises, start=1)
            ]
            lines += [""]
        if one.questions:
            lines += [f"The quiz has {one.questions} questions.", ""]
    return "\n".join(lines).rstrip()


def _inline(text: str) -> str:
    return " ".join(text.split())


def _from_docs(markdown: str) -> str:
    """Links of a notebook, seen from docs/."""
    return markdown.replace("](../docs/", "](").replace("](0", "](../notebooks/0")


def times(course: list[Lesson]) -> str:
    """Return the table of run times, with the machine they were measured on."""
    measured = measure_notebooks.load()
    entries = measured["notebooks"]
    said = ", ".join(f"{name} {value}" for name, value in sorted(measured["machine"].items()))
    lines = [
        f"Measured with: {said}.",
        "",
        "| notebook | runs in | to read | exercises |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in course:
        seconds = entries[Path(one.path).name]["seconds"]
        work = sum(time for _, time, _ in one.exercises)
        lines.append(
            f"| [{one.title}](../{one.path}.ipynb) | {seconds:.0f} s | {one.minutes} minutes | "
            f"{f'{work} minutes' if work else '–'} |"
        )
    seconds = sum(entries[Path(one.path).name]["seconds"] for one in course)
    reading = sum(one.minutes for one in course)
    work = sum(time for one in course for _, time, _ in one.exercises)
    all_work = f"{work} minutes" if work else "–"
    lines.append(f"| together | {seconds / 60:.0f} minutes | {reading} minutes | {all_work} |")
    return "\n".join(lines)


PARTS = {"goals": goals, "times": times}


def main(arguments: list[str] | None = None) -> int:
    """Write docs/teaching.md, or check it; return the exit code."""

    def make(text: str) -> str:
        return fill(text, lessons(), PARTS, "docs/teaching.md")

    return write_or_check(TEACHING, make, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
