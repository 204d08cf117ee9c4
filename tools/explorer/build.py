"""Build the explorer: one page of scores of MNIST3, which needs no network and no server.

    python -m tools.explorer.build site/explorer.html --report site/report.html

Scores that are finished are read from the store, the others computed; notebook 05 shares them. With
the default size and nothing stored that takes a few minutes on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tda_utils as tda
from tda_utils.edge import Parser
from tda_utils.reliability.significance import TEST_OF
from tools import ROOT
from tools.explorer.page import page, page_data


def main(arguments: list[str]) -> int:
    """Write the page."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the file to write, such as site/explorer.html")
    parser.add_argument("--members", type=int, default=10, help="posterior members (seeds)")
    parser.add_argument("--checkpoints", type=int, default=3, help="checkpoints of each member")
    parser.add_argument("--test-per-class", type=int, default=10, help="test digits of each class")
    parser.add_argument("--report", type=Path, help="where to write a report on the same scores")
    parser.add_argument("--store", type=Path, default=ROOT / "paper" / "runs" / "store")
    chosen = parser.parse_args(arguments)
    try:
        experiments = {
            protocol: tda.Experiment(
                members=chosen.members,
                checkpoints=chosen.checkpoints,
                test_per_class=chosen.test_per_class,
                protocol=protocol,
                store=chosen.store,
            )
            for protocol in TEST_OF
        }
        scores = {name: experiment.all_scores() for name, experiment in experiments.items()}
        data = page_data(scores, experiments["paired"].data)
    except ValueError as error:
        print(f"explorer: {error}", file=sys.stderr)
        return 2
    if chosen.report is not None:
        task = experiments["paired"].data
        made = tda.report(scores["paired"], task, title="Scores of the course: what repeats?")
        made.save(chosen.report, tables=False)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(page(data), encoding="utf-8")
    print(f"explorer: {chosen.output}, {chosen.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
