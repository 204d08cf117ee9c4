"""Scores of a few members and methods, and every figure that is drawn of them."""

from collections.abc import Callable
from functools import cache
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from tda_utils import outputs, plots
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.overall import mean_p_by_checkpoints, overall_reliability
from tda_utils.reliability.pairs import clearest_pairs, least_certain_pairs
from tda_utils.reliability.significance import summarise
from tda_utils.reliability.variance import variance_shares

METHODS = ("grad_cos", "loo", "mine", "ats")


def scores_of(seed: int = 0, **attributes: object) -> xr.DataArray:
    """Scores in which few pairs stand out: 6 members, 3 checkpoints, 9 train x 12 test samples."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(1, 1, 9, 12)) * (rng.random((1, 1, 9, 12)) < 0.4)
    return xr.DataArray(
        signal + 0.3 * rng.normal(size=(6, 1, 9, 12)) + 0.1 * rng.normal(size=(6, 3, 9, 12)),
        {
            "member": np.arange(6) + 446,
            # Original indices come in no order.
            "train": np.roll(np.arange(9) * 5 + 100, 4),
            "test": np.roll(np.arange(12) * 2 + 7, 5),
            "train_label": ("train", np.arange(9) % 3),
            "test_label": ("test", np.arange(12) % 3),
        },
        ("member", "checkpoint", "train", "test"),
        attrs={"method": "loo", "sign": "removal", **attributes},
    )


SCORES = scores_of()

SUMMARY = summarise(SCORES)

PAIRS = {"Smallest p": clearest_pairs(SUMMARY), "Largest p": least_certain_pairs(SUMMARY)}

BY_METHOD = {name: scores_of(seed) for seed, name in enumerate(METHODS)}

SUMMARIES = {name: summarise(scores) for name, scores in BY_METHOD.items()}

PICTURES = np.random.default_rng(1).random((12, 1, 8, 8)).astype(np.float32)

AGREEMENTS = {
    (of, kind): agreement(SUMMARIES, of, kind, permutations=20)
    for of in ("p", "mean")
    for kind in ("spearman", "pearson")
}

CROSSED = variance_shares(
    xr.DataArray(
        np.random.default_rng(2).normal(size=(3, 3, 2, 4, 5)),
        dims=("initialisation", "order", "checkpoint", "train", "test"),
    ),
    resamples=20,
)

OVERALL = {name: overall_reliability(scores) for name, scores in BY_METHOD.items()}

STUDIES = {
    "MNIST3": {"10": OVERALL, "20": OVERALL, "50": {"loo": OVERALL["loo"]}},
    "CIFAR-10": {"10": {"ats": overall_reliability(BY_METHOD["ats"].isel(member=slice(3)))}},
}

BY_STUDY = pd.DataFrame(
    {"MNIST3, 10": [0.9, -0.25], "CIFAR-10, 10": [np.nan, 0.1]}, ["LOO, ATS", "LOO, IF"]
)

SIZES = {"null": 1e-7, "loo": 1e-3, "seed": 1.0}
CHANGES = xr.Dataset(
    {
        name: (("member", "checkpoint", "test"), size * SCORES.values[:, :, 0])
        for name, size in SIZES.items()
    },
    {"step": ("checkpoint", [16, 32, 48])},
)
RATIOS = pd.DataFrame(
    {"steps": [15, 480], "value": [0, 0.4], "low": [0, 0.02], "high": [1e-6, 0.5]},
    ["MNIST3, 10", "CIFAR-10, 50"],
)


GROUP_ENDS = {"value": 0.0, "low": -0.1, "high": 0.1}
GROUP_CURVES = xr.Dataset(
    {
        name: (("by", "size"), shift + np.array([[0.1, 0.8], [0.0, 0.2]]))
        for name, shift in GROUP_ENDS.items()
    },
    {"by": ["loo", "random"], "size": [1, 8]},
)
GROUP_SCORES = xr.Dataset(
    {name: ("seeds", shift + np.array([0.8, 0.2, 0.7])) for name, shift in GROUP_ENDS.items()},
    {"seeds": ["same", "other", "mean"]},
)


def a_model(seed: int) -> xr.DataArray:
    """Scores of one member for one test sample."""
    return SCORES.sel(member=seed, test=9).mean("checkpoint", keep_attrs=True)


def curves_of(numbers: int) -> dict[str, xr.Dataset]:
    """Curves of a held-out summary, of so many numbers of members."""
    kinds, members = ["pearson", "spearman"], [1, 2, 5, 10, 20, 50][:numbers]
    middle = np.linspace(0.2, 0.9, 2 * numbers).reshape(2, numbers)
    values = np.stack([middle, middle - 0.1, middle + 0.05], -1)
    coordinates = {"kind": kinds, "members": members, "statistic": ["mean", "low", "high"]}
    dims = tuple(coordinates)
    estimator = dict.fromkeys(("same", "other", "own"), (dims, values / 2))
    return {
        "loo": xr.Dataset({"own": (dims, values)}, coordinates),
        "grad_dot": xr.Dataset(estimator, coordinates),
    }


REMEDIES = xr.Dataset(
    {
        "pearson": (("remedy", "member", "epoch"), [[[0.9, 0.5], [0.8, 0.1]]]),
        "means": (("remedy", "epoch"), [[0.95, 0.6]]),
        "holds": (("member", "epoch"), [[0.9, 0.4], [0.7, 0.0]]),
    },
    {"remedy": ["none"], "label": ("remedy", ["UR"]), "steps": ("epoch", [5, 10])},
)
PATH = xr.Dataset({"loss": ("weight", [0.5, 0.3, 0.2]), "slope": -0.2}, {"weight": [0.0, 0.5, 1.0]})


FIGURES: dict[str, Callable] = {
    "concept": lambda: plots.concept(SCORES, PAIRS, PICTURES[:9], PICTURES),
    "concept without pictures": lambda: plots.concept(SCORES, {"One": (100, 7)}),
    "tau_histograms": lambda: plots.tau_histograms(BY_METHOD, PAIRS),
    "face_to_face": lambda: plots.face_to_face(SUMMARY, PICTURES[:9], PICTURES, n=4),
    "images": lambda: plots.images(PICTURES, [f"digit {i}" for i in range(12)]),
    "mean_against_std": lambda: plots.mean_against_std(SUMMARY),
    "reliability_map": lambda: plots.reliability_map(SUMMARY),
    "rank_change": lambda: plots.rank_change(a_model(446), a_model(447), 3),
    "p_by_checkpoints": lambda: plots.p_by_checkpoints(
        {name: mean_p_by_checkpoints(scores) for name, scores in BY_METHOD.items()}
    ),
    "significant_fractions": lambda: plots.significant_fractions(SUMMARIES),
    "agreement_matrices": lambda: plots.agreement_matrices(AGREEMENTS),
    "variance_shares": lambda: plots.noise_sources({"loo": CROSSED, "grad_dot": CROSSED}),
    "agreement_by_study": lambda: plots.agreement_by_study(BY_STUDY),
    "agreement_by_study of two": lambda: plots.agreement_by_study({"std": BY_STUDY, "p": BY_STUDY}),
    "agreement_by_members": lambda: plots.agreement_by_members({"MNIST3 10": curves_of(4)}),
    "reliability_by": lambda: plots.reliability_by(STUDIES, "training-set size"),
    "reliability_by_checkpoints": lambda: plots.reliability_by_checkpoints(
        {"MNIST3": {1: OVERALL, 2: OVERALL}}
    ),
    "floor_by_steps": lambda: plots.floor_by_steps(
        {"float32": CHANGES, "float64": 1e-6 * CHANGES}, RATIOS
    ),
    "remedies_by_steps": lambda: plots.remedies_by_steps({"MNIST3, 10": REMEDIES}),
    "weight_paths": lambda: plots.weight_paths({"15 steps": PATH}),
    "groups_by_size": lambda: plots.groups_by_size(GROUP_CURVES, {"loo": GROUP_SCORES}, 0.5),
    "full_set": lambda: plots.full_set(SUMMARIES, AGREEMENTS["mean", "spearman"]),
    "choose_two to explore": lambda: plots.choose_two(SUMMARIES, points=80),
    "explore_pairs": lambda: plots.explore_pairs(SUMMARY, PICTURES[:9], PICTURES, points=50),
    "explore_pairs of methods": lambda: plots.explore_pairs(SUMMARIES, points=80),
}


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


def whole(figure: Figure) -> str:
    """Return the alternative text of a figure of which nothing is cut off or overlaps."""
    width, height = figure.bbox.size
    placed = [t for part in (figure, *figure.subfigs) for t in (*part.texts, part._suptitle) if t]
    titles = []
    for axes in figure.axes:
        titles += [axes.title, axes._left_title]
        placed += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    titles = [title for title in titles if title.get_text()]
    for text in (*placed, *titles):
        box = text.get_window_extent()
        if text.get_text():
            assert box.x0 > -1, text
            assert box.y0 > -1, text
            assert box.x1 < width + 1, text
            assert box.y1 < height + 1, text
    boxes = [title.get_window_extent() for title in titles]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), titles[i]
    said = outputs.alt_text(figure)
    assert said.endswith(".") and any(letter.isdigit() for letter in said)
    return said


def written(figure: object) -> tuple[bytes, bytes]:
    """The PDF and the PNG of a figure."""
    with TemporaryDirectory() as folder:
        pdf, png = outputs.save(figure, folder, "figure")
        return pdf.read_bytes(), png.read_bytes()


@cache
def written_once(name: str) -> tuple[bytes, bytes]:
    """What one of the figures was when it was drawn for the first time."""
    return written(FIGURES[name]())
