"""The edge of a process: what stops it from outside is said in one sentence, and is no traceback.

A command that is interrupted, whose reader goes away, whose disk is full, or that was started with
closed streams or few open files ends with the exit status that a shell expects. What is wrong in
the program itself still shows where.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

#: As if the signal had ended the process: 128 and its number.
INTERRUPTED, NO_READER = 128 + 2, 128 + 13
#: The names of what is guarded, and the signals that came.
GUARDED: list[str] = []
SIGNALS: list[int] = []
#: Enough for the libraries and a kernel; some systems allow fewer until one asks.
OPEN_FILES = 1024


def guard(name: str) -> None:
    """Let this process end in a sentence where something outside stops it.

    It is for the beginning of a command, before what takes long to import.

    Parameters
    ----------
    name : str
        What the sentences begin with.
    """
    GUARDED.append(name)
    _open_closed_streams()
    _allow_open_files()

    def excepthook(
        kind: type[BaseException], problem: BaseException, trace: TracebackType | None
    ) -> None:
        code, said = verdict(KeyboardInterrupt() if SIGNALS else problem)
        if code is None:
            sys.__excepthook__(kind, problem, trace)
        else:
            _end(code, said and f"{name}: {said}")

    def unraisablehook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
        elif sys.is_finalizing() or not hasattr(signal, "setitimer"):
            _end(INTERRUPTED)
        else:  # It came where nothing can be raised: again, in a moment.
            signal.signal(signal.SIGALRM, _note)
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError) as problem:
            code, said = verdict(problem)
            _end(code or 1, said and f"{name}: {said}")

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, _note)
    # Registered first, so called last; Python would flush later still, and show a traceback.
    atexit.register(flush)


def interrupted(sentence: str) -> int:
    """Say that a command was interrupted; a guarded process ends here, any other gets 130."""
    print(f"\n{sentence}", file=sys.stderr)
    if GUARDED:
        _end(INTERRUPTED)  # threads and kernels that are left would have the last word otherwise
    return INTERRUPTED


def few_open_files(needed: int) -> str:
    """Say that the process may open fewer files at once than a command needs, or nothing.

    Examples
    --------
    >>> few_open_files(1)
    ''
    """
    try:
        import resource
    except ImportError:  # Windows
        return ""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return ""
    return f"{needed} open files are needed at least, and `ulimit -n` allows {allowed}."


def guard_if_run(package: str) -> None:
    """Guard ``python -m package.module``, which imports the package first; nothing otherwise."""
    if sys.argv[:1] == ["-m"]:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        guard(module.removeprefix(f"{package}."))


def verdict(problem: BaseException) -> tuple[int | None, str]:
    """Return exit status and sentence for what stopped a process, or None if it is a mistake here.

    Examples
    --------
    >>> verdict(KeyboardInterrupt())
    (130, 'interrupted.')
    >>> verdict(OSError(errno.ENOSPC, "No space left on device", "tau.csv"))
    (1, "error: [Errno 28] No space left on device: 'tau.csv'.")
    >>> verdict(KeyError("tau"))
    (None, '')
    """
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED, "interrupted."
    if isinstance(problem, BrokenPipeError):
        return NO_READER, ""
    if isinstance(problem, MemoryError):
        return 1, "error: there is not enough memory."
    too_many = os.strerror(errno.EMFILE) in str(problem)  # a library that could not be loaded
    if isinstance(problem, OSError | ModuleNotFoundError) or too_many:
        return 1, f"error: {' '.join(str(problem).split()).rstrip('.')}."
    return None, ""


def _note(number: int, frame: FrameType | None) -> NoReturn:
    """Interrupt, and keep that in mind: some libraries make an ImportError of it."""
    SIGNALS.append(number)
    raise KeyboardInterrupt


def _end(code: int, sentence: str = "") -> NoReturn:
    """Leave without the rest of Python's own end, which a broken stream would fail in."""
    if sentence:
        with suppress(OSError, ValueError):
            print(sentence, file=sys.stderr, flush=True)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


def _open_closed_streams() -> None:
    """Open nothing in place of a closed stream, whose number the next file would get."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number)
            os.set_inheritable(number, True)
            if nothing != number:
                os.close(nothing)
            setattr(sys, name, open(number, mode, closefd=False))


def _allow_open_files() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
