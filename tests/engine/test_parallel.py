"""Worker threads, the cores that they take, and the device that is chosen."""

import os
import threading

import numpy as np
import pytest
import torch

from tda_utils.engine.parallel import (
    CORES_VARIABLE,
    available_cores,
    chosen_device,
    parallel_map,
    parallel_map_nested,
    workers_on,
)
from tests.refusals import refused


def test_workers_may_be_a_number_of_numpy():
    """What limits the threads of kernels takes Python's own alone."""
    threads = parallel_map_nested(lambda item, inner: type(inner), ["a"], workers=np.int64(2))
    assert threads == [int]


def test_parallel_map_keeps_order_raises_and_restores_threads():
    threads = torch.get_num_threads()
    assert parallel_map(lambda n: n * n, range(20), workers=3) == [n * n for n in range(20)]
    assert torch.get_num_threads() == threads

    def fail(n):
        if n == 3:
            raise RuntimeError("third")
        return n

    with pytest.raises(RuntimeError, match="third"):
        parallel_map(fail, range(10), workers=2)
    refused(ValueError, lambda: parallel_map(fail, [1], workers=0), "workers is 0", "at least 1")
    assert parallel_map(fail, [], workers=2) == []


def test_as_many_calls_run_at_once_as_there_are_workers():
    """A barrier lets nobody through before three have come; each has one thread of kernels."""
    barrier = threading.Barrier(3)

    def meet(_):
        barrier.wait(timeout=60)
        return torch.get_num_threads()

    assert parallel_map(meet, range(3), workers=3) == [1, 1, 1]


def test_workers_that_are_left_help_within_the_items():
    def inner(_, workers):
        return workers

    for items, workers, wanted in ((2, 5, [2, 2]), (3, 2, [1, 1, 1]), (0, 2, [])):
        assert parallel_map_nested(inner, range(items), workers=workers) == wanted
    refused(ValueError, lambda: parallel_map_nested(inner, [1], workers=0), "workers is 0")


def test_the_environment_may_allow_fewer_cores_and_never_more(monkeypatch):
    monkeypatch.delenv(CORES_VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    for asked, cores in (("2", 2), ("16", 3)):
        monkeypatch.setenv(CORES_VARIABLE, asked)
        assert available_cores() == cores
    for asked in ("0", "two", "1.5", "-1"):
        monkeypatch.setenv(CORES_VARIABLE, asked)
        refused(ValueError, available_cores, CORES_VARIABLE, repr(asked), "positive integer")


def test_a_card_is_one_queue_of_work():
    assert workers_on(torch.device("cuda"), 8) == 1
    assert workers_on(torch.device("cpu"), None) is None


def test_devices_are_chosen_by_name():
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device(torch.device("cpu")) == torch.device("cpu")
    for name in ("tpu", "mps", "cuda:x"):
        refused(ValueError, lambda name=name: chosen_device(name), f"device is '{name}'", "'cpu'")
    refused(TypeError, lambda: chosen_device(0), "device is 0", "'cpu'")
