"""Inputs that are not what they seem, at every public door: the right answer, or one sentence.

What is right is worked out in numpy's longdouble, whose range and precision are wider than what is
attacked, with a loop over pairs.
"""

import decimal
import fractions
import math
import random
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import stats

import tda_utils as tda
from tda_utils import outputs, plots
from tda_utils.labels import as_scores, member_coordinates
from tda_utils.reliability.overall import overall_reliability
from tests.faults.attacks import MUST_BE_REFUSED, Attacks

SIZES = [(4, 3, 3, 5), (2, 1, 1, 1), (7, 2, 4, 3)]
DIMS = ("member", "checkpoint", "train", "test")
WIDE = np.longdouble


def quietly(function):
    """Call without the warnings of numpy and of the package, which are none of these attacks."""

    def call(*arguments, **options):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*arguments, **options)

    return call


class Odd:
    """Nothing that anyone would hand over, and it cannot even be shown."""

    def __repr__(self):
        raise RuntimeError("no\nwords")


# ---------------- arrays


def sparse_tensor(x):
    return torch.tensor(x).to_sparse()


def masked(x):
    hidden = np.zeros(x.shape, bool)
    hidden.flat[0] = True
    return np.ma.masked_array(x, hidden)


def as_matrix(x):
    if x.ndim != 2:
        raise ValueError("no matrix")
    return np.matrix(x)


#: Name -> (how rows of numbers are handed over, whether a task can be made of that).
ARRAYS = {
    "float64": (lambda x: x, True),
    "list": (lambda x: x.tolist(), True),
    "tuple of arrays": (tuple, True),
    "big-endian": (lambda x: x.astype(x.dtype.newbyteorder(">")), True),
    "reversed": (lambda x: x[::-1][..., ::-1].copy()[::-1][..., ::-1], True),
    "fortran": (np.asfortranarray, True),
    "read-only": (lambda x: np.lib.stride_tricks.as_strided(x, writeable=False), True),
    "matrix": (as_matrix, True),
    "nothing masked": (np.ma.masked_array, True),
    "list of nothing masked": (lambda x: list(np.ma.masked_array(x)), True),
    "tensor": (torch.tensor, True),
    "dataarray": (xr.DataArray, True),
    "memoryview": (lambda x: memoryview(np.ascontiguousarray(x)), True),
    "masked": (masked, False),
    "list of masked": (lambda x: list(masked(x[:, None])), False),
    "fill value": (lambda x: np.ma.masked_array(x, x == x), False),
    "sparse": (sparse_tensor, False),
    "meta": (lambda x: torch.tensor(x).to("meta"), False),
    "nested": (lambda x: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), False),
    "complex": (lambda x: x + 1j, False),
    "conjugate": (lambda x: torch.tensor(x + 1j).conj(), False),
    "object": (lambda x: x.astype(object), False),
    "with None": (lambda x: np.where(x == x.flat[0], None, x), False),
    "digits": (lambda x: x.astype(str), False),
    "bytes": (lambda x: x.astype("S"), False),
    "dates": (lambda x: x.astype("M8[s]"), False),
    "durations": (lambda x: x.astype("m8[s]"), False),
    "records": (lambda x: np.zeros(len(x), [("a", float)]), False),
    "ragged": (lambda x: [[1], [1, 2]], False),
    "generator": (iter, False),
    "dataset": (lambda x: xr.Dataset({"a": ("n", np.ravel(x))}), False),
    "dict": (lambda x: {0: x}, False),
    "set": (lambda x: {1, 2}, False),
    "text": (lambda x: "0123", False),
    "none": (lambda x: None, False),
    "nothing to show": (lambda x: Odd(), False),
    "scalar": (lambda x: x.flat[0], False),
    "empty": (lambda x: x[:0], False),
    "too few": (lambda x: x[:-1], False),
    "one dim more": (lambda x: [[row] for row in x.tolist()], None),
}
#: Of inputs and of labels alone.
OF_INPUTS = {
    "float16": (lambda x: x.astype("f2"), True),
    "longdouble": (lambda x: x.astype(WIDE), True),
    "integers": (lambda x: np.round(x).astype(int), True),
    "unsigned": (lambda x: np.abs(np.round(x)).astype("u1"), True),
    "truth values": (lambda x: x > 0, True),
    "bfloat16": (lambda x: torch.tensor(np.round(x)).bfloat16(), True),
    "graph": (lambda x: torch.tensor(x).requires_grad_() * 1, True),
    "frame": (lambda x: pd.DataFrame(x.reshape(len(x), -1)), None),
    "NaN": (lambda x: np.where(x == x.flat[0], np.nan, x), False),
    "infinite": (lambda x: np.where(x == x.flat[0], np.inf, x), False),
    "too large": (lambda x: x * 1e300, False),
    "far too large": (lambda x: x.astype(WIDE) * WIDE(10) ** 400, False),
}
OF_LABELS = {
    "series": (pd.Series, True),
    "nullable": (lambda y: pd.Series(y, dtype="Int64"), True),
    "unsigned": (lambda y: y.astype("u8"), True),
    "range": (lambda y: range(len(y)), None),
    "floats": (lambda y: y.astype(float), False),
    "float tensor": (lambda y: torch.tensor(y).float(), False),
    "NaN": (lambda y: np.where(y == 0, np.nan, y), False),
    "truth values": (lambda y: y > 0, False),
    "nullable with none": (lambda y: pd.Series([None, *y[1:]], dtype="Int64"), False),
    "negative": (lambda y: y - 1, False),
    "wrapped": (lambda y: np.full(len(y), 2**64 - 1, "u8"), False),
    "huge": (lambda y: [10**30] * len(y), False),
    "one-hot": (lambda y: np.eye(3, dtype=int)[y], False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("argument", ["train_x", "test_x", "train_y", "test_y"])
def test_arrays_of_a_task(argument, count):
    attacks = Attacks(count, "inputs: tasks")
    is_label = argument.endswith("y")
    kinds = ARRAYS | (OF_LABELS if is_label else OF_INPUTS)
    for seed, shape in enumerate([(6, 4), (6, 1, 3, 2), (3, 2), (9, 5)]):
        rng = np.random.default_rng(seed)
        rows, labels = rng.normal(size=shape) * 9, np.arange(shape[0]) % 3
        plain = {"train_x": rows, "train_y": labels, "test_x": rows, "test_y": labels}
        for name, (make, usable) in kinds.items():
            try:
                given = make(plain[argument])
            except (TypeError, ValueError):  # not of this shape
                continue
            wanted = None
            if usable is not False:
                wanted = given.detach().float() if isinstance(given, torch.Tensor) else given
                wanted = np.asarray(wanted, np.int64 if is_label else np.float32)

            def right(task, wanted=wanted):
                found = getattr(task, argument).numpy()
                return np.array_equal(found, wanted) and task.fingerprint()

            attacks.run(
                f"{name} {shape}",
                partial(tda.Task.from_arrays, **{**plain, argument: given}),
                oracle=MUST_BE_REFUSED if wanted is None else right,
                refusable=usable is not True,
                names=[argument if name != "too few" else argument[:-1]],
            )


TENSORS = {
    "as it is": lambda x: x,
    "not contiguous": lambda x: x[None].expand(2, *x.shape)[1],
    "sparse": lambda x: x.to_sparse(),
    "meta": lambda x: x.to("meta"),
    "complex": lambda x: x + 0j,
    "quantised": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "halves": lambda x: x / 2,
    "integers of 16 bits": lambda x: x.to(torch.int16),
    "truth values": lambda x: x > 0,
    "empty": lambda x: x[:0],
    "scalar": lambda x: x.flatten()[0],
    "twice": lambda x: torch.cat([x, x]),
    "none": lambda x: None,
    "nothing to show": lambda x: Odd(),
    "masked": lambda x: torch.masked.masked_tensor(x.float(), x > 0),
    "NaN": lambda x: x * math.nan,
    "negative": lambda x: -1 - x,
    "zero": lambda x: x * 0,
}


@pytest.mark.filterwarnings("ignore")
def test_tensors_of_a_task(count):
    attacks = Attacks(count, "inputs: tasks")
    base = {
        "train_x": torch.arange(12.0).reshape(6, 2),
        "train_y": torch.arange(6) % 3,
        "train_index": torch.arange(6) * 10,
        "test_x": torch.arange(8.0).reshape(4, 2),
        "test_y": torch.arange(4) % 3,
        "test_index": torch.arange(4),
        "attributed": torch.tensor([1, 3]),
    }
    fits = {
        "x": {"as it is", "not contiguous", "halves", "negative", "zero"},
        "y": {"as it is", "not contiguous", "zero"},
        "index": {"as it is", "not contiguous", "negative"},
        "attributed": {"as it is", "not contiguous", "none"},
    }
    for argument, value in base.items():
        for name, make in TENSORS.items():
            given = make(value)
            fit = name in fits[argument.rpartition("_")[2]]

            def right(task, given=given, argument=argument):
                task.fingerprint()
                return given is None or torch.equal(getattr(task, argument), given)

            attacks.run(
                f"{argument} {name}",
                lambda argument=argument, given=given: tda.Task(
                    "own", **(base | {argument: given}), classes=3
                ),
                oracle=right if fit else MUST_BE_REFUSED,
                refusable=not fit,
                names=[argument.partition("_")[0]],
            )
    task = tda.Task("own", **base, classes=3)
    for name, make in TENSORS.items():
        given = make(torch.tensor([0, 2]))
        for method, wanted in (("attribute_only", 2), ("select", 2)):
            call = {
                "select": lambda given=given: tda.Task(
                    "own", **(base | {"attributed": None}), classes=3
                ).select(train=given),
                "attribute_only": lambda given=given: task.attribute_only(given),
            }[method]
            attacks.run(
                f"{method} {name}",
                call,
                oracle=lambda made, wanted=wanted: made.n_attributed in (wanted, 6),
                names=[] if method == "select" else ["position"] if given is not None else [],
            )


# ---------------- counts, numbers and names


class Whole(int):
    """An integer of a class of one's own."""


#: Name -> (value, the integer that it is, the number that it is); None where it is none.
VALUES = {
    "int": (2, 2, 2),
    "own int": (Whole(2), 2, 2),
    "int8": (np.int8(2), 2, 2),
    "uint8": (np.uint8(2), 2, 2),
    "uint64": (np.uint64(2), 2, 2),
    "ten": (np.int64(10), 10, 10),
    "float": (2.0, None, 2.0),
    "ten as float": (10.0, None, 10.0),
    "half": (2.5, None, 2.5),
    "float32": (np.float32(2), None, 2.0),
    "float16": (np.float16(0.5), None, 0.5),
    "fraction": (fractions.Fraction(5, 2), None, 2.5),
    "decimal": (decimal.Decimal(2), None, None),
    "true": (True, None, None),
    "false": (False, None, None),
    "numpy's true": (np.True_, None, None),
    "digits": ("2", None, None),
    "bytes": (b"2", None, None),
    "array": (np.array(2), None, None),
    "array of one": (np.array([2]), None, None),
    "matrix": (np.zeros((9, 9)), None, None),
    "tensor": (torch.tensor(2), None, None),
    "masked": (np.ma.masked, None, None),
    "masked array": (np.ma.masked_array([2]), None, None),
    "series": (pd.Series([2, 3]), None, None),
    "dataarray": (xr.DataArray(2), None, None),
    "complex number": (2 + 0j, None, None),
    "NaN": (math.nan, None, None),
    "infinite": (math.inf, None, None),
    "zero": (0, None, None),
    "negative": (-2, None, None),
    "tiny": (5e-324, None, 5e-324),
    "large": (2**63, 2**63, 2**63),
    "of 400 digits": (10**400, None, None),
    "of 5000 digits": (10**5000, None, None),
    "list": ([2], None, None),
    "dict": ({2: 2}, None, None),
    "function": (len, None, None),
    "type": (int, None, None),
    "nothing to show": (Odd(), None, None),
    "NaT": (pd.NaT, None, None),
    "NA": (pd.NA, None, None),
    "long text": ("x\ny" * 99, None, None),
}
RECIPE = {"epochs": 1, "batch_size": 1, "keep_last": 1, "crop": 1, "lr": 2, "weight_decay": 3}
EXPERIMENT = dict.fromkeys(("checkpoints", "epochs", "members", "orders", "attributed"), 1)
NAMES = ("task", "model", "protocol", "solver", "lists", "backbone", "device", "seeds", "root")


def check_fields(attacks, build, fields, made_of=lambda made: True):
    """Attack numbers of a dataclass: whole numbers (1), positive ones (2) and those with 0 (3)."""
    for field, kind in fields.items():
        for name, (value, whole, number) in VALUES.items():
            known = whole if kind == 1 else number
            if kind == 3 and name in ("zero",):
                known = 0

            def right(made, field=field, known=known):
                found = getattr(made, field)
                made_of(made)
                return found == known and type(found) is type(known)

            attacks.run(
                f"{build.func.__name__} {field} {name}",
                partial(build, **{field: value}),
                oracle=MUST_BE_REFUSED if known is None else right,
                names=[field],
            )


@pytest.mark.filterwarnings("ignore")
def test_numbers_of_recipes_and_experiments(count, tmp_path):
    attacks = Attacks(count, "inputs: settings")
    fields = {field: kind for field, kind in RECIPE.items() if field != "epochs"}
    check_fields(attacks, partial(tda.Recipe), fields)
    check_fields(attacks, partial(tda.Recipe, keep_last=1), {"epochs": 1})
    build = partial(tda.Experiment, store=tmp_path, checkpoints=1)
    fields = {field: kind for field, kind in EXPERIMENT.items() if field != "checkpoints"}
    check_fields(attacks, build, fields, made_of=lambda made: made.study_key)
    check_fields(
        attacks,
        partial(tda.Experiment, store=tmp_path),
        {"checkpoints": 1, "damping": 2, "test_per_class": 1},
        made_of=lambda made: made.study_key,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_names_and_lists_of_samples(count, tmp_path):
    attacks = Attacks(count, "inputs: settings")
    for field in NAMES:
        for name, (value, *_) in VALUES.items():
            fits = field == "seeds" and name == "list"
            attacks.run(
                f"experiment {field} {name}",
                partial(tda.Experiment, store=tmp_path, members=1, **{field: value}),
                oracle=(lambda made: made.seeds == (2,)) if fits else MUST_BE_REFUSED,
                refusable=not fits,
                names=[field],
            )
    for name, (value, whole, _) in VALUES.items():
        for field, options in (("per_class", {}), ("test_per_class", {"per_class": 10})):
            fits = whole == 10 or (whole == 2 and field == "test_per_class")
            attacks.run(
                f"load_task {field} {name}",
                partial(tda.load_task, "mnist3", **options, **{field: value}),
                oracle=(
                    lambda task, n=whole, f=field: (
                        task.n_train == 30 and task.n_test == (3 * n if f[0] == "t" else 900)
                    )
                )
                if fits
                else MUST_BE_REFUSED,
                refusable=not fits,
                names=[field],
            )
        for field in ("name", "lists", "pairs", "source"):
            options = {"name": "mnist3", "per_class": 10} | {field: value}
            attacks.run(f"load_task {field} {name}", partial(tda.load_task, **options))
        for field in ("classes", "name"):
            rows = np.eye(3)
            fits = whole == 10 if field == "classes" else isinstance(value, str)
            attacks.run(
                f"task {field} {name}",
                partial(tda.Task.from_arrays, rows, [0, 1, 1], rows, [0, 1, 1], **{field: value}),
                oracle=(lambda task, f=field, v=value: getattr(task, f) == v)
                if fits or whole
                else MUST_BE_REFUSED,
                names=[field],
            )
    assert not list(tmp_path.iterdir())


# ---------------- scores


def labelled(values, dims=DIMS, **coordinates):
    return xr.DataArray(values, coordinates, dims, attrs={"sign": "upweighting", "method": "loo"})


def changed(kind):
    return lambda v: labelled(v.astype(kind))


def named(**coordinates):
    """Scores whose labels are odd, as functions of the sizes."""
    return lambda v: labelled(v, **{name: make(v.shape) for name, make in coordinates.items()})


def objects(n):
    mixed = [446, "x", None, 2.5, (1, 2), b"y", True, frozenset()]
    found = np.empty(n, object)
    found[:] = mixed[:n]
    return found


def levels(dim, at):
    def make(v):
        pairs = [(i // 2, "ab"[i % 2]) for i in range(v.shape[at])]
        index = pd.MultiIndex.from_tuples(pairs, names=["i", "o"])
        return labelled(v).assign_coords(xr.Coordinates.from_pandas_multiindex(index, dim))

    return make


def with_hole(v):
    values = v.copy()
    values[-1, -1, -1, -1] = np.nan
    return values


#: Name -> how scores are handed over, and the numbers that these are (None: they are none).
SCORES = {
    "plain": (labelled, lambda v: v),
    "float32": (changed("f4"), lambda v: v.astype("f4")),
    "float16": (changed("f2"), lambda v: v.astype("f2")),
    "float16 near its end": (
        lambda v: labelled((v / np.abs(v).max() * 65000).astype("f2")),
        lambda v: (v / np.abs(v).max() * 65000).astype("f2"),
    ),
    "longdouble": (changed(WIDE), lambda v: v),
    "big-endian": (changed(">f8"), lambda v: v),
    "big-endian float32": (changed(">f4"), lambda v: v.astype("f4")),
    "int8": (
        lambda v: labelled(np.clip(v * 90, -128, 127).astype("i1")),
        lambda v: np.clip(v * 90, -128, 127).astype("i1"),
    ),
    "unsigned": (
        lambda v: labelled(np.abs(v * 90).astype("u1")),
        lambda v: np.abs(v * 90).astype("u1"),
    ),
    "unsigned 64": (
        lambda v: labelled(np.abs(v * 1e9).astype("u8") << np.uint64(20)),
        lambda v: np.abs(v * 1e9).astype("u8") << np.uint64(20),
    ),
    "reversed": (lambda v: labelled(v[::-1, ::-1].copy()[::-1, ::-1]), lambda v: v),
    "fortran": (lambda v: labelled(np.asfortranarray(v)), lambda v: v),
    "other order": (lambda v: labelled(v).transpose("test", "train", "checkpoint", "member"), None),
    "nothing masked": (lambda v: labelled(np.ma.masked_array(v)), lambda v: v),
    "masked": (
        lambda v: labelled(np.ma.masked_array(v, np.isnan(with_hole(v)))),
        with_hole,
    ),
    "hole": (lambda v: labelled(with_hole(v)), with_hole),
    "objects name members": (named(member=lambda s: objects(s[0])), lambda v: v),
    "objects name train": (named(train=lambda s: objects(s[2])), lambda v: v),
    "objects name test": (named(test=lambda s: objects(s[3])), lambda v: v),
    "texts name train": (named(train=lambda s: [f"t{i}" for i in range(s[2])]), lambda v: v),
    "dates name train": (
        named(train=lambda s: pd.date_range("2020", periods=s[2])),
        lambda v: v,
    ),
    "objects are labels": (
        named(train_label=lambda s: ("train", objects(s[2]))),
        lambda v: v,
    ),
    "scalar label": (named(train_label=lambda s: 3), lambda v: v),
    "label of pairs": (
        named(train_label=lambda s: (("train", "test"), np.zeros(s[2:]))),
        lambda v: v,
    ),
    "levels of members": (levels("member", 0), lambda v: v),
    "levels of train": (levels("train", 2), lambda v: v),
    "one train label": (named(train=lambda s: np.zeros(s[2])), lambda v: v),
    "one member label": (named(member=lambda s: np.zeros(s[0])), lambda v: v),
    "NaN are labels": (named(train=lambda s: np.full(s[2], np.nan)), lambda v: v),
    "odd attributes": (
        lambda v: labelled(v).assign_attrs(method=3, protocol=None, odd=np.arange(3)),
        lambda v: v,
    ),
    "tiny": (lambda v: labelled(v * 1e-300), lambda v: v * 1e-300),
    "small": (lambda v: labelled(v * 1e-170), lambda v: v * 1e-170),
    "large": (lambda v: labelled(v * 1e155), lambda v: v * 1e155),
    "huge": (lambda v: labelled(v * 1e300), lambda v: v * 1e300),
    "tiny float32": (
        lambda v: labelled((v * 1e-30).astype("f4")),
        lambda v: (v * 1e-30).astype("f4"),
    ),
    "huge float32": (
        lambda v: labelled((v * 1e37).astype("f4")),
        lambda v: (v * 1e37).astype("f4"),
    ),
    "huge and tiny pairs": (
        lambda v: labelled(v * 10.0 ** np.linspace(-300, 300, v.shape[3])),
        lambda v: v * 10.0 ** np.linspace(-300, 300, v.shape[3]),
    ),
    "object": (changed(object), None),
    "complex": (changed(complex), None),
    "digits": (changed(str), None),
    "truth values": (lambda v: labelled(v > 0), None),
    "dates": (changed("M8[s]"), None),
    "infinite": (lambda v: labelled(np.where(v == v.max(), np.inf, v)), None),
    "too large": (lambda v: labelled(v.astype(WIDE) * WIDE(10) ** 400), None),
    "array": (lambda v: v, None),
    "tensor": (torch.tensor, None),
    "variable": (lambda v: labelled(v).variable, None),
    "dataset": (lambda v: labelled(v).to_dataset(name="tau"), None),
    "frame": (lambda v: pd.DataFrame(v[0, 0]), None),
    "list": (lambda v: v.tolist(), None),
    "none": (lambda v: None, None),
    "nothing to show": (lambda v: Odd(), None),
    "no train": (lambda v: labelled(v).isel(train=[]), None),
    "no member": (lambda v: labelled(v).isel(member=[]), None),
    "numbers name dims": (lambda v: xr.DataArray(v, dims=(0, 1, 2, 3)), None),
    "another dim": (lambda v: labelled(v).expand_dims("colour"), None),
    "a pair": (lambda v: labelled(v)[0, 0, 0, 0], None),
}
# Nothing to say of members or checkpoints: these are scores of another kind, not odd ones.
ANY_DIMS = {"removal_signed", "remove_drift", "drift_share"}
OF_OTHER_DIMS = {"infinite", "no train", "no member", "numbers name dims", "another dim", "a pair"}


def wide_summary(values):
    """Mean, std, snr and p of each pair, in longdouble."""
    own = values.astype(WIDE).mean(1)
    mean = own.mean(0)
    std = np.sqrt(((own - mean) ** 2).sum(0) / (len(own) - 1))
    snr = (mean / std).astype(float)
    p = 2 * stats.t.sf(np.sqrt(len(own)) * np.abs(snr), len(own) - 1)
    return mean, std, snr, p


def close(found, wanted, tolerance=1e-6, size=None):
    """Compare numbers as they are, in longdouble, by the largest of all that are finite."""
    found, wanted = np.asarray(found, WIDE), np.asarray(wanted, WIDE)
    finite = np.isfinite(wanted)
    assert found.shape == wanted.shape
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    size = np.abs(wanted[finite]).max(initial=0) if size is None else size
    return bool((np.abs(found[finite] - wanted[finite]) <= tolerance * size).all())


def by_pair(found, wanted):
    """Compare each pair by its own size, which may be that of no other."""
    return all(close(found[..., j], wanted[..., j]) for j in range(wanted.shape[-1]))


def in_order(array, *dims):
    return array.transpose(*dims).values


def right_summary(found, values):
    mean, std, snr, p = wide_summary(values)
    pairs = ("train", "test")
    return (
        by_pair(in_order(found["mean"], *pairs), mean)
        and by_pair(in_order(found["std"], *pairs), std)
        and close(in_order(found["p"], *pairs), p)
        and by_pair(in_order(found["snr"], *pairs), snr)
    )


def right_curve(found, values):
    counts = range(1, values.shape[1] + 1)
    return close(found.values, [np.nanmean(wide_summary(values[:, -k:])[3]) for k in counts])


def right_overall(found, values):
    _, _, snr, p = wide_summary(values)
    known, size = p[np.isfinite(p)], np.abs(snr[np.isfinite(p)])
    if not known.size:
        return close(found["value"].values, [np.nan] * 5)
    ordered = np.sort(known)
    below = np.flatnonzero(ordered <= 0.05 * np.arange(1, known.size + 1) / known.size)
    wanted = {
        "mean_p": known.mean(),
        "significant": (known <= 0.05).mean(),
        "found": (below[-1] + 1 if below.size else 0) / known.size,
        "sign_uncertain": (size < 1).mean(),
        "one_model": (size > stats.norm.ppf(0.975)).mean(),
    }
    return close(found["value"].values, [wanted[name] for name in found["measure"].values])


def right_components(found, values):
    values = values.astype(WIDE)
    means = values.mean(1)
    within = values.var(1, ddof=1).mean(0)
    member = np.maximum(means.var(0, ddof=1) - within / values.shape[1], 0)
    with np.errstate(all="ignore"):
        share = np.where(member + within > 0, member / (member + within), np.nan)
        in_range = np.where(within > WIDE(np.finfo(float).max), np.inf, within).astype(float)
    assert np.array_equal(
        np.isinf(in_order(found["checkpoint"], "train", "test")), np.isinf(in_range)
    )
    return close(in_order(found["member_share"], "train", "test"), share, size=1)


def right_drift_share(found, values):
    values = values.astype(WIDE)
    complete = ~np.isnan(values).any((0, 1))
    if not complete.any():
        return math.isnan(found)
    drift = np.broadcast_to(values.mean(2, where=complete, keepdims=True), values.shape)
    return close(found, drift[..., complete].var() / values[..., complete].var())


def right_clearest(found, values):
    p = wide_summary(values)[3]
    return close(found["p"].values, [np.nanmin(p)])


def last_two(scores):
    known = isinstance(scores, xr.DataArray) and "member" in scores.dims
    return scores.isel(member=slice(-2, None)) if known else scores


def right_agreement(found, values):
    a, b = (wide_summary(one)[0].ravel() for one in (values, values[-2:]))
    if np.isnan(a).any() or np.isnan(b).any() or a.size < 2:
        return np.isnan(found["correlation"][0, 1])
    a, b = ((one - one.mean()) / np.sqrt(((one - one.mean()) ** 2).sum()) for one in (a, b))
    return close(found["correlation"][0, 1].item(), (a * b).sum(), 1e-3)


#: Name -> (the function, what is right of what it returns for these numbers).
FUNCTIONS = {
    "summarise": (tda.summarise, right_summary),
    "p_values": (
        tda.p_values,
        lambda f, v: close(in_order(f, "train", "test"), wide_summary(v)[3]),
    ),
    "released": (
        partial(tda.p_values, test="released"),
        lambda f, v: close(
            in_order(f, "train", "test"), 2 * stats.norm.sf(np.abs(wide_summary(v)[2]))
        ),
    ),
    "significant": (
        lambda scores: tda.significant(tda.p_values(scores), 0.3, None),
        lambda f, v: np.array_equal(in_order(f, "train", "test"), wide_summary(v)[3] < 0.3),
    ),
    "clearest_pairs": (lambda scores: tda.clearest_pairs(tda.summarise(scores)), right_clearest),
    "mean_p_by_checkpoints": (tda.mean_p_by_checkpoints, right_curve),
    "overall_reliability": (overall_reliability, right_overall),
    "variance_components": (tda.variance_components, right_components),
    "removal_signed": (
        tda.removal_signed,
        lambda f, v: by_pair(in_order(f, *DIMS), -v.astype(WIDE)),
    ),
    "remove_drift": (
        lambda scores: tda.remove_drift(
            scores.assign_coords(
                drift=scores[:, :, 0]
                .drop_vars([name for name in scores.coords if name not in scores.dims])
                .reset_coords(drop=True)
                .variable
            )
        ),
        lambda f, v: by_pair(in_order(f, *DIMS), v.astype(WIDE) - v[:, :, :1].astype(WIDE)),
    ),
    "drift_share": (tda.drift_share, right_drift_share),
    "agreement": (
        lambda scores: tda.agreement({"a": scores, "b": last_two(scores)}, permutations=1),
        right_agreement,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_that_are_not_what_they_seem(name, count):
    attacks = Attacks(count, "inputs: statistics")
    function, right = FUNCTIONS[name]
    for seed in range(6):
        values = np.random.default_rng(seed).normal(0.5, 1, size=SIZES[seed % len(SIZES)])
        for kind, (make, numbers) in SCORES.items():
            if name == "remove_drift" and (numbers is None or "levels" in kind):
                continue  # has its own below
            if name in ANY_DIMS and kind in OF_OTHER_DIMS:
                continue
            given = make(values)
            if kind == "other order":
                wanted = values
            else:
                wanted = None if numbers is None else np.asarray(numbers(values))
            attacks.run(
                f"{kind} {seed}",
                partial(quietly(function), given),
                oracle=MUST_BE_REFUSED
                if wanted is None
                else quietly(lambda found, wanted=wanted: right(found, wanted)),
                refusable=kind != "plain" or values.shape[1] * values.shape[2] == 1,
            )


def test_the_drift_of_scores(count):
    attacks = Attacks(count, "inputs: statistics")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values, drift = rng.normal(size=(4, 2, 3, 5)), rng.normal(size=(4, 2, 5))
        three = ("member", "checkpoint", "test")
        odd = {
            "object": (three, drift.astype(object)),
            "complex": (three, drift + 0j),
            "digits": (three, drift.astype(str)),
            "truth values": (three, drift > 0),
            "too large": (three, drift.astype(WIDE) * WIDE(10) ** 400),
        }
        for name, coordinate in odd.items():
            given = labelled(values).assign_coords(drift=coordinate)
            attacks.run(f"{name} {seed}", partial(tda.remove_drift, given), names=["drift"])
        for kind in ("f2", "f4", "i1", "u1", "u8", ">f8"):
            a, b = (np.abs(one * 99).astype(kind) for one in (values, drift))
            attacks.run(
                f"{kind} {seed}",
                partial(tda.remove_drift, labelled(a).assign_coords(drift=(three, b))),
                oracle=lambda found, a=a, b=b: close(
                    found.values, a.astype(WIDE) - b[:, :, None].astype(WIDE), 1e-5
                ),
                refusable=False,
            )


def test_a_member_that_is_given_twice(count):
    """Refused where it has one name, and warned of where it has two."""
    attacks = Attacks(count, "inputs: statistics", refusals=(ValueError, RuntimeWarning))
    chance = random.Random(446)
    for name in ("summarise", "p_values", "overall_reliability", "variance_components"):
        function = FUNCTIONS[name][0]
        for round_ in range(25):
            members = chance.randrange(2, 6)
            values = np.random.default_rng(round_).normal(size=(members, 2, 2, 3))
            if round_ % 3 == 0:
                values[:, :, 0, 0] = np.nan
            again = chance.randrange(members)
            labels = [*range(446, 446 + members), 446 + again if round_ % 2 else 999]
            given = labelled(np.concatenate([values, values[[again]]]), member=labels)

            def judged(function=function, given=given):
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    return function(given)

            attacks.run(f"{name} {round_}", judged, names=["members", labels[again], labels[-1]])
            other = given.copy(data=np.random.default_rng(round_).normal(size=given.shape))
            attacks.run(
                f"{name} {round_}, one label for two members",
                lambda function=function, other=other: function(other),
                oracle=lambda found: found is not None,
                refusable=False,
            )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["summarise", "p_values", "overall_reliability", "variance_components", "drift_share"]
)
def test_scores_of_any_size(name, count):
    """Pairs and members of all sizes side by side."""
    attacks = Attacks(count, "inputs: statistics")
    function, right = FUNCTIONS[name]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(2, 6)), int(rng.integers(2, 4)), 2, 3)
        power = rng.uniform(-305, 305, size=(1, 1, 2, 3)) if seed % 2 else rng.uniform(-305, 305)
        values = rng.normal(rng.uniform(-2, 2), 1, size=shape) * 10.0**power
        attacks.run(
            f"{name} {seed}",
            partial(quietly(function), labelled(values)),
            oracle=quietly(lambda found, values=values: right(found, values)),
            refusable=False,
        )


# ---------------- options of statistics


@pytest.mark.filterwarnings("ignore")
def test_options_of_statistics(count):
    attacks = Attacks(count, "inputs: statistics")
    tau = labelled(np.random.default_rng(0).normal(size=(4, 2, 3, 5)))
    crossed = xr.DataArray(
        np.random.default_rng(1).normal(size=(2, 2, 2, 2, 3)),
        dims=("initialisation", "order", "checkpoint", "train", "test"),
    )
    summary, p = tda.summarise(tau), tda.p_values(tau)
    shares = partial(tda.variance_shares, crossed)
    calls = {  # option -> (function, which of the values it takes)
        ("test", "summarise"): (partial(tda.summarise, tau), ()),
        ("test", "p_values"): (partial(tda.p_values, tau), ()),
        ("alpha", "significant"): (partial(tda.significant, p), ("float16",)),
        ("correction", "significant"): (partial(tda.significant, p), ()),
        ("n", "clearest_pairs"): (partial(tda.clearest_pairs, summary), "whole"),
        ("n", "least_certain_pairs"): (partial(tda.least_certain_pairs, summary), "whole"),
        ("members", "null_reference"): (tda.null_reference, "whole"),
        ("alpha", "null_reference"): (partial(tda.null_reference, 5), ("float16",)),
        ("alpha", "overall"): (partial(overall_reliability, tau), ("float16",)),
        ("level", "overall"): (partial(overall_reliability, tau), ("float16",)),
        ("resamples", "shares"): (shares, "whole"),
        ("level", "shares"): (partial(shares, resamples=2), ("float16",)),
        ("seed", "shares"): (partial(shares, resamples=2), "seed"),
        ("of", "agreement"): (partial(tda.agreement, {"a": tau}), ()),
        ("kind", "agreement"): (partial(tda.agreement, {"a": tau}), ()),
        ("permutations", "agreement"): (partial(tda.agreement, {"a": tau}), "whole"),
        ("seed", "agreement"): (partial(tda.agreement, {"a": tau}, permutations=1), "seed"),
        ("scores_by_method", "agreement"): (tda.agreement, ()),
    }
    for (option, function_name), (function, allowed) in calls.items():
        for name, (value, whole, _) in VALUES.items():
            if name == "large" and option in ("permutations", "resamples"):
                continue  # as many as that are asked for
            small = whole is not None and name != "large"
            fits = name in allowed or (allowed in ("whole", "seed") and small)
            fits |= allowed == "seed" and name in ("zero", "large")
            # Alpha of 5e-324 is a probability, if a strange one; members are any number.
            fits |= name == "tiny" and "float16" in allowed
            maybe = name == "large" and allowed == "whole" and option == "members"
            maybe |= option == "correction" and value is None
            attacks.run(
                f"{option} of {function_name}: {name}",
                partial(function, **{option: value}),
                oracle=(lambda found: found is not None) if fits or maybe else MUST_BE_REFUSED,
                refusable=not fits,
                names=[option],
            )


# ---------------- labels, figures, numbers in files


@pytest.mark.filterwarnings("ignore")
def test_values_that_are_to_be_labelled(count):
    attacks = Attacks(count, "inputs: labels")
    members, samples = member_coordinates((14, 15), 3, (1, 2, 3)), {"train": [7, 9, 8, 6]}
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=(3, 2, 4, 5))
        for name, (make, usable) in (ARRAYS | OF_INPUTS).items():
            try:
                given = make(values)
            except (TypeError, ValueError):
                continue
            finite = {"NaN", "infinite", "too large", "far too large"}
            fits = (usable or name in finite) and name != "truth values"
            plain = given
            if isinstance(given, torch.Tensor) and fits:
                plain = given.detach().to(torch.float64)

            def right(found, plain=plain):
                wanted = np.asarray(plain)
                wanted = np.where(np.isfinite(wanted), wanted, np.nan)
                return np.array_equal(found.values, wanted, equal_nan=True)

            attacks.run(
                f"{name} {seed}",
                partial(as_scores, given, members, samples, {"method": "loo"}),
                oracle=right if fits or name in ("empty",) else MUST_BE_REFUSED,
                names=["values"],
            )


def of_figures():
    tau = labelled(np.random.default_rng(0).normal(size=(4, 2, 3, 5)))
    summary = tda.summarise(tau)
    one = tau[0, 0, :, 0]
    agreed = tda.agreement({"loo": tau, "b": -tau}, permutations=2)
    overall = overall_reliability(tau)
    curve = tda.mean_p_by_checkpoints(tau)
    return {
        "concept": (lambda x: plots.concept(x, {"a": (0, 0)}), tau),
        "concept, pairs": (lambda x: plots.concept(tau, x), {"a": (0, 0)}),
        "concept, pair": (lambda x: plots.concept(tau, {"a": x}), (0, 0)),
        "concept, index": (lambda x: plots.concept(tau, {"a": (x, 0)}), 0),
        "tau_histograms": (lambda x: plots.tau_histograms({"a": x}, {"a": (0, 0)}), tau),
        "mean_against_std": (plots.mean_against_std, summary),
        "reliability_map": (plots.reliability_map, summary),
        "rank_change": (lambda x: plots.rank_change(x, one, 1), one),
        "rank_change, highlight": (lambda x: plots.rank_change(one, -one, x), 2),
        "significant_fractions": (lambda x: plots.significant_fractions({"a": x}), summary),
        "significant_fractions, all": (plots.significant_fractions, {"a": summary}),
        "full_set": (lambda x: plots.full_set({"loo": x}, agreed), summary),
        "full_set, with_loo": (lambda x: plots.full_set({"loo": summary}, x), agreed),
        "agreement_matrices": (
            lambda x: plots.agreement_matrices({("mean", "pearson"): x}),
            agreed,
        ),
        "p_by_checkpoints": (lambda x: plots.p_by_checkpoints({"a": x}), curve),
        "noise_sources": (lambda x: plots.noise_sources({"a": x}), None),
        "reliability_by": (lambda x: plots.reliability_by({"a": {"b": {"c": x}}}, "size"), overall),
        "reliability_by_checkpoints": (
            lambda x: plots.reliability_by_checkpoints({"a": {1: {"c": x}}}),
            overall,
        ),
        "agreement_by_study": (plots.agreement_by_study, pd.DataFrame({"a": [0.5]})),
        "explore_pairs": (lambda x: plots.explore_pairs(x, points=5), summary),
        "explore_pairs, points": (lambda x: plots.explore_pairs(summary, points=x), 5),
        "images": (plots.images, np.eye(8)[None]),
        "images, columns": (lambda x: plots.images(np.eye(8)[None], columns=x), 1),
    }


def spoilt(value):
    """What one gets by changing one thing of a value that is right, and it is right no more."""
    if isinstance(value, xr.DataArray):
        yield "complex", value + 0j
        yield "object", value.astype(object)
        yield "digits", value.astype(str)
        yield "truth values", value > 0
        yield "empty", value.isel({value.dims[-1]: []})
        yield "another dim", value.expand_dims("colour")
        yield "no attributes", value.drop_attrs() if value.name == "mean_p" else None
        yield "NaN", value * np.nan if value.name != "mean_p" else None
    if isinstance(value, xr.Dataset):
        for name in value:
            yield f"without {name}", value.drop_vars(name)
            yield f"digits in {name}", value.assign({name: value[name].astype(str)})
            yield f"objects in {name}", value.assign({name: value[name].astype(object)})
            yield f"complex {name}", value.assign({name: value[name] + 0j})
            yield f"number for {name}", value.assign({name: 0.5})
        yield "no attributes", value.drop_attrs()
        for name in ("members", "test"):
            if name in value.attrs and "p" in value:
                for kind, odd in (("digits", "4"), ("float", 4.5), ("true", True), ("none", None)):
                    yield f"{name} is {kind}", value.assign_attrs({name: odd})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("door", of_figures())
def test_figures(door, count):
    attacks = Attacks(count, "inputs: figures")
    draw, good = of_figures()[door]
    numbers = isinstance(good, int)
    if good is not None:
        attacks.run("what is right", partial(draw, good), oracle=outputs.alt_text, refusable=False)
    of_index = {"float", "float32", "decimal", "complex number", "array", "dataarray", "zero"}
    for name, (value, whole, _) in VALUES.items():
        if numbers and whole is not None:
            continue
        # 2.0 is the label 2 to xarray, too.
        fits = door == "concept, index" and name in of_index
        attacks.run(
            name, partial(draw, value), oracle=outputs.alt_text if fits else MUST_BE_REFUSED
        )
    for name, value in spoilt(good):
        if value is not None:
            # Nothing in this picture hangs on the test that was made.
            same = door == "reliability_by_checkpoints" and name == "no attributes"
            attacks.run(
                f"spoilt: {name}",
                partial(draw, value),
                oracle=(lambda found: outputs.alt_text(found) == outputs.alt_text(draw(good)))
                if same
                else MUST_BE_REFUSED,
            )


@pytest.mark.filterwarnings("ignore")
def test_pictures_and_numbers_in_files(count, tmp_path):
    attacks = Attacks(count, "inputs: files")
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=(2, 4, 6))
        for name, (make, usable) in (ARRAYS | OF_INPUTS).items():
            try:
                given = make(values)
            except (TypeError, ValueError):
                continue
            if usable is False and name not in ("list of masked", "too few", "too large"):
                attacks.run(
                    f"picture {name} {seed}", partial(plots.images, given), names=["pictures"]
                )
            if name in ("masked", "fill value"):
                attacks.run(
                    f"number {name} {seed}",
                    partial(outputs.save_numbers, {"x": given}, tmp_path, "x"),
                    names=["x"],
                )
    for name, (value, *_) in VALUES.items():
        for door, call in {
            "numbers": partial(outputs.save_numbers, value, tmp_path, "x"),
            "table": partial(outputs.save_table, value, tmp_path, "x"),
            "figure": partial(outputs.save, value, tmp_path, "x"),
            "name": partial(outputs.save_numbers, {"x": 1}, tmp_path, value),
            "alt": partial(outputs.with_alt, value, "a text"),
        }.items():
            fits = (door == "name" and name == "digits") or (door == "numbers" and name == "dict")
            if not fits:
                attacks.run(f"{door} {name}", call)
