"""Reproduce the paper: the manifest of its figures, and the command line that carries it out."""

from tda_utils.face import lazy

_HOMES = {"tda_utils.reproduce.cli": ("main",)}

__all__ = ["main"]
__getattr__, __dir__ = lazy(__name__, _HOMES, {})
