"""What notebook 14 concludes from: remedies for the derivative through training, at full size.

Sizes are those that the notebook names, and what is missing is computed. Each remedy is kept as
soon as it is there, so a second call goes on where the first one stopped.

    python -m benchmarks.remedies     about ten minutes of one core, into paper/remedies
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tda_utils.experiments.remedies import REMEDIES, Size, remedies_of
from tda_utils.reproduce.notebook import notebook_parameters

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "14_the_answer_of_one_run.py"


def sizes() -> list[Size]:
    """Return the sizes that the notebook names."""
    kept = notebook_parameters(NOTEBOOK)["kept"].default
    return [Size(per_class, members=m, attributed=a) for per_class, m, a in kept]


def main(arguments: list[str] | None = None) -> int:
    """Compute what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "paper" / "remedies")
    folder = parser.parse_args(arguments).folder
    for name in REMEDIES:
        for size in sizes():
            remedies_of(size, (name,), folder, workers=1)
            print(f"MNIST3, {size.per_class}: {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
