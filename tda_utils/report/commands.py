"""The commands ``bayes-tda judge`` and ``bayes-tda validate``.

Files of scores and samples are data. Only what the command line itself names as code, with
``--model`` and ``--task``, is run.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tda_utils.report import exchange, making
from tda_utils.report.adapters import arrays
from tda_utils.texts import UnfitFile, brief_problem, read_plain


def validate(options: argparse.Namespace) -> int:
    """Say what a file holds, or what is wrong with it; 2 if it is unfit."""
    problems, remarks = exchange.validate(options.file, train=options.train, test=options.test)
    for sentence in remarks:
        print(sentence)
    for sentence in problems:
        print(f"bayes-tda: error: {sentence}", file=sys.stderr)
    if not problems:
        print(f"{options.file} is fit to be judged.")
    return 2 if problems else 0


def judge(options: argparse.Namespace) -> int:
    """Write a report on files of scores, or on a folder of checkpoints; 2 for bad input."""
    try:
        scores, task = _judged(options)
        given = {
            "methods": options.methods,
            "train_samples": options.train_samples and _samples(options.train_samples),
            "test_samples": options.test_samples and _samples(options.test_samples),
            "class_names": options.class_names
            and read_plain(options.class_names).decode("utf-8").splitlines(),
        }
        if options.title is not None:
            given["title"] = options.title
        report = making.report(scores, task, **given)
    except FileNotFoundError as problem:
        print(f"bayes-tda: error: {problem.filename!r} is not there.", file=sys.stderr)
        return 2
    except (ValueError, TypeError) as problem:
        print(f"bayes-tda: error: {brief_problem(problem)}.", file=sys.stderr)
        return 2
    path = report.save(options.output)
    print(report.sentence)
    for sentence in report.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"report: {path}, tables: {path.with_name(f'{path.stem}_tables')}")
    return 0


def _judged(options: argparse.Namespace) -> tuple[Any, Any]:
    task = options.task and _named(options.task)()
    if options.model is None:
        found = {}
        for path in options.scores:
            one = exchange.named(
                exchange.load_scores(path, options.dims, train=options.train, test=options.test)
            )
            if twice := found.keys() & one.keys():
                raise ValueError(
                    f"{str(path)!r} has the method {min(twice)!r}, which another file has, too; "
                    "judge them one by one, or give them other names."
                )
            found |= one
        return found, task
    if task is None:
        raise ValueError("--task is left out; with --model it names what gives the task.")
    if len(options.scores) != 1:
        raise ValueError("with --model name one folder of checkpoints, one folder a member in it.")
    from tda_utils.posterior import Posterior

    return Posterior.from_folder(_named(options.model)(), options.scores[0]), task


def _named(text: str) -> Callable[[], Any]:
    """Return what ``FILE.py:NAME`` on the command line names; the file is run."""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"{text!r} must be FILE.py:NAME, such as mine.py:build.")
    if not Path(file).is_file():
        raise ValueError(f"{file!r} is not there.")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(file).resolve().parent))
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{file!r} has no function {name!r}.")
    return found


def _samples(path: Path) -> Any:
    """Read pictures, texts or rows."""
    if path.suffix == ".txt":
        return read_plain(path).decode("utf-8").splitlines()
    if path.suffix == ".csv":
        try:
            return pd.read_csv(io.BytesIO(read_plain(path)))
        except ValueError as problem:
            raise UnfitFile(f"{str(path)!r}: {brief_problem(problem)}.") from problem
    if path.suffix == ".npy":
        return np.asarray(arrays.read_array(path))
    raise UnfitFile(f"{str(path)!r} must end in .npy (pictures), .txt (texts) or .csv (rows).")
