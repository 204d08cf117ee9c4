"""The pages of the API reference: one for each wing, and a list of the public names."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import tda_utils


def modules() -> list[str]:
    """Return the names of the package and its modules.

    Examples
    --------
    >>> modules()[:2]
    ['tda_utils', 'tda_utils.arrays']
    """
    found = pkgutil.walk_packages(tda_utils.__path__, "tda_utils.")
    # A package's __main__ is a command: importing it runs it.
    return ["tda_utils", *(one.name for one in found if not one.name.endswith("__main__"))]


def home(name: str) -> str:
    """Return the full name under which the reference documents a public name.

    Examples
    --------
    >>> home("Experiment"), home("PAPER_SEEDS")
    ('tda_utils.experiments.experiment.Experiment', 'tda_utils.posterior.PAPER_SEEDS')
    """
    thing = getattr(tda_utils, name)
    if isinstance(thing, ModuleType):
        return thing.__name__
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    # A value does not know where it was made; it is where its name is written.
    for module in modules()[1:]:
        if f"\n{name}" in inspect.getsource(importlib.import_module(module)):
            return f"{module}.{name}"
    raise ValueError(f"{name} is public, but no module of tda_utils defines it.")


def wings() -> dict[str, list[str]]:
    """Return for each wing, and each module beside the wings, the modules that it holds.

    Examples
    --------
    >>> wings()["tda_utils.data"][-2:]
    ['tda_utils.data.sources', 'tda_utils.data.task']
    """
    found: dict[str, list[str]] = {}
    for module in modules()[1:]:
        wing = ".".join(module.split(".")[:2])
        found.setdefault(wing, []).extend([module] if module != wing else [])
    return found


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page of the reference and its text, in reStructuredText."""
    yield "index", _index()
    for wing, inside in wings().items():
        parts = [_module(wing, "=", wing), *(_module(one, "-", wing) for one in inside)]
        yield wing, "\n".join(parts)


def _index() -> str:
    lines = [
        _heading("Reference"),
        "After ``import tda_utils as tda`` these names are at hand; each leads to its description, "
        "with parameters, shapes and an example. Below them are the modules.",
        "",
        ".. list-table::",
        "   :widths: auto",
        "",
    ]
    for name in sorted(tda_utils.__all__, key=str.lower):
        full = home(name)
        role = "mod" if isinstance(getattr(tda_utils, name), ModuleType) else "obj"
        lines += [f"   * - :py:{role}:`tda.{name} <{full}>`", f"     - {_summary(name)}"]
    listed = [f"   {wing.removeprefix('tda_utils.')} <{wing}>" for wing in wings()]
    lines += ["", _heading("Modules", "-"), ".. toctree::", "   :maxdepth: 1", "", *listed, ""]
    return "\n".join(lines)


def _module(module: str, line: str, wing: str) -> str:
    # What a module takes in from another one is described with that one.
    options = ["   :ignore-module-all:", "   :members:", "   :show-inheritance:", ""]
    name = module if module == wing else module.removeprefix(f"{wing}.")
    return "\n".join([_heading(f"``{name}``", line), f".. automodule:: {module}", *options])


def _heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def _comment(name: str) -> str:
    """Return what the comment above a public value says of it."""
    source = inspect.getsource(importlib.import_module(home(name).rpartition(".")[0]))
    lines = source.partition(f"\n{name}")[0].splitlines()
    said = itertools.takewhile(lambda line: line.startswith("#: "), reversed(lines))
    return " ".join(line.removeprefix("#: ") for line in reversed(list(said)))


def _summary(name: str) -> str:
    """Return the first sentence of the documentation."""
    thing = getattr(tda_utils, name)
    described = isinstance(thing, ModuleType) or inspect.isclass(thing) or inspect.isfunction(thing)
    if not described:
        return f"{_comment(name)} They are {', '.join(map(str, thing))}."
    return inspect.getdoc(thing).partition("\n\n")[0].replace("\n", " ")
