"""Hold the pinned packages against the public lists of known vulnerabilities, with pip-audit.

    python -m tools.audit     0: nothing known; 1: something is; 2: the lists could not be reached

Which of the three it was is printed with the date, since the answer is only that day's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

from tools import ROOT

LOCKS = (*sorted(ROOT.glob("requirements/*.lock")), ROOT / "benchmarks/requirements-peers.lock")
COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off")


def verdict(packages: list[dict], date: str) -> tuple[int, list[str]]:
    """Return the exit code and what to print about what pip-audit found.

    Examples
    --------
    >>> verdict([{"name": "numpy", "version": "2.4.6", "vulns": []}], "2026-11-24")
    (0, ['2026-11-24: 1 pinned packages, no known vulnerability'])
    >>> verdict([{"name": "numpy", "skip_reason": "not found"}], "2026-11-24")[0]
    2
    """
    bad = [one for one in packages if one.get("vulns")]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if len(skipped) == len(packages):
        return 2, [f"{date}: the lists of vulnerabilities could not be reached; nothing is known"]
    lines = [
        f"{one['name']} {one['version']}: {', '.join(entry['id'] for entry in one['vulns'])}"
        for one in bad
    ]
    told = f"{len(bad)} with known vulnerabilities" if bad else "no known vulnerability"
    lines.append(f"{date}: {len(packages) - len(skipped)} pinned packages, {told}")
    if skipped:
        lines.append(f"not on the lists: {', '.join(skipped)}")
    return (1 if bad else 0), lines


def main() -> int:
    """Audit every lock."""
    files = [part for lock in LOCKS for part in ("--requirement", str(lock))]
    done = subprocess.run(
        [sys.executable, *COMMAND, "--format", "json", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        packages = []  # It gave up, which it does without a network.
    code, lines = verdict(packages, datetime.now(UTC).date().isoformat())
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
