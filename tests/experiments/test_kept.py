"""Long work on a posterior of one's own: kept in a folder, and gone on with."""

import inspect
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

import tda_utils as tda
from tda_utils import Recipe, attribution, sample_posterior
from tda_utils.experiments.store import read_shard
from tda_utils.experiments.tallies import made_here, tally
from tests.refusals import refused
from tests.tiny import SHORT, build_mlp, table_task
from tools import ROOT

TASK = table_task()
POSTERIOR = sample_posterior(build_mlp, TASK, SHORT, seeds=(1, 2))
WEIGHTS = np.vstack([np.ones(9), 1 - np.eye(9)[:3], np.linspace(0, 2, 9)])
CALLS = {
    "loo": (lambda call, **how: call(POSTERIOR, TASK, **how), 20),
    "continued": (lambda call, **how: call(POSTERIOR, TASK, protocol="released", **how), 40),
    "unpaired": (
        lambda call, **how: call(POSTERIOR, TASK, protocol="released", released="unpaired", **how),
        36,
    ),
    "floor": (lambda call, **how: call(POSTERIOR, TASK, draws=2, **how), 6),
    "retrain": (lambda call, **how: call(POSTERIOR, TASK, WEIGHTS, **how), 10),
}
METHOD_OF = {"continued": "loo", "unpaired": "loo"}


def files(store):
    return sorted(store.glob("*.safetensors"))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_kept_is_what_is_computed_and_is_not_computed_again(name, tmp_path, capsys):
    call, count = CALLS[name]
    method = METHOD_OF.get(name, name)
    wanted = call(getattr(attribution, method))
    found = call(getattr(tda, method), store=tmp_path)
    assert found.identical(wanted)
    assert len(files(tmp_path)) == count
    said = capsys.readouterr().err
    assert said.startswith(f"{method} (") and f"0 of {count} trainings are in {tmp_path}" in said
    assert f"the {count - 1} that are left" in said and " need about " in said
    before = made_here()
    assert call(getattr(tda, method), store=str(tmp_path)).identical(wanted)
    assert made_here() == before and capsys.readouterr().err == ""


def test_after_a_kill_it_goes_on_where_it_was(tmp_path, capsys):
    wanted = tda.loo(POSTERIOR, TASK, store=tmp_path)
    for path in files(tmp_path)[::2]:
        path.unlink()
    capsys.readouterr()
    before = len(made_here())
    assert tda.loo(POSTERIOR, TASK, store=tmp_path).identical(wanted)
    assert len(made_here()) - before == 10
    said = capsys.readouterr().err
    assert "10 of 20 trainings" in said and "the 9 that are left" in said


def test_trainings_that_are_the_same_are_one(tmp_path):
    """Of another method, another subset, other attributed samples, or twice in one call."""
    tda.loo(POSTERIOR, TASK, store=tmp_path)
    before = len(made_here())
    losses = tda.retrain(POSTERIOR, TASK, WEIGHTS[[0, 1, 1, 3]], store=tmp_path)
    tda.loo(POSTERIOR, TASK.attribute_only([5, 2]), store=tmp_path)
    assert len(made_here()) == before
    assert losses.identical(tda.retrain(POSTERIOR, TASK, WEIGHTS[[0, 1, 1, 3]]))


def test_another_training_has_another_file(tmp_path):
    tda.retrain(POSTERIOR, TASK, WEIGHTS[:1], store=tmp_path)
    other = sample_posterior(build_mlp, TASK, Recipe(epochs=3, lr=0.1, keep_last=2), seeds=(1, 2))
    for posterior, task in ((other, TASK), (POSTERIOR, TASK.select(test=[1, 0]))):
        found = tda.retrain(posterior, task, WEIGHTS[:1], store=tmp_path)
        assert found.identical(tda.retrain(posterior, task, WEIGHTS[:1]))
    assert len(files(tmp_path)) == 6


def test_a_file_that_is_damaged_is_set_aside_and_made_again(tmp_path):
    wanted = tda.retrain(POSTERIOR, TASK, WEIGHTS, store=tmp_path)
    first, second, *_ = files(tmp_path)
    first.write_bytes(first.read_bytes()[:-3])
    second.write_bytes(first.read_bytes())
    before = tally()["set aside"]
    with pytest.warns(RuntimeWarning, match="set aside"):
        found = tda.retrain(POSTERIOR, TASK, WEIGHTS, store=tmp_path)
    assert found.identical(wanted) and tally()["set aside"] == before + 2
    assert read_shard(first).arrays["losses"].shape == (2, 5)


def test_a_loop_of_ones_own_is_kept_training_by_training(tmp_path, capsys):
    """What it raises ends the call; what is done is not done again."""
    calls, stop = [], [12]

    def train(weights, init_seed, order_seed):
        calls.append((tuple(weights.tolist()), init_seed, order_seed))
        if len(calls) == stop[0]:
            raise KeyboardInterrupt
        rows = sample_posterior(
            build_mlp,
            TASK,
            SHORT,
            seeds=[init_seed],
            order_seeds=[order_seed],
            weights=weights[None],
        )
        return rows.states[0]

    once = partial(tda.retrain, POSTERIOR, TASK, WEIGHTS, train=train, store=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        once()
    assert len(files(tmp_path)) == 11
    stop[0], calls[:] = 0, []
    found = once()
    # Seven trials and ten trainings, of which two are both: each member as it is.
    assert len(calls) == 15 - 11
    wanted = tda.retrain(POSTERIOR, TASK, WEIGHTS)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    calls.clear()
    assert once().identical(found) and not calls
    assert "retrain (" in capsys.readouterr().err


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
import tda_utils as tda
from tests.experiments.test_kept import POSTERIOR, TASK, WEIGHTS, slowly
tda.retrain(POSTERIOR, TASK, WEIGHTS, train=slowly, store=sys.argv[1])
"""


def slowly(weights, init_seed, order_seed):
    """A loop that sleeps once it is past its trials, so that it can be killed there."""
    if weights.sum() == 8:
        time.sleep(600 if os.environ.get("SLOWLY") else 0)
    seeds = {"seeds": [init_seed], "order_seeds": [order_seed]}
    return sample_posterior(build_mlp, TASK, SHORT, **seeds, weights=weights[None]).states[0]


def test_what_was_finished_when_a_process_is_killed_is_not_done_again(tmp_path):
    """SIGKILL, which no handler sees, in the midst of a training."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(ROOT)]
    environment = os.environ | {"SLOWLY": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        # Seven trials and the first training with nothing left out, of which one is both.
        while len(files(tmp_path)) < 7 and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    found = tda.retrain(POSTERIOR, TASK, WEIGHTS, train=slowly, store=tmp_path)
    after = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    assert len(before) == 7 and after.items() >= before.items() and len(after) == 15
    assert not list(tmp_path.rglob("*.tmp"))
    np.testing.assert_allclose(found, tda.retrain(POSTERIOR, TASK, WEIGHTS), rtol=1e-4, atol=1e-6)


def test_a_fault_of_a_loop_is_an_error_that_costs_nothing(tmp_path):
    bad = [True]

    def train(weights, init_seed, order_seed):
        if bad[0] and init_seed == 2 and weights[1] == 0 and weights.sum() == 8:
            raise OSError("disk is gone")
        return sample_posterior(
            build_mlp,
            TASK,
            SHORT,
            seeds=[init_seed],
            order_seeds=[order_seed],
            weights=weights[None],
        ).states[0]

    once = partial(tda.retrain, POSTERIOR, TASK, WEIGHTS, train=train, store=tmp_path)
    refused(ValueError, once, "member 2, subset 2", "OSError", "disk is gone")
    kept = len(files(tmp_path))
    bad[0] = False
    assert not np.isnan(once()).any() and len(files(tmp_path)) > kept > 7


def test_a_folder_takes_the_place_of_a_keeper_and_the_help_says_so():
    for name in ("loo", "retrain", "floor"):
        function = getattr(tda, name)
        names = list(inspect.signature(function).parameters)
        own = list(inspect.signature(getattr(attribution, name)).parameters)
        assert names == ["store" if one == "keeper" else one for one in own]
        assert "store : path" in function.__doc__ and "keeper" not in function.__doc__
        assert function.__name__ == name
    for wrong in (3, ["a"]):
        refused(TypeError, partial(tda.loo, POSTERIOR, TASK, store=wrong), f"store is {wrong}")
    no_folder = partial(tda.loo, POSTERIOR, TASK, store="/dev/null/store")
    refused(OSError, no_folder, "/dev/null")
