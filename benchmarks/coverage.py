"""Whether tests and intervals keep what they promise, where the truth is known: by simulation.

Each case draws experiments from a world whose truth is known or simulated, asks the package, and
counts. Random numbers follow from the name of a case, so that the same numbers come out again.

    python -m benchmarks.coverage             into benchmarks/results/coverage.json
    python -m benchmarks.coverage --size 0.1  a tenth of the simulations

Cases that are done lie in a file beside it until all are, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from tda_utils import reliability
from tda_utils.reliability.checks import CORRECTIONS, OF_SCORES
from tda_utils.reliability.overall import MEASURES, measures_of, overall_reliability
from tda_utils.reliability.significance import null_reference
from tda_utils.reliability.stability import unit
from tda_utils.reliability.variance import SOURCES

RESULTS = Path(__file__).resolve().parent / "results" / "coverage.json"
ALPHA, LEVEL = 0.05, 0.95
DIMS = ("member", "train", "test")
#: Normal noise of pairs: how many factors move all of them, and the share of variance left.
NOISES = {"independent": (0, 1.0), "correlated": (4, 0.1)}
TESTS = ("t", "released", "sign_flip")
KINDS = ("pearson", "spearman")
Rows = list[dict[str, object]]


@dataclass(frozen=True)
class Case:
    """What is simulated: a kind, its setting, and the function that gives a row a number."""

    kind: str
    setting: dict[str, object]
    count: Callable[[np.random.Generator, int], Rows]
    simulations: int

    @property
    def name(self) -> str:
        """Kind and setting in one line; the seed hangs on it."""
        return " ".join([self.kind, *(f"{key}={value}" for key, value in self.setting.items())])

    def rows(self, size: float = 1.0) -> Rows:
        """Simulate, with that part of the simulations."""
        generator = np.random.default_rng(zlib.crc32(self.name.encode()))
        simulations = max(round(size * self.simulations), 4)
        found = self.count(generator, simulations)
        return [{**self.setting, "simulations": simulations, **row} for row in found]


@dataclass(frozen=True)
class World:
    """Pairs with a true score each, and noise of members that may move them together."""

    true: np.ndarray
    loadings: np.ndarray
    own: float

    @classmethod
    def of(cls, generator: np.random.Generator, true: np.ndarray, noise: str) -> World:
        """Draw how the pairs hang together."""
        factors, own = NOISES[noise]
        loadings = generator.normal(size=(factors, true.size))
        return cls(true, loadings * math.sqrt((1 - own) / max(factors, 1)), math.sqrt(own))

    @property
    def size(self) -> float:
        """Root of the mean variance of the noise over pairs, which is one but for the factors."""
        return math.sqrt(self.own**2 + float((self.loadings**2).sum(0).mean()))

    def draw(self, generator: np.random.Generator, members: int) -> np.ndarray:
        """Return scores of an ensemble, (members, pairs)."""
        together = generator.normal(size=(members, len(self.loadings))) @ self.loadings
        return self.true + together + self.own * generator.normal(size=(members, self.true.size))


def labelled(flat: np.ndarray) -> xr.DataArray:
    """Return scores (members, pairs) as labelled ones, with ten test samples."""
    return xr.DataArray(flat.reshape(len(flat), -1, 10), dims=DIMS)


def covered(truth: float, ends: list[tuple[float, float]]) -> dict[str, float | None]:
    """Count how many intervals hold the truth, of those that are given; None if none is."""
    low, high = np.array(ends, float).T
    given = np.isfinite(low) & np.isfinite(high)
    hits = (low <= truth) & (truth <= high)
    if not given.any():
        return {"truth": truth, "given": 0.0, "covered": None, "error": None}
    found = float(hits[given].mean())
    error = _binomial_error(found, int(given.sum()))
    return {"truth": truth, "given": float(given.mean()), "covered": found, "error": error}


def _binomial_error(share: float, count: int) -> float:
    return math.sqrt(share * (1 - share) / count)


def _ends(found: xr.Dataset) -> tuple[float, float]:
    return found["low"].item(), found["high"].item()


# ---------------- tests


def levels(generator: np.random.Generator, simulations: int, members: int, tails: str) -> Rows:
    """Count how many pairs of pure noise have a p-value up to 0.05."""
    shape = (members, simulations, 10)
    noise = generator.normal(size=shape) if tails == "normal" else generator.standard_t(2, shape)
    rows = []
    for test in TESTS:
        share = float((reliability.p_values(xr.DataArray(noise, dims=DIMS), test) <= ALPHA).mean())
        promised = null_reference(members, test, ALPHA).fraction_significant
        error = _binomial_error(share, 10 * simulations)
        rows.append({"of": test, "promised": promised, "found": share, "error": error})
    return rows


def discoveries(
    generator: np.random.Generator, simulations: int, members: int, noise: str, true: float
) -> Rows:
    """Measure the share of false ones among the pairs that are called significant."""
    pairs = 1000
    real = np.arange(pairs) < round(true * pairs)
    world = World.of(generator, np.where(real, 2.0, 0.0), noise)
    shares: dict[str, list[float]] = {correction: [] for correction in CORRECTIONS}
    for _ in range(simulations):
        scores = labelled(world.draw(generator, members))
        p = reliability.p_values(scores)
        for correction, found in shares.items():
            evidence = scores if correction in OF_SCORES else p
            chosen = reliability.significant(evidence, ALPHA, correction).values.ravel()
            found.append((chosen & ~real).sum() / max(chosen.sum(), 1))
    return [
        {
            "of": correction,
            "promised": ALPHA,
            "found": float(np.mean(found)),
            "error": float(np.std(found) / math.sqrt(simulations)),
            "quantile": float(np.quantile(found, 0.95)),
        }
        for correction, found in shares.items()
    ]


def unrelated(
    generator: np.random.Generator, simulations: int, permutations: int, effects: str
) -> Rows:
    """Count how often two methods that share nothing agree more, or less, than the null allows."""

    def method() -> xr.DataArray:
        table = generator.normal(size=(10, 12))
        if effects == "rows and columns":
            table = table + generator.normal(size=(10, 1)) + generator.normal(size=(1, 12))
        return xr.DataArray(table + 0.1 * generator.normal(size=(3, 10, 12)), dims=DIMS)

    outside = np.zeros(len(KINDS))
    for seed in range(simulations):
        methods = {
            name: reliability.summarise(method()).drop_attrs().assign_attrs(test="t")
            for name in ("one", "other")
        }
        for at, kind in enumerate(KINDS):
            found = reliability.agreement(
                methods, kind=kind, permutations=permutations, seed=seed
            ).isel(method_a=0, method_b=1)
            low, value, high = (
                float(found[name]) for name in ("null_low", "correlation", "null_high")
            )
            outside[at] += not low <= value <= high
    return [
        {
            "of": kind,
            "promised": 1 - LEVEL,
            "found": share,
            "error": _binomial_error(share, simulations),
        }
        for kind, share in zip(KINDS, (outside / simulations).tolist(), strict=True)
    ]


# ---------------- intervals


def overall(
    generator: np.random.Generator, simulations: int, members: int, noise: str, effect: float
) -> Rows:
    """Count how often the intervals of `overall_reliability` hold what ensembles say on average."""
    world = World.of(generator, effect * generator.normal(size=1000), noise)
    truth = np.mean(
        [
            measures_of(world.draw(generator, members), "t", ALPHA)
            for _ in range(max(2 * simulations, 200))
        ],
        axis=0,
    )
    found = [
        overall_reliability(labelled(world.draw(generator, members))) for _ in range(simulations)
    ]
    return [
        {"of": measure, **covered(float(truth[at]), [_ends(one.isel(measure=at)) for one in found])}
        for at, measure in enumerate(MEASURES)
    ]


def stable(
    generator: np.random.Generator, simulations: int, members: int, noise: str, effect: float
) -> Rows:
    """Count how often `stability`'s intervals hold the mean correlation of two ensembles."""
    world = World.of(generator, effect * generator.normal(size=200), noise)
    rows = []
    for kind in KINDS:

        def mean(kind: str = kind) -> np.ndarray:
            return unit(world.draw(generator, members).mean(0), kind)

        truth = np.mean([mean() @ mean() for _ in range(max(4 * simulations, 400))])
        found = [
            _ends(reliability.stability(labelled(world.draw(generator, members)), kind))
            for _ in range(simulations)
        ]
        rows.append({"of": kind, **covered(float(truth), found)})
    return rows


def _two_methods(generator: np.random.Generator, noise: str, effect: float) -> tuple[World, World]:
    """Return worlds of two methods whose true scores have a correlation of about 0.7."""
    shared, rest = generator.normal(size=(2, 200))
    return (
        World.of(generator, effect * shared, noise),
        World.of(generator, effect * (0.7 * shared + math.sqrt(0.51) * rest), noise),
    )


def correlated(
    generator: np.random.Generator, simulations: int, members: int, noise: str, effect: float
) -> Rows:
    """Count how often intervals hold the correlation of two methods' means, on average."""
    worlds = _two_methods(generator, noise, effect)
    rows = []
    for kind in KINDS:

        def draws() -> Iterator[np.ndarray]:
            return (world.draw(generator, members) for world in worlds)

        def once(kind: str = kind) -> float:
            one, other = (unit(draw.mean(0), kind) for draw in draws())
            return float(one @ other)

        truth = np.mean([once() for _ in range(max(4 * simulations, 400))])
        found = [
            _ends(reliability.correlation_of_means(*map(labelled, draws()), kind))
            for _ in range(simulations)
        ]
        rows.append({"of": kind, **covered(float(truth), found)})
    return rows


def under_the_ceiling(
    generator: np.random.Generator, simulations: int, members: int, noise: str, effect: float
) -> Rows:
    """Count how often `ceiling`'s intervals hold the correlation with what is true, on average."""
    method, loo = _two_methods(generator, noise, effect)
    rows = []
    for kind in KINDS:
        true = unit(loo.true, kind)
        truth = np.mean(
            [
                unit(method.draw(generator, members).mean(0), kind) @ true
                for _ in range(max(4 * simulations, 400))
            ]
        )
        found = [
            _ends(
                reliability.ceiling(
                    *(labelled(one.draw(generator, members)) for one in (method, loo)), kind
                )
            )
            for _ in range(simulations)
        ]
        rows.append({"of": kind, **covered(float(truth), found)})
    return rows


#: Variances of the sources, in the order of `SOURCES`.
MIXES = {"all alike": (2, 2, 2, 2, 2), "initialisation most": (6, 1, 1, 1, 1)}


def crossed(generator: np.random.Generator, levels: int, mix: str, noise: str) -> xr.DataArray:
    """Draw scores of initialisations crossed with orders, three checkpoints each."""
    first, second, both, epoch, within = np.sqrt(MIXES[mix])
    world = World.of(generator, np.zeros(200), noise)

    def draw(*shape: int) -> np.ndarray:
        return world.draw(generator, math.prod(shape)).reshape(*shape, 200)

    values = (
        first * draw(levels, 1, 1)
        + second * draw(1, levels, 1)
        + both * draw(levels, levels, 1)
        + epoch * world.size * np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 3, 1)
        + within * draw(levels, levels, 3)
    )
    return xr.DataArray(
        values.reshape(levels, levels, 3, 20, 10),
        dims=("initialisation", "order", "checkpoint", "train", "test"),
    )


def shares(
    generator: np.random.Generator, simulations: int, levels: int, mix: str, noise: str
) -> Rows:
    """Count how often the intervals of `variance_shares` hold the shares that were drawn from."""
    found = [
        reliability.variance_shares(
            crossed(generator, levels, mix, noise), resamples=200, seed=seed
        )
        for seed in range(simulations)
    ]
    return [
        {
            "of": source,
            **covered(
                MIXES[mix][at] / sum(MIXES[mix]), [_ends(one.isel(source=at)) for one in found]
            ),
        }
        for at, source in enumerate(SOURCES)
    ]


def rounding(generator: np.random.Generator, simulations: int, members: int) -> Rows:
    """Count how often `null_ratio`'s interval holds the median over all members there could be."""

    def ratio(members: int) -> xr.Dataset:
        sizes = np.exp(generator.normal(size=(members, 1, 1)))
        tau = xr.DataArray(sizes * generator.normal(size=(members, 6, 10)), dims=DIMS)
        floor = 0.1 * generator.normal(size=(members, 3, 1, 10))
        dims = ("member", "draw", "checkpoint", "test")
        return reliability.null_ratio(tau, xr.DataArray(floor, dims=dims))

    truth = ratio(20_000)["value"].item()
    found = [ratio(members) for _ in range(simulations)]
    row = covered(truth, [_ends(one) for one in found])
    return [{"of": "value", "promised": found[0].confidence, **row}]


# ---------------- groups and distributions


def datamodelling(
    generator: np.random.Generator, simulations: int, over: str, members: int, noise: float
) -> Rows:
    """Count how often `datamodelling_score`'s intervals hold what it says on average.

    Over members other seeds are drawn each time, for the same subsets; over subsets other subsets,
    for the same seeds.
    """
    train, tests, count = 12, 5, 30
    true = generator.normal(size=(train, tests))
    halves = generator.integers(0, 2, size=(count, train))
    seeds = generator.normal(size=(2, members, train, tests))

    def once() -> xr.Dataset:
        anew = over == "members"
        own = generator.normal(size=seeds.shape) if anew else seeds
        left = halves if anew else generator.integers(0, 2, size=halves.shape)
        scores, real = (xr.DataArray(true + noise * one, dims=DIMS) for one in own)
        weights = xr.DataArray(left, dims=("subset", "train"))
        losses = reliability.group_scores(real, weights)
        return reliability.datamodelling_score(scores, losses, weights)

    truth = np.mean([once()["value"].values for _ in range(2 * simulations)], axis=0)
    found = [once() for _ in range(simulations)]
    names = ("low", "high") if over == "members" else ("low_subsets", "high_subsets")
    return [
        {
            "of": row,
            **covered(
                float(truth[at]),
                [(one[names[0]].values[at], one[names[1]].values[at]) for one in found],
            ),
        }
        for at, row in enumerate(found[0]["seeds"].values.tolist())
    ]


#: Losses of one seed, with mean 0 and variance 1.
TAILS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "heavy": lambda generator, shape: generator.standard_t(5, shape) / math.sqrt(5 / 3),
    "skewed": lambda generator, shape: generator.exponential(size=shape) - 1,
}


def _two_sides(
    generator: np.random.Generator, simulations: int, members: int, tails: str, seeds: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw losses with and without a sample, alike; paired ones share half of their variance."""
    draw, shape = TAILS[tails], (members, simulations)
    if seeds == "unpaired":
        return draw(generator, shape), draw(generator, shape)
    shared = draw(generator, shape)
    first, second = ((shared + draw(generator, shape)) / math.sqrt(2) for _ in range(2))
    return first, second


def _shift(first: np.ndarray, second: np.ndarray, seeds: str, permutations: int) -> xr.Dataset:
    """Ask `distribution_shift`, a test sample an experiment."""
    whole = xr.DataArray(first, dims=("member", "test"))
    without = xr.DataArray(second[:, None], dims=DIMS)
    paired = seeds == "paired"
    return reliability.distribution_shift(whole, without, paired=paired, permutations=permutations)


def shifts(
    generator: np.random.Generator, simulations: int, members: int, seeds: str, tails: str
) -> Rows:
    """Count how often `distribution_shift` holds a shift of one half and a ratio of two."""
    first, second = _two_sides(generator, simulations, members, tails, seeds)
    found = _shift(first, 0.5 + math.sqrt(2) * second, seeds, 1)
    rows = []
    for of, name, truth in (("mean_shift", "mean", 0.5), ("variance_ratio", "variance", 2.0)):
        ends = [found[f"{name}_{end}"].values.ravel() for end in ("low", "high")]
        rows.append({"of": of, **covered(truth, list(zip(*ends, strict=True)))})
    return rows


def rearranged(
    generator: np.random.Generator, simulations: int, members: int, seeds: str, tails: str
) -> Rows:
    """Count how many samples that change nothing have a p-value up to 0.05."""
    found = _shift(*_two_sides(generator, simulations, members, tails, seeds), seeds, 199)
    rows = []
    for name in ("mean", "variance", "wasserstein"):
        share = float((found[f"{name}_p"] <= ALPHA).mean())
        error = _binomial_error(share, simulations)
        rows.append({"of": name, "promised": ALPHA, "found": share, "error": error})
    return rows


# ---------------- all of them


def cases() -> list[Case]:
    """Return all that is simulated."""
    found = []

    def add(kind: str, count: Callable[..., Rows], simulations: int, **setting: object) -> None:
        found.append(Case(kind, setting, partial(count, **setting), simulations))

    for members in (3, 5, 10):
        for tails in ("normal", "heavy"):
            add("level", levels, 10_000, members=members, tails=tails)
    for noise in NOISES:
        for members in (5, 10):
            for true in (0.0, 0.2):
                add("discoveries", discoveries, 1000, members=members, noise=noise, true=true)
    for permutations in (100, 200):
        for effects in ("none", "rows and columns"):
            add("agreement", unrelated, 800, permutations=permutations, effects=effects)
    for noise in NOISES:
        for members in (5, 10):
            for effect in (0.02, 0.3, 1.0, 3.0, 10.0):
                add("overall", overall, 300, members=members, noise=noise, effect=effect)
            for effect in (0.3, 1.0, 3.0):
                for kind, count in (
                    ("stability", stable),
                    ("correlation", correlated),
                    ("ceiling", under_the_ceiling),
                ):
                    add(kind, count, 300, members=members, noise=noise, effect=effect)
        for mix in MIXES:
            for count in (5, 10):
                add("shares", shares, 200, levels=count, mix=mix, noise=noise)
    for members in (4, 6, 10):
        add("rounding", rounding, 1000, members=members)
    for over in ("members", "subsets"):
        for spread in (1.0, 3.0):
            add("datamodelling", datamodelling, 300, over=over, members=5, noise=spread)
    for members in (6, 10, 20):
        for seeds in ("paired", "unpaired"):
            for tails in TAILS:
                add("shift", shifts, 4000, members=members, seeds=seeds, tails=tails)
                add("null", rearranged, 4000, members=members, seeds=seeds, tails=tails)
    return found


def simulate(size: float, part: Path) -> dict[str, Rows]:
    """Return the rows of all cases by their kind; what lies in the file is not done again."""
    done = {}
    if part.is_file():
        done = json.loads(part.read_text(encoding="utf-8"))
        done = done["rows"] if done.get("size") == size else {}
    kinds: dict[str, Rows] = {}
    for case in cases():
        if case.name not in done:
            done[case.name] = case.rows(size)
            print(case.name, flush=True)
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"size": size, "rows": done}), encoding="utf-8")
        kinds.setdefault(case.kind, []).extend(done[case.name])
    return kinds


def main(arguments: list[str] | None = None) -> int:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=float, default=1.0, help="part of the simulations")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    part = options.results.with_suffix(".part")
    kinds = simulate(options.size, part)
    text = json.dumps({"size": options.size, "kinds": kinds}, indent=1) + "\n"
    options.results.write_text(text, encoding="utf-8")
    part.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
