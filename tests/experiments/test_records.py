"""What is stored comes back: members, and scores with labels that the file does not hold."""

import numpy as np
import pytest
import torch
import xarray as xr

from tda_utils.experiments import records
from tda_utils.experiments.settings import Run
from tda_utils.experiments.store import Shard, ShardError, read_shard, write_shard
from tda_utils.labels import as_scores, member_coordinates
from tda_utils.models.states import AdamState

SAMPLES = {"train": [7, 9, 4], "train_label": ("train", [0, 1, 2]), "test": [3, 8]}
EPOCHS = (14, 15)


def stored(arrays, metadata, folder):
    write_shard(folder / "one.safetensors", arrays, metadata)
    return read_shard(folder / "one.safetensors")


def test_a_member_comes_back_with_its_optimiser(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def tensors(*names):
        return {name: torch.rand(2, 3, generator=generator) for name in names}

    states = [tensors("layer/1.weight", "bias") for _ in EPOCHS]
    adam = [AdamState(float(step), tensors("bias"), tensors("bias")) for step in (14, 15)]
    shard = stored(records.member_arrays(states, adam), {}, tmp_path)
    found, memory = records.member_of(shard.arrays)
    for one, wanted in zip(found, states, strict=True):
        assert one.keys() == wanted.keys()
        assert all(torch.equal(one[name], wanted[name]) for name in wanted)
    for one, wanted in zip(memory, adam, strict=True):
        assert one.step == wanted.step
        assert torch.equal(one.exp_avg["bias"], wanted.exp_avg["bias"])
        assert torch.equal(one.exp_avg_sq["bias"], wanted.exp_avg_sq["bias"])


def test_parameters_that_took_other_numbers_of_steps_come_back_so(tmp_path):
    means = {"used": torch.ones(2), "sometimes": torch.ones(3)}
    adam = [
        AdamState(4.0, {"used": torch.ones(2)}, {"used": torch.ones(2)}),
        AdamState(6.0, means, means, {"used": 6.0, "sometimes": 1.0}),
    ]
    shard = stored(records.member_arrays([means, means], adam), {}, tmp_path)
    _, (one, other) = records.member_of(shard.arrays)
    assert (one.steps, other.steps) == (None, {"used": 6.0, "sometimes": 1.0})
    assert (one.step_of("used"), other.step_of("used"), other.step_of("sometimes")) == (4, 6, 1)
    assert one.exp_avg.keys() == {"used"} and other.exp_avg_sq.keys() == means.keys()


@pytest.mark.parametrize("extra", [(), ("drift",), ("residual",), ("drift", "residual")])
@pytest.mark.parametrize("run", [Run(446, 446), Run(446, 724)])
def test_scores_come_back_with_labels_that_are_not_stored(extra, run, tmp_path):
    generator = np.random.default_rng(0)
    members = member_coordinates(EPOCHS, 1, (run.initialisation,), (run.order,))
    attributes = {"method": "loo", "sign": "removal", "damping": 0.005}
    tau = as_scores(generator.random((1, 2, 3, 2)), members, SAMPLES, attributes)
    sizes = {"drift": (1, 2, 2), "residual": (1, 2)}
    known = {name: (records.EXTRA[name], generator.random(sizes[name])) for name in extra}
    tau = tau.assign_coords(known)
    shard = stored(records.score_arrays(tau), {"attributes": dict(tau.attrs)}, tmp_path)
    assert set(shard.arrays) == {"tau", *extra}
    assert records.scores_of(shard, run, EPOCHS, SAMPLES).identical(tau)


def test_a_crossed_design_keeps_the_order_of_its_seeds():
    firsts, orders = (724, 446), (829, 446, 571)
    pairs = [(first, order) for first in firsts for order in orders]
    values = np.array([[[[1000 * a + b]]] for a, b in pairs], dtype=float)
    members = member_coordinates((15,), 6, *zip(*pairs, strict=True))
    tau = as_scores(values, members, {"train": [7], "test": [3]}, {"method": "loo"})
    found = records.crossed(tau, firsts, orders)
    assert found.dims == ("initialisation", "order", "checkpoint", "train", "test")
    assert found["initialisation"].values.tolist() == list(firsts)
    assert found["order"].values.tolist() == list(orders)
    wanted = 1000 * found["initialisation"] + found["order"]
    xr.testing.assert_equal(found.squeeze(drop=True), wanted.astype(float))


def test_a_file_says_what_it_was_computed_with():
    found = records.metadata_of({"seed": 446}, torch.device("cpu"))
    assert found["values"] == {"seed": 446} and found["device"] == "cpu"
    assert found["torch"] == torch.__version__
    assert set(found) == {"values", "torch", "python", "machine", "device"}


# ---------------- sound files that hold something else

SIZES = {"member": 1, "draw": 4, "checkpoint": 2, "train": 3, "test": 2}


def scores(method="loo", protocol="paired", sign="removal", **arrays):
    metadata = {
        "values": {"method": method, "protocol": protocol},
        "attributes": {"method": method, "sign": sign},
    }
    return Shard({"tau": np.ones((1, 2, 3, 2), np.float32), **arrays}, metadata)


@pytest.mark.parametrize(
    "shard",
    [
        scores(),
        scores("grad_dot", "both"),
        scores("ats", "released", "upweighting", drift=np.ones((1, 2, 2))),
        scores("influence", residual=np.ones((1, 2)), tau=np.ones((1, 2, 3, 2))),
        scores("loo", "released", drift=np.ones((1, 2, 2), np.float32)),
        Shard({"floor": np.ones((1, 4, 2, 2))}, {**scores("floor", "both").metadata}),
        scores(another=np.ones(3)),  # of a later version, perhaps
    ],
)
def test_scores_of_every_method_are_known(shard, tmp_path):
    records.check_scores(tmp_path / "a", shard, SIZES)


BAD_SCORES = {
    "shape": (scores(tau=np.ones((1, 2, 2, 3))), "'tau' of shape (1, 2, 2, 3)"),
    "fewer dims": (scores(tau=np.ones(12)), "'tau' of shape (12,)"),
    "integers": (scores(tau=np.ones((1, 2, 3, 2), int)), "type int64"),
    "half": (scores(tau=np.ones((1, 2, 3, 2), np.float16)), "type float16"),
    "drift": (scores(drift=np.ones((1, 2, 3))), "'drift' of shape (1, 2, 3)"),
    "residual": (scores(residual=np.ones((2, 1))), "'residual' of shape (2, 1)"),
    "no scores": (Shard({}, scores().metadata), "'tau'"),
    "no attributes": (
        Shard(scores().arrays, {"values": scores().metadata["values"]}),
        "attributes",
    ),
    "attributes": (Shard(scores().arrays, {**scores().metadata, "attributes": [1]}), "attributes"),
    "no floor": (scores("floor", "both"), "no 'floor'"),
    "draws": (scores("floor", "both", floor=np.ones((1, 3, 2, 2))), "(1, 3, 2, 2)"),
    "sign": (scores(sign="upweighting"), "sign 'upweighting'"),
    "no sign": (scores(sign=None), "sign None"),
    "released": (scores("ats", "released"), "should 'upweighting'"),
}


@pytest.mark.parametrize("kind", BAD_SCORES)
def test_scores_of_another_form_are_named(kind, tmp_path):
    shard, fact = BAD_SCORES[kind]
    with pytest.raises(ShardError) as raised:
        records.check_scores(tmp_path / "a", shard, SIZES)
    assert str(tmp_path / "a") in str(raised.value) and fact in str(raised.value)


def member():
    model = torch.nn.BatchNorm1d(2)
    model.weight.requires_grad_(False)
    state = {name: torch.ones_like(v) for name, v in model.state_dict().items() if name != "weight"}
    adam = AdamState(1.0, {"bias": torch.ones(2)}, {"bias": torch.ones(2)})
    layout = records.member_layout(model, checkpoints=2)
    return layout, dict(records.member_arrays([state] * 2, [adam] * 2))


def test_a_layout_is_that_of_the_arrays_of_a_member(tmp_path):
    layout, arrays = member()
    assert layout == {name: (array.shape, array.dtype) for name, array in arrays.items()}
    records.check_member(tmp_path / "a", Shard(arrays, {}), layout)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("step", None),
        ("0/state/bias", None),
        ("1/exp_avg_sq/bias", None),
        ("0/state/bias", np.ones(3, np.float32)),
        ("0/state/bias", np.ones(2)),
        ("0/exp_avg/bias", np.ones((1, 2), np.float32)),
        ("0/state/num_batches_tracked", np.ones((), np.int32)),
        ("step", np.ones(3)),
        ("2/state/bias", np.ones(2, np.float32)),
        ("0/state/weight", np.ones(2, np.float32)),
        ("nonsense", np.ones(2)),
    ],
)
def test_a_member_of_another_form_is_named(name, array, tmp_path):
    layout, arrays = member()
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    with pytest.raises(ShardError) as raised:
        records.check_member(tmp_path / "a", Shard(arrays, {}), layout)
    assert str(tmp_path / "a") in str(raised.value) and repr(name) in str(raised.value)
