"""Rubbish in, one clear sentence out; and what is computed is right, whatever the shape."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from scipy import stats
from torch import nn

import tda_utils as tda
from tda_utils import plots, reliability
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError

FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)


def attempt(count, function, *arguments, **options):
    """Call; return the result, or None if it was refused in one clear sentence."""
    count["bad inputs tried"] += 1
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError) as problem:
        said = str(problem)
        assert said.endswith(".") and len(said.split()) >= 4, f"not a sentence: {said!r}"
        assert "\n" not in said, f"more than a sentence: {said!r}"
        return None


def agree(count, found, wanted, **tolerance):
    """Compare with a reference; a difference is a wrong answer."""
    same = np.allclose(found, wanted, equal_nan=True, **tolerance)
    count["wrong answers"] += not same
    assert same, f"{found} instead of {wanted}"


# ---------------- statistics


NUMBERS = st.one_of(
    st.floats(-1e3, 1e3, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf]),
)
SETS_OF_DIMS = [
    ("member", "checkpoint", "train", "test"),
    ("member", "train", "test"),
    ("initialisation", "order", "checkpoint", "train", "test"),
    ("member", "train"),
    ("train", "test"),
    (),
    ("member", "train", "test", "colour"),
]


@st.composite
def score_arrays(draw):
    """Scores of any dims, order of dims, size, kind of number and layout in memory."""
    dims = draw(st.permutations(draw(st.sampled_from(SETS_OF_DIMS))))
    shape = tuple(draw(st.integers(0, 4)) for _ in dims)
    kind = draw(st.sampled_from([np.float64, np.float32, np.int32, bool, complex, object, "U3"]))
    plain = hnp.arrays(np.float64, shape, elements=NUMBERS)
    with np.errstate(all="ignore"):
        values = draw(plain)
        if kind in (np.int32, bool):
            values = np.nan_to_num(values, posinf=9, neginf=-9).clip(-9, 9)
        values = values.astype(kind)
    if draw(st.booleans()):
        values = np.repeat(values, 2, axis=-1)[..., ::2] if values.ndim else values
    attributes = draw(
        st.sampled_from([{}, {"method": "loo", "sign": "removal"}, {"sign": "up"}, {"sign": None}])
    )
    return xr.DataArray(values, dims=dims, attrs=attributes)


ALPHAS = st.one_of(st.floats(allow_nan=True), st.none(), st.just("0.05"), st.just(0.05))
TESTS = st.sampled_from(["t", "released", "welch", None, 3])


def reference_summary(scores):
    """Mean, standard deviation and p of each pair by plain loops and scipy."""
    scores = scores.astype(float)
    if "checkpoint" in scores.dims:
        scores = scores.mean("checkpoint", skipna=False)
    scores = scores.transpose("member", "train", "test").values
    rows = {}
    for at in np.ndindex(scores.shape[1:]):
        values = [float(v) for v in scores[(slice(None), *at)]]
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
        rows[at] = mean, std, values
    return rows


@FUZZ
@given(scores=score_arrays(), test=TESTS)
def test_summaries(scores, test, count):
    summary = attempt(count, tda.summarise, scores, test=test)
    if summary is None:
        return
    assert (summary["p"].isnull() | ((summary["p"] >= 0) & (summary["p"] <= 1))).all()
    if test != "t" or bool((abs(scores.astype(float)) > 1e9).any()):
        return
    for at, (mean, std, values) in reference_summary(scores).items():
        row, column = at
        pair = summary.transpose("train", "test").isel(train=row, test=column)
        if any(math.isnan(value) for value in values):
            assert all(math.isnan(float(pair[name])) for name in ("mean", "std", "snr", "p"))
            continue
        size = max(map(abs, values))
        agree(count, float(pair["mean"]), mean, rtol=1e-9, atol=1e-12 * size)
        agree(count, float(pair["std"]), std, rtol=1e-6, atol=1e-9 * size)
        if std > 1e-6 * size:
            agree(count, float(pair["p"]), stats.ttest_1samp(values, 0).pvalue, rtol=1e-6)


@FUZZ
@given(scores=score_arrays(), test=TESTS, alpha=ALPHAS)
@pytest.mark.parametrize(
    "function",
    [
        tda.p_values,
        tda.mean_p_by_checkpoints,
        tda.reliability.overall.overall_reliability,
        tda.variance_components,
        tda.variance_shares,
        tda.removal_signed,
        tda.remove_drift,
        tda.drift_share,
    ],
    ids=lambda function: function.__name__,
)
def test_functions_of_scores(function, scores, test, alpha, count):
    known = {
        tda.p_values: {"test": test},
        tda.mean_p_by_checkpoints: {"test": test},
        tda.reliability.overall.overall_reliability: {"test": test, "alpha": alpha},
    }
    attempt(count, function, scores, **known.get(function, {}))


@FUZZ
@given(p=score_arrays(), alpha=ALPHAS, correction=st.sampled_from(["bh", None, "bonferroni", 1]))
def test_significance(p, alpha, correction, count):
    found = attempt(count, tda.significant, p, alpha, correction)
    if found is not None and correction is None:
        agree(count, found.values, p.values.astype(float) < alpha)


@FUZZ
@given(data=st.data())
def test_agreement(data, count):
    names = data.draw(st.lists(st.sampled_from(["loo", "ats", "other", ""]), max_size=3))
    scores = {name: data.draw(score_arrays()) for name in names}
    of = data.draw(st.sampled_from(["mean", "p", "std", "snr", "median"]))
    kind = data.draw(st.sampled_from(["pearson", "spearman", "kendall"]))
    permutations = data.draw(st.sampled_from([1, 5, 0, -1, 2.5]))
    result = attempt(count, tda.agreement, scores, of=of, kind=kind, permutations=permutations)
    if result is not None:
        values = result["correlation"].values
        assert np.nanmax(np.abs(values), initial=0) <= 1 + 1e-9


@FUZZ
@given(scores=score_arrays(), n=st.sampled_from([1, 2, 99, 0, -1, 1.5, None]))
def test_pairs_and_pictures_of_a_summary(scores, n, count):
    assume(set(scores.dims) >= {"member", "train", "test"})
    summary = attempt(count, tda.summarise, scores)
    if summary is None:
        return
    for function in (tda.clearest_pairs, tda.least_certain_pairs):
        pairs = attempt(count, function, summary, n)
        assert pairs is None or pairs.sizes["pair"] <= summary["p"].size
    for draw in (plots.mean_against_std, plots.reliability_map):
        figure = attempt(count, draw, summary)
        assert figure is None or isinstance(figure, Figure)


@FUZZ
@given(members=st.one_of(st.integers(-2, 12), st.floats(), st.none()), test=TESTS, alpha=ALPHAS)
def test_references(members, test, alpha, count):
    attempt(count, tda.null_reference, members, test, alpha)
    attempt(count, reliability.snr_threshold, members, alpha, test)


# ---------------- samples, models and attributions


@st.composite
def tasks(draw):
    """Tasks of one sample, one class, equal samples, strange shapes, kinds and values."""
    train, test = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    shape = draw(st.sampled_from([(1, 2, 2), (1, 2, 2), (3, 2, 1), (4,), (1, 0, 2)]))
    kind = draw(st.sampled_from([torch.float32] * 4 + [torch.float64, torch.int64]))
    label = draw(st.sampled_from([torch.int64] * 4 + [torch.int32, torch.float32]))
    classes = draw(st.sampled_from([3, 3, 1, 0, 2.0]))
    value = draw(st.sampled_from([1.0, 1.0, 0.0, 1e30, math.nan, math.inf]))
    repeat = draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def split(n, first):
        images = torch.randn(n, *shape, generator=generator)
        if n and value != 1.0:
            images[0] = value
        if repeat and n > 1:
            images[1] = images[0]
        if draw(st.booleans()):
            images = images.transpose(-1, -2).contiguous().transpose(-1, -2)
        labels = torch.randint(draw(st.integers(1, 4)), (n,), generator=generator)
        return images.to(kind), labels.to(label), torch.arange(first, first + n)

    return {
        "name": "fuzz",
        **dict(zip(("train_x", "train_y", "train_index"), split(train, 0), strict=True)),
        **dict(zip(("test_x", "test_y", "test_index"), split(test, 10), strict=True)),
        "classes": classes,
    }


def linear(inputs, logits=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, logits))


def reference_dots(model, task):
    """Inner products of loss gradients, a sample at a time, in float64."""
    model = model.double()

    def gradient(image, label):
        loss = nn.functional.cross_entropy(model(image[None].double()), label[None])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])

    train = torch.stack([gradient(*one) for one in zip(task.train_x, task.train_y, strict=True)])
    test = torch.stack([gradient(*one) for one in zip(task.test_x, task.test_y, strict=True)])
    return train @ test.T


@FUZZ
@given(values=tasks(), logits=st.sampled_from([3, 3, 1, 10]), members=st.integers(1, 2))
def test_attributions_of_any_task(values, logits, members, count):
    task = attempt(count, lambda: tda.Task(**values))
    if task is None:
        return
    model = linear(task.train_x[0].numel(), logits)
    states = [[model.state_dict()] for _ in range(members)]
    posterior = tda.Posterior.from_state_dicts(model, states)
    for method in ("grad_dot", "grad_cos", "influence", "ats"):
        scores = attempt(count, tda.attribute, posterior, task, method)
        if scores is None:
            continue
        assert scores.sizes == {
            "member": members, "checkpoint": 1, "train": task.n_train, "test": task.n_test
        }  # fmt: skip
        if method == "grad_dot" and bool((abs(task.train_x) < 1e3).all()):
            wanted = reference_dots(posterior.module(0, 0), task)
            agree(count, scores[0, 0].values, wanted.detach(), rtol=1e-3, atol=1e-5)
        if method == "grad_cos":
            assert not bool((abs(scores) > 1 + 1e-5).any())


@FUZZ
@given(
    method=st.sampled_from([*tda.METHODS, "shapley", None, 3]),
    protocol=st.sampled_from(["paired", "released", "both", None]),
    device=st.sampled_from(["cpu", "cuda", "tpu", "cpu:x", None, 3]),
    workers=st.sampled_from([1, 0, -1, None]),
    damping=st.sampled_from([None, 1e-3, 0.0, -1.0, math.nan, "large"]),
)
def test_options_of_attributions(method, protocol, device, workers, damping, count):
    task = tda.load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 9])
    recipe = tda.Recipe(epochs=1, keep_last=1)
    posterior = _trained(task, recipe)
    options = {"protocol": protocol, "device": device, "workers": workers}
    if damping is not None:
        options["damping"] = damping
    attempt(count, tda.attribute, posterior, task, method, **options)


_POSTERIORS = {}


def _trained(task, recipe):
    if not _POSTERIORS:
        _POSTERIORS[0] = tda.sample_posterior(lambda: linear(784), task, recipe, seeds=[446])
    return _POSTERIORS[0]


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["mnist3", "cifar10", "mnist", "cnn2", "vit", "tiny", "released", "cpu"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.builds(object),
)


@FUZZ
@given(changes=st.dictionaries(
    st.sampled_from([f.name for f in dataclasses.fields(tda.Experiment) if f.name != "store"]),
    JUNK, max_size=3,
))  # fmt: skip
def test_experiments(changes, count, tmp_path):
    experiment = attempt(count, lambda: tda.Experiment(**changes, store=tmp_path))
    if experiment is not None:
        attempt(count, lambda: [experiment.file("loo", run) for run in experiment.runs])
    assert not list(tmp_path.iterdir())


@FUZZ
@given(changes=st.dictionaries(
    st.sampled_from([f.name for f in dataclasses.fields(tda.Recipe)]), JUNK, max_size=3
))  # fmt: skip
def test_recipes(changes, count):
    attempt(count, lambda: tda.Recipe(**changes))


@FUZZ
@given(
    name=JUNK,
    options=st.dictionaries(
        st.sampled_from(["per_class", "test_per_class", "lists", "pairs", "source"]), JUNK
    ),
)
def test_names_of_tasks(name, options, count):
    attempt(count, lambda: tda.load_task(name, **options))


@FUZZ
@given(name=JUNK, channels=JUNK, options=st.fixed_dictionaries({}, optional={"backbone": JUNK}))
def test_names_of_models(name, channels, options, count):
    built = attempt(count, lambda: tda.model_builder(name, channels, **options))
    assert built is None or callable(built)


@FUZZ
@given(
    states=st.lists(
        st.lists(
            st.dictionaries(
                st.sampled_from(["1.weight", "1.bias", "0.weight"]),
                st.sampled_from(
                    [
                        torch.zeros(3, 4),
                        torch.zeros(3),
                        torch.full((3, 4), math.nan),
                        torch.zeros(3, 4, dtype=torch.int64),
                        torch.zeros(4, 3),
                        None,
                        "weights",
                    ]
                ),
            ),
            max_size=2,
        ),
        max_size=2,
    ),
    seeds=st.sampled_from([None, [446], [446, 724], ["a"], 446]),
)
def test_state_dicts(states, seeds, count):
    attempt(count, tda.Posterior.from_state_dicts, linear(4), states, seeds)


@FUZZ
@given(
    options=st.dictionaries(
        st.sampled_from(["seeds", "init_seeds", "order_seeds", "workers", "device"]), JUNK
    )
)
def test_training(options, count):
    task = tda.load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 9])
    recipe = tda.Recipe(epochs=1, keep_last=1)
    posterior = attempt(
        count, lambda: tda.sample_posterior(lambda: linear(784), task, recipe, **options)
    )
    assert posterior is None or posterior.members >= 1


@FUZZ
@given(positions=JUNK, seed=JUNK)
def test_choices_of_samples(positions, seed, count):
    task = tda.load_task("mnist3", per_class=10, test_per_class=1)
    attempt(count, task.select, train=positions)
    attempt(count, task.select, test=positions)
    attempt(count, task.attribute_only, positions)
    attempt(count, task.attribute_only, 3, seed=seed)


# ---------------- pictures and files


PICTURES = [
    plots.agreement_by_members,
    plots.agreement_by_study,
    plots.agreement_matrices,
    plots.concept,
    plots.explore_pairs,
    plots.full_set,
    plots.images,
    plots.mean_against_std,
    plots.p_by_checkpoints,
    plots.rank_change,
    plots.reliability_by,
    plots.reliability_by_checkpoints,
    plots.reliability_map,
    plots.significant_fractions,
    plots.tau_histograms,
    plots.noise_sources,
    tda.outputs.show,
    tda.outputs.alt_text,
]


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_pictures_of_rubbish(draw, data, count):
    anything = st.one_of(JUNK, score_arrays(), st.dictionaries(st.text(max_size=3), JUNK))
    needed = [
        parameter.name
        for parameter in inspect.signature(draw).parameters.values()
        if parameter.default is parameter.empty
    ]
    attempt(count, draw, **{name: data.draw(anything) for name in needed})


@FUZZ
@given(
    pictures=hnp.arrays(
        st.sampled_from([np.float32, np.uint8, bool]),
        hnp.array_shapes(min_dims=0, max_dims=5, max_side=3),
    ),
    columns=st.sampled_from([1, 3, 0, -1, None, 2.5]),
)
def test_pictures(pictures, columns, count):
    figure = attempt(count, plots.images, pictures, columns=columns)
    assert figure is None or isinstance(figure, Figure)


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@FUZZ
@given(numbers=st.dictionaries(st.text(max_size=5), PLAIN, max_size=3), name=st.text(max_size=12))
def test_numbers_are_written_into_the_folder_or_not_at_all(numbers, name, count, tmp_path):
    folder = tmp_path / "results"
    path = attempt(count, tda.outputs.save_numbers, numbers, folder, name)
    assert path is None or path.parent == folder
    assert {one.name for one in tmp_path.iterdir()} <= {"results"}


@FUZZ
@given(document=st.one_of(PLAIN, st.text(max_size=60), st.binary(max_size=60)))
def test_manifests(document, count, tmp_path):
    path = tmp_path / "figures.yaml"
    import yaml

    if isinstance(document, bytes):
        path.write_bytes(document)
    else:
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        path.write_text(text, encoding="utf-8", errors="ignore")
    count["bad inputs tried"] += 1
    with pytest.raises(ManifestError) as refused:
        load_manifest(path)
    assert str(path) in str(refused.value) or "figures" in str(refused.value)
