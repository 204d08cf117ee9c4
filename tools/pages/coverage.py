"""Write docs/coverage.md: whether tests and intervals keep what they promise, by simulation.

python -m tools.pages.coverage           write docs/coverage.md
python -m tools.pages.coverage --check   exit with 1 if it would change
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.coverage import ALPHA, LEVEL, NOISES, RESULTS
from tools import ROOT
from tools.pages.filling import filled, write_or_check

COVERAGE = ROOT / "docs" / "coverage.md"
#: What an interval of 95 % may cover and still be called right.
LEAST, MOST = 0.93, 0.97
Row = dict[str, Any]
OPENING = """\
# Do tests and intervals keep their promises?

A test at the level of {alpha} calls {alpha} of what is noise significant. An interval of {level}
holds the truth in {level} of all experiments. Both can be tried where the truth is known. Here
experiments are simulated, and the package is asked about each. `make coverage` does so again, in
about twenty minutes of one core; the same numbers come out.

All numbers are percentages. "Independent" noise moves each pair by itself. "Correlated" noise moves
all pairs together: {factors} factors, drawn anew for each member, make up {together} of its
variance. "Effect" is how far the true scores of pairs spread, by the standard deviation
of one member's noise. What intervals have to hold is what other ensembles of as many members say on
average.

An interval that is not given cannot be wrong. In brackets stands in how many experiments it is
given. Where that is rare, the few that are given are those where luck was large, and they miss more
often; of all experiments few are misled even so. **Bold**: covers less than {least}. *Italic*:
covers more than {most}, so the interval is wider than it need be.
"""


@dataclass(frozen=True)
class Part:
    """A table: the kind of its rows, its heading, what it says, names of columns, and its cells."""

    kind: str
    heading: str
    text: str
    names: dict[str, str]
    cell: Callable[[Row], str]
    intervals: bool = False


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent, without the sign.

    Examples
    --------
    >>> percent(0.0512)
    '5.1'
    """
    return f"{100 * share:.{digits}f}"


def against_promise(row: Row) -> str:
    """Return what was found, its simulation error, and what was promised."""
    found, error = percent(row["found"], 2), percent(row["error"], 2)
    return f"{found} ± {error} ({percent(row['promised'], 2)})"


def of_discoveries(row: Row) -> str:
    """Return the mean share of false discoveries and what nearly all experiments stay below."""
    found, error = percent(row["found"]), percent(row["error"])
    return f"{found} ± {error}; {percent(row['quantile'], 0)}"


def of_interval(row: Row) -> str:
    """Return how often an interval covers, and how often it is given if not always."""
    if row["covered"] is None:
        return "not given"
    said = f"{percent(row['covered'])} ± {percent(row['error'])}"
    if row["covered"] < LEAST:
        said = f"**{said}**"
    elif row["covered"] > MOST:
        said = f"*{said}*"
    return said if row["given"] == 1 else f"{said} ({_whole(row['given'])})"


def _whole(share: float) -> str:
    return "< 1" if share < 0.01 else percent(share, 0)


def of_rounding(row: Row) -> str:
    """Return how often an interval covers, and what it says of itself."""
    return f"{percent(row['covered'])} ± {percent(row['error'])} ({percent(row['promised'])})"


BY_KIND = {"pearson": "Pearson", "spearman": "Spearman"}
PARTS = (
    Part(
        "level",
        "Tests of noise",
        "Share of pairs of pure noise with p of at most {alpha}; in brackets what `null_reference` "
        "says. Heavy tails are those of a t distribution with two degrees of freedom. The t-test "
        "then calls too few pairs significant, never too many. The sign-flip test has no p so "
        "small with fewer than six members. The released formula is no test at the level {alpha}: "
        "it asks another question.",
        {"t": "t", "released": "released", "sign_flip": "sign flip"},
        against_promise,
    ),
    Part(
        "discoveries",
        "False discoveries",
        "Share of false ones among the pairs that `significant` names at {alpha}, on average; "
        'after the semicolon what 95 % of experiments stay at or below. "True" is the share of '
        "pairs that have an effect, of two standard deviations. The average keeps the promise also "
        "where noise is correlated, but single experiments stray further from it. With no true "
        "pair every discovery is false: the share is 0 or 100. The local false sign rate promises "
        "something of signs, not of effects that are none: where nothing is true and noise moves "
        "all pairs together, it names something too often.",
        {
            "bh": "Benjamini-Hochberg",
            "by": "Benjamini-Yekutieli",
            "max_t": "max-t",
            "lfsr": "local false sign rate",
        },
        of_discoveries,
    ),
    Part(
        "agreement",
        "Agreement by chance",
        "How often two methods that share nothing have an `agreement` outside the range of its "
        "null; in brackets the promise. Tables have 10 training and 12 test samples.",
        BY_KIND,
        against_promise,
    ),
    Part(
        "overall",
        "Overall reliability",
        "Intervals of `overall_reliability`, for 1000 pairs. Where fewer than five pairs lie on "
        "one side of a threshold there is none.",
        {
            name: f"`{name}`"
            for name in ("mean_p", "significant", "found", "sign_uncertain", "one_model")
        },
        of_interval,
        intervals=True,
    ),
    Part(
        "stability",
        "Stability",
        "Intervals of `stability`, for 200 pairs.",
        BY_KIND,
        of_interval,
        intervals=True,
    ),
    Part(
        "correlation",
        "Correlation of means",
        "Intervals of `correlation_of_means`, for two methods whose true scores have a correlation "
        "of about 0.7; 200 pairs.",
        BY_KIND,
        of_interval,
        intervals=True,
    ),
    Part(
        "ceiling",
        "Correlation with leave-one-out without its noise",
        "Intervals of `ceiling`; what they have to hold is the correlation with the true scores. "
        "There is none where the stability of leave-one-out is not clearly above 0.",
        BY_KIND,
        of_interval,
        intervals=True,
    ),
    Part(
        "shares",
        "Shares of the sources of noise",
        "Bootstrap intervals of `variance_shares`, for as many initialisations as orders "
        '("levels"), three checkpoints and 200 pairs. The five sources have the same variance, or '
        "that of initialisation is six times as large as each other.",
        {name: name for name in ("initialisation", "order", "interaction", "epoch", "checkpoint")},
        of_interval,
        intervals=True,
    ),
    Part(
        "rounding",
        "The floor beside leave-one-out",
        "Intervals of `null_ratio`, from the order of members; in brackets the probability that "
        "they name themselves, which with fewer than six members is less than {level}.",
        {"value": "`null_ratio`"},
        of_rounding,
    ),
    Part(
        "datamodelling",
        "The linear datamodelling score",
        "Intervals of `datamodelling_score`, for 30 subsets of 12 training samples and 5 test "
        'samples: over members, where other seeds are drawn, and over subsets. "Noise" is one '
        "seed's, by the spread of true scores.",
        {"same": "same seed", "other": "other seeds", "mean": "means"},
        of_interval,
        intervals=True,
    ),
    Part(
        "shift",
        "Distributions over seeds",
        "Intervals of `distribution_shift`, for a shift of half a standard deviation and a ratio "
        "of variances of 2. Paired losses share half of their variance. Heavy tails are those of a "
        "t distribution with five degrees of freedom; skewed losses are exponential. Those of the "
        "ratio then cover too rarely: read the test beside it.",
        {"mean_shift": "mean shift", "variance_ratio": "ratio of variances"},
        of_interval,
        intervals=True,
    ),
    Part(
        "null",
        "Samples that change nothing",
        "Share of samples without any effect that the tests of `distribution_shift` call "
        "significant at {alpha}, by 199 rearrangements, or by all 32 of six pairs; in brackets the "
        "promise. Of few swaps many give the same distance, so that fewer are called; a spread of "
        "skewed losses of unpaired seeds is called somewhat too often.",
        {"mean": "mean", "variance": "spread", "wasserstein": "Wasserstein"},
        against_promise,
    ),
)


def setting_of(row: Row) -> dict[str, Any]:
    """Return what was simulated, without what was found."""
    keys = list(row)
    return {key: row[key] for key in keys[: keys.index("simulations")]}


def table(part: Part, rows: list[Row]) -> str:
    """Return the table of a kind, a row a setting."""
    by_setting: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        by_setting.setdefault(tuple(setting_of(row).values()), {})[row["of"]] = row
    heads = [*setting_of(rows[0]), *part.names.values()]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    for setting, found in by_setting.items():
        values = [
            percent(v, 0) if k == "true" else str(v)
            for k, v in zip(setting_of(rows[0]), setting, strict=True)
        ]
        cells = [part.cell(found[name]) for name in part.names]
        lines.append(f"| {' | '.join([*values, *cells])} |")
    return "\n".join(lines)


def misled(row: Row) -> float:
    """Return the share of all experiments that are given an interval which misses the truth."""
    return 0.0 if row["covered"] is None else row["given"] * (1 - row["covered"])


def verdict(rows: list[Row]) -> str:
    """Say how many cells cover too rarely, and too often, and how many experiments are misled."""
    given = [row for row in rows if row["covered"] is not None]
    less = [row for row in given if row["covered"] < LEAST]
    more = sum(row["covered"] > MOST for row in given)
    said = (
        f"Of {len(given)} cells with intervals {len(less) or 'none'} cover{'s' * (len(less) == 1)} "
        f"less than {percent(LEAST, 0)} % and {more or 'none'} more than {percent(MOST, 0)} %."
    )
    if less:
        often = max(row["given"] for row in less)
        said += (
            f" Those that cover less are given in at most {percent(often, 0)} % of experiments."
            if often < 0.5
            else f" The least is {percent(min(row['covered'] for row in less))} %."
        )
    return f"{said} At most {percent(max(map(misled, rows)))} % of experiments are misled."


def page(kinds: dict[str, list[Row]]) -> str:
    """Return the whole page."""
    factors, own = NOISES["correlated"]
    words = {
        "factors": str(factors),
        "together": f"{percent(1 - own, 0)} %",
        "alpha": f"{percent(ALPHA, 0)} %",
        "level": f"{percent(LEVEL, 0)} %",
        "least": f"{percent(LEAST, 0)} %",
        "most": f"{percent(MOST, 0)} %",
    }
    heading, *paragraphs = OPENING.format(**words).split("\n\n")
    parts = [heading, *map(filled, paragraphs)]
    for part in PARTS:
        rows = kinds[part.kind]
        parts += [f"## {part.heading}", filled(part.text.format(**words))]
        parts.append(f"{rows[0]['simulations']:,} experiments for each row.")
        parts.append(table(part, rows))
        if part.intervals:
            parts.append(filled(verdict(rows)))
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write docs/coverage.md, or check it; return the exit code."""

    def make(_: str) -> str:
        return page(json.loads(RESULTS.read_text(encoding="utf-8"))["kinds"])

    return write_or_check(COVERAGE, make, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
