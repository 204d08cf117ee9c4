"""Starts experiments as children that can be killed or kept short of memory or disk.

Importing PyTorch takes longer than the experiments of these tests, so it is imported once, here,
and each experiment is a fork. Requests come as lines of JSON on standard input, and each answer is
the process number of the child; when a child ends, its status is the next line.
"""

import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path

import tda_utils as tda
from tda_utils.experiments.experiment import Experiment


def experiment_in(store):
    """Three members, two checkpoints: 18 files of scores."""
    return Experiment(members=3, checkpoints=2, epochs=2, test_per_class=1, store=store)


def note_what_is_computed(log):
    """Write a line for each file that is begun."""
    train, attribute = Experiment._train, Experiment._attribute

    def noted(kind, runs):
        with Path(log).open("a") as file:
            file.writelines(f"{kind} {run.initialisation}\n" for run in runs)

    def noted_train(self, runs):
        noted("posterior", runs)
        return train(self, runs)

    def noted_attribute(self, method, runs):
        noted(method, runs)
        return attribute(self, method, runs)

    Experiment._train, Experiment._attribute = noted_train, noted_attribute


def drop_privileges():
    """Take from a superuser the right to write where the permissions do not allow it."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))

    header = Header(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def run(request):
    """Compute all scores in this process, which ends with it."""
    note_what_is_computed(request["log"])
    if "file_size" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    if "memory" in request:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGESIZE") + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if "powerless" in request:
        drop_privileges()
    experiment_in(request["store"]).all_scores(tuple(tda.METHODS))


def child(request):
    """Run a request and leave with 0, or with 1 and what was raised in a file."""
    try:
        run(request)
    except BaseException as problem:
        Path(request["problem"]).write_text(f"{type(problem).__name__}: {problem}")
        os._exit(1)
    os._exit(0)


def main():
    """Serve requests until standard input ends."""
    for line in sys.stdin:
        began = time.monotonic()
        number = os.fork()
        if number == 0:
            child(json.loads(line))
        print(number, flush=True)
        _, status = os.waitpid(number, 0)
        took = time.monotonic() - began
        print(json.dumps([os.waitstatus_to_exitcode(status), took]), flush=True)


if __name__ == "__main__":
    main()
