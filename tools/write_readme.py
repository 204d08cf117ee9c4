"""Fill the generated parts of README.md from the manifest and the committed results.

A part lies between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``. No number in it is typed: all
come from paper/figures.yaml, paper/tables and paper/numbers.

    python tools/write_readme.py           write README.md
    python tools/write_readme.py --check   exit with 1 if it would change
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tda_utils.reproduce.manifest import Manifest, load_manifest

ROOT = Path(__file__).resolve().parent.parent
LABELS = {"loo": "LOO", "ats": "ATS", "influence": "IF", "grad_dot": "GD", "grad_cos": "GC"}


def results(manifest: Manifest) -> str:
    """Return the table of mean p-values and significant fractions, both protocols side by side."""
    tables, sizes = {}, {}
    for protocol in ("paired", "released"):
        stem = f"significant_fraction-{protocol}"
        tables[protocol] = pd.read_csv(manifest.folder / "tables" / f"{stem}.csv")
        tables[protocol] = tables[protocol].set_index("method")
        sizes[protocol] = json.loads((manifest.folder / "numbers" / f"{stem}.json").read_text())
    size = sizes["paired"]
    lines = [
        f"MNIST3, CNN2-L, {size['members']} members x {size['checkpoints']} checkpoints, "
        f"{size['train']} training x {size['test']} test digits, all pairs.",
        "",
        "| | paired: mean p | p < 0.05 | after FDR | released: mean p | p < 0.05 | after FDR |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method in tables["paired"].index:
        cells = [
            cell
            for table in tables.values()
            for cell in (
                f"{table.loc[method, 'mean p']:.3f}",
                *(f"{table.loc[method, column]:.1%}" for column in ("p < 0.05", "after FDR")),
            )
        ]
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    nulls = []
    for protocol in sizes:
        numbers = json.loads((manifest.folder / "numbers" / f"mean_p-{protocol}.json").read_text())
        nulls += [
            f"{numbers['null mean p']:.3f}",
            _percent(sizes[protocol]["null fraction"]),
            "–",
        ]
    return "\n".join([*lines, f"| *pure noise* | {' | '.join(nulls)} |"])


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction >= 1e-3 else f"{fraction:.2%}"


def gallery(manifest: Manifest) -> str:
    """Return each figure with its caption, under each of its protocols."""
    parts = []
    for figure in manifest.figures.values():
        if "figure" not in figure.outputs:
            continue
        parts += [f"### {figure.name}", "", figure.caption.strip(), ""]
        for protocol in figure.protocols or (None,):
            under = f" Protocol: {protocol}." if protocol else ""
            alt = f"{figure.alt.strip()}{under}"
            parts += [f"![{alt}](paper/figures/{figure.stem(protocol)}.png)", ""]
            if protocol:
                parts += [f"*{protocol}*", ""]
    return "\n".join(parts).rstrip()


def sources(manifest: Manifest) -> str:
    """Return the table figure -> notebook -> parameters."""
    lines = [
        "| figure | notebook | parameters at full size | outputs |",
        "| --- | --- | --- | --- |",
    ]
    for figure in manifest.figures.values():
        values = manifest.sizes[figure.notebook]["full"]
        parameters = ", ".join(parameter(name, value) for name, value in values.items())
        if figure.protocols:
            parameters += ", `protocol=" + "\\|".join(figure.protocols) + "`"
        notebook = f"[{figure.notebook}](notebooks/{figure.notebook}.ipynb)"
        lines.append(
            f"| `{figure.name}` | {notebook} | {parameters} | {', '.join(figure.outputs)} |"
        )
    return "\n".join(lines)


def parameter(name: str, value: object) -> str:
    """Write a parameter as one would pass it; a long list stays where it is."""
    if isinstance(value, list):
        return f"`{name}` ({len(value)}, in [figures.yaml](paper/figures.yaml))"
    return f"`{name}={value}`"


def benchmarks(manifest: Manifest) -> str:
    """Return the measured ratios beside their targets, with the machine and the versions."""
    folder = manifest.folder.parent / "benchmarks" / "results"
    record = json.loads((folder / "bench.json").read_text())
    said = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    parameters = {point["parameters"] for point in record["growth"]}
    caption = (
        "Seconds (top) and peak memory in GB (bottom) of leave-one-out and of the gradient methods "
        f"against training samples, members and parameters ({min(parameters):,} to "
        f"{max(parameters):,}); logarithmic axes."
    )
    return "\n".join(
        [
            f"Measured with: {said}.",
            "",
            (folder / "bench.md").read_text().rstrip(),
            "",
            f"![{caption}](benchmarks/results/scaling.png)",
        ]
    )


def three_digits(value: float) -> str:
    """Return a number to three significant digits, and never as 1.02e+03."""
    return f"{float(f'{value:.3g}'):,g}"


def cost(manifest: Manifest) -> str:
    """Return what the paper's size costs, with the arithmetic."""
    folder = manifest.folder.parent / "benchmarks" / "results"
    record = json.loads((folder / "cost.json").read_text())
    machine, total = record["machine"], record["core hours"]
    nodes, cores, longest = record["nodes"], record["cores"], record["longest file"]
    lines = [
        "| network, data | images trained on | ms each | images looked at | ms each | core hours |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in record["networks"].items():
        cells = [
            cell
            for kind in ("trained", "seen")
            for cell in (f"{one['images'][kind]:,}", three_digits(one["milliseconds"][kind]))
        ]
        cells.append(
            f"{one['core hours']:,.0f}" if one["core hours"] >= 10 else f"{one['core hours']:.1f}"
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    before = (
        f"The paper's size (`--size paper`) is {record['files']:,} files of scores and posteriors. "
        "What they cost is the number of images times the time that one takes on one core, "
        f"measured on {machine['date']} ({machine['cpu']}, torch {machine['torch']})."
    )
    after = (
        f"Together {total:,.0f} core hours. On {nodes} nodes of {cores} cores that is {total:,.0f}"
        f" / ({nodes} x {cores}) = {total / nodes / cores:,.1f} hours if all are busy all the "
        f"time. The longest file takes {longest:,.0f} core hours, which is {longest / cores:,.1f} "
        f"hours on a node of its own (`--config threads={cores}`), so the whole run takes at least "
        "that."
    )
    return "\n".join([before, "", *lines, "", after])


PARTS = {
    "results": results,
    "gallery": gallery,
    "benchmarks": benchmarks,
    "cost": cost,
    "sources": sources,
}


def fill(
    text: str,
    source: Any,
    parts: Mapping[str, Callable[[Any], str]] = PARTS,
    name: str = "README.md",
) -> str:
    """Return the text with every generated part made anew.

    Parameters
    ----------
    text : str
        A page, in which each part lies between its two comments.
    source : object
        What each part is made from.
    parts : mapping of str to function
        ``parts[part](source)`` is the text of a part.
    name : str
        The page, for the message.

    Raises
    ------
    ValueError
        If a part is missing or is not known.

    Examples
    --------
    >>> page = "<!-- begin sum -->\\n<!-- end sum -->"
    >>> fill(page, (1, 2), {"sum": lambda numbers: str(sum(numbers))})
    '<!-- begin sum -->\\n3\\n<!-- end sum -->'
    """
    found = re.findall(r"<!-- begin (\w+) -->", text)
    if sorted(found) != sorted(parts):
        raise ValueError(f"{name} has the generated parts {found}; it must have {list(parts)}.")
    for part in found:
        pattern = rf"(<!-- begin {part} -->\n).*?(<!-- end {part} -->)"
        made = parts[part](source)
        text = re.sub(pattern, lambda m, made=made: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
    return text


def write_or_check(
    path: Path, make: Callable[[str], str], description: str, arguments: list[str] | None
) -> int:
    """Write a generated page, or with ``--check`` say whether it would change.

    Parameters
    ----------
    path
        The page.
    make
        From the text that is there, "" if none is, makes the one that has to be.
    description
        First line of the tool's help.
    arguments
        Of the command line.

    Returns
    -------
    int
        1 if the page is out of date and was to be checked, else 0.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    options = parser.parse_args(arguments)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    after = make(before)
    if not options.check:
        path.write_text(after, encoding="utf-8")
    elif after != before:
        print(f"{path.name} is out of date: run `make readme`.", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Write README.md, or check it; return the exit code."""
    manifest = load_manifest(ROOT / "paper" / "figures.yaml")
    summary = __doc__.splitlines()[0]
    return write_or_check(ROOT / "README.md", lambda t: fill(t, manifest), summary, arguments)


if __name__ == "__main__":
    sys.exit(main())
