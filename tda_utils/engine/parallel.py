"""Where work runs: one worker thread a core, each with single-threaded kernels, or a CUDA card.

Small networks do not fill two cores with one step: the threads of one kernel wait for each other
more than they compute. Many independent models do fill them, one model a core. PyTorch releases the
interpreter's lock inside its kernels, so threads suffice: nothing has to be pickled, and any
`torch.nn.Module` works.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tda_utils.checks import brief, check_count

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Sets how many cores this process takes, where several run beside each other.
CORES_VARIABLE = "BAYES_TDA_CORES"


def available_cores() -> int:
    """Return the number of cores that this process may use.

    That is what the operating system allows, or the environment variable ``BAYES_TDA_CORES`` if it
    is set and smaller.

    Raises
    ------
    ValueError
        If ``BAYES_TDA_CORES`` is no positive integer.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    asked = os.environ.get(CORES_VARIABLE)
    if asked is None:
        return allowed
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"{CORES_VARIABLE} is {asked!r}; it must be a positive integer.")
    return min(allowed, int(asked))


def chosen_device(device: str | torch.device) -> torch.device:
    """Return the device of that name; ``"auto"`` is CUDA where there is a card, else the CPU.

    Raises
    ------
    ValueError, TypeError
        If the name is unknown or no name, or there is no such device here.

    Examples
    --------
    >>> chosen_device("cpu")
    device(type='cpu')
    """
    unknown = f"device is {brief(device)}; it must be 'auto', 'cpu' or 'cuda'."
    if not isinstance(device, str | torch.device):
        raise TypeError(unknown)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as problem:
        raise ValueError(unknown) from problem
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(unknown)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}; PyTorch finds no CUDA card here.")
    return chosen


def float32_arithmetic(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions on a card are exact to float32, and repeatable.

    By default they round their inputs to TF32, which has 10 bits of mantissa instead of 23.

    Examples
    --------
    >>> with float32_arithmetic(torch.device("cpu")):
    ...     torch.nn.Conv2d(1, 1, 1, bias=False)(torch.zeros(1, 1, 1, 1)).item()
    0.0
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False
    )


def workers_on(device: torch.device, workers: int | None) -> int | None:
    """Return the number of worker threads: one on a card, which is one queue of work.

    Examples
    --------
    >>> workers_on(torch.device("cuda"), 8), workers_on(torch.device("cpu"), 8)
    (1, 8)
    """
    return workers if device.type == "cpu" else 1


def progress_bar(total: int, describe: str | None) -> tqdm:
    """Return a bar of so many steps, which is not shown without a text."""
    # Where a bar is wanted, TQDM_DISABLE=1 still turns it off, for logs and committed notebooks.
    hidden = {} if describe else {"disable": True}
    return tqdm(total=total, desc=describe, leave=False, **hidden)


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    threads: int = 1,
    describe: str | None = None,
) -> list[Result]:
    """Apply `function` to each item in worker threads and return the results in order.

    Parameters
    ----------
    function : callable
        Called once an item.
    items : sequence
        The items; each call must be independent of the others.
    workers : int, optional
        Number of worker threads. Default: the cores that this process may use.
    threads : int
        Threads of the kernels within each worker. With more than one, sums are taken in another
        order, so results are no longer the same to the last bit.
    describe : str, optional
        Text of the progress bar; no bar without it.

    Returns
    -------
    list
        `function(item)` for each item, in the order of `items`.

    Raises
    ------
    ValueError
        If `workers` is less than one.

    Notes
    -----
    The first exception, Ctrl-C included, cancels what has not begun and is raised once the calls in
    flight have ended.

    Examples
    --------
    >>> parallel_map(lambda number: number**2, [1, 2, 3], workers=2)
    [1, 4, 9]
    """
    items = list(items)
    used = min(_checked(workers), max(len(items), 1))
    bar = progress_bar(len(items), describe)

    def call(item: Item) -> Result:
        result = function(item)
        bar.update()
        return result

    with (
        bar,
        # Compiled code calls the BLAS library of numpy and scipy, whose number of threads is the
        # process's.
        threadpool_limits(threads, user_api="blas"),
        ThreadPoolExecutor(used, initializer=torch.set_num_threads, initargs=(threads,)) as pool,
    ):
        futures = [pool.submit(call, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            if not future.cancelled() and future.exception() is not None:
                raise future.exception()
        return [future.result() for future in futures]


def parallel_map_nested(
    function: Callable[[Item, int], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    describe: str | None = None,
) -> list[Result]:
    """Apply ``function(item, inner)``, which may itself use `inner` workers, to each item.

    With fewer items than workers, those that are left help within the items; the kernels of what
    is not divided up use as many threads.

    Parameters and errors are those of `parallel_map`.

    Examples
    --------
    >>> parallel_map_nested(lambda item, inner: (item, inner), ["a"], workers=2)
    [('a', 2)]
    """
    items = list(items)
    workers = _checked(workers)
    inner = max(workers // max(len(items), 1), 1)
    return parallel_map(
        lambda item: function(item, inner), items, workers=workers, threads=inner, describe=describe
    )


def _checked(workers: int | None) -> int:
    workers = available_cores() if workers is None else workers
    check_count("workers", workers)
    return int(workers)
