"""Can this training data attribution be trusted, or is it noise?

A trained model is a sample from a posterior, so the attribution tau(z_j, z) of a training sample
z_j to the prediction on z is a random variable. This package trains the samples, computes five
attributions on each, and says which pairs stand out from the noise.
"""

import importlib
from types import ModuleType

from tda_utils.attribution import (
    METHODS,
    ats,
    attribute,
    drift_share,
    grad_cos,
    grad_dot,
    influence,
    loo,
    removal_signed,
    remove_drift,
)
from tda_utils.data import Task, load_task
from tda_utils.experiment import Experiment
from tda_utils.models import model_builder
from tda_utils.posterior import PAPER_SEEDS, Posterior, sample_posterior
from tda_utils.reliability import (
    agreement,
    mean_p_by_checkpoints,
    noisiest_pairs,
    null_reference,
    overall_reliability,
    p_values,
    significant,
    summarise,
    trusted_pairs,
    variance_components,
    variance_shares,
)
from tda_utils.studies import sum_up, summary_file
from tda_utils.training import Recipe

__all__ = [
    "METHODS",
    "PAPER_SEEDS",
    "Experiment",
    "Posterior",
    "Recipe",
    "Task",
    "agreement",
    "ats",
    "attribute",
    "drift_share",
    "grad_cos",
    "grad_dot",
    "influence",
    "load_task",
    "loo",
    "mean_p_by_checkpoints",
    "model_builder",
    "noisiest_pairs",
    "null_reference",
    "outputs",
    "overall_reliability",
    "p_values",
    "plots",
    "removal_signed",
    "remove_drift",
    "sample_posterior",
    "significant",
    "sum_up",
    "summarise",
    "summary_file",
    "trusted_pairs",
    "variance_components",
    "variance_shares",
]
__version__ = "0.2.0"


def __getattr__(name: str) -> ModuleType:
    """Load what draws pictures when it is first asked for: it is a third of the loading time."""
    if name in ("outputs", "plots"):
        return importlib.import_module(f"tda_utils.{name}")
    raise AttributeError(f"module 'tda_utils' has no attribute {name!r}")
