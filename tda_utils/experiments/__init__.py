"""Experiments: plain values that name scores, the store that keeps them, and what sums them up.

Names load on first use, so that provenance and store can be had without PyTorch.
"""

from tda_utils.face import lazy

_HOMES = {
    "tda_utils.experiments.experiment": ("Experiment",),
    "tda_utils.experiments.studies": ("StudySummary", "study_of"),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)
__getattr__, __dir__ = lazy(__name__, _HOMES, {})
