"""Fill the generated parts of README.md from the manifest and the committed results.

No number in them is typed: all come from paper/: figures.yaml, tables, numbers and heldout.

    python -m tools.pages.readme           write README.md
    python -m tools.pages.readme --check   exit with 1 if it would change
"""

from __future__ import annotations

import sys

import pandas as pd

from tda_utils.reproduce.manifest import Manifest, load_manifest
from tda_utils.reproduce.shown import alt_in_markdown, as_markdown
from tda_utils.terms import METHOD_LABELS, PROTOCOLS
from tda_utils.texts import read_json
from tools import ROOT
from tools.pages import heldout
from tools.pages.filling import fill, parameter, repository, write_or_check


def results(manifest: Manifest) -> str:
    """Return the table of mean p-values and significant fractions, both protocols side by side."""
    tables, sizes = {}, {}
    for protocol in PROTOCOLS:
        stem = f"significant_fraction-{protocol}"
        tables[protocol] = pd.read_csv(manifest.folder / "tables" / f"{stem}.csv")
        tables[protocol] = tables[protocol].set_index("method")
        sizes[protocol] = read_json(manifest.folder / "numbers" / f"{stem}.json")
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
        lines.append(f"| {METHOD_LABELS[method]} | {' | '.join(cells)} |")
    nulls = []
    for protocol in sizes:
        numbers = read_json(manifest.folder / "numbers" / f"mean_p-{protocol}.json")
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
        parts += [f"### {figure.name}", "", as_markdown(manifest.caption(figure, "full")), ""]
        for protocol in figure.protocols or (None,):
            under = f" Protocol: {protocol}." if protocol else ""
            alt = alt_in_markdown(f"{figure.alt}{under}")
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


def benchmarks(manifest: Manifest) -> str:
    """Return the measured ratios beside their targets, with the machine and the versions."""
    folder = manifest.folder.parent / "benchmarks" / "results"
    record = read_json(folder / "bench.json")
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
    record = read_json(folder / "cost.json")
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


def badge(_: Manifest) -> str:
    """Return the badge of the workflow that runs the tests, which leads to its last runs."""
    page = f"{repository()}/actions/workflows/test.yml"
    return f"[![tests]({page}/badge.svg)]({page})"


PARTS = {
    "badge": badge,
    "verdicts": heldout.short,
    "results": results,
    "gallery": gallery,
    "benchmarks": benchmarks,
    "cost": cost,
    "sources": sources,
}


def main(arguments: list[str] | None = None) -> int:
    """Write README.md, or check it; return the exit code."""
    manifest = load_manifest(ROOT / "paper" / "figures.yaml")

    def make(text: str) -> str:
        return fill(text, manifest, PARTS, "README.md")

    return write_or_check(ROOT / "README.md", make, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
