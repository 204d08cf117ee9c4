"""Experiments: plain values that name scores, the store that keeps them, and what sums them up."""

from tda_utils.experiments.experiment import Experiment
from tda_utils.experiments.studies import StudySummary, study_of

__all__ = ["Experiment", "StudySummary", "study_of"]
