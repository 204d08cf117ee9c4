"""Can this training data attribution be trusted, or is it noise?

A trained model is a sample from a posterior, so the attribution tau(z_j, z) of a training sample
z_j to the prediction on z is a random variable. This package trains the samples, computes six
attributions on each, and says which pairs stand out from the noise.
"""

from tda_utils.face import lazy

__version__ = "0.2.0"

#: Where each name lives; it is loaded on first use, so that judging scores needs no PyTorch.
_HOMES = {
    "tda_utils": "outputs plots report",
    "tda_utils.attribution": "METHODS ats attribute grad_cos grad_dot influence subsets unrolled",
    "tda_utils.data": "Objective Task load_task",
    "tda_utils.engine.recipe": "Recipe",
    "tda_utils.experiments.experiment": "Experiment",
    "tda_utils.experiments.heldout": "held_out_of",
    "tda_utils.experiments.kept": "floor loo retrain",
    "tda_utils.experiments.names": "STUDY_METHODS",
    "tda_utils.experiments.studies": "study_of",
    "tda_utils.models": "model_builder",
    "tda_utils.posterior": "HUNDRED_SEEDS PAPER_SEEDS Posterior sample_posterior",
    "tda_utils.reliability": (
        "agreement agreement_by_members calibrated changes_spread_only clearest_pairs "
        "contradictions crossed_components datamodelling_score defined_members distribution_shift "
        "drift_share false_sign_rate group_effects group_scores held_out least_certain_pairs "
        "mean_p_by_checkpoints null_ratio null_reference p_values removal_curves removal_signed "
        "remove_drift right_held_out rounding_share seeds_needed sequential significant "
        "smallest_group summarise top_lists top_probability variance_components variance_shares "
        "verdicts"
    ),
    "tda_utils.report.exchange": "load_scores save_scores to_dataframe",
    "tda_utils.report.signs": "judge_sign",
}
_RENAMED = {
    "crops": "tda_utils.engine.noise",
    "experiment": "tda_utils.experiments.experiment",
    "explorer": "tools.explorer.page, no part of the package",
    "fused": "tda_utils.engine.fused",
    "kernels": "tda_utils.engine.kernels",
    "learners": "tda_utils.engine.modules, tda_utils.engine.noise and tda_utils.models.states",
    "manifest": "tda_utils.reproduce.manifest and tda_utils.reproduce.notebook",
    "noisiest_pairs": "tda_utils.least_certain_pairs",
    "overall_reliability": "tda_utils.reliability.overall.overall_reliability",
    "parallel": "tda_utils.engine.parallel",
    "provenance": "tda_utils.experiments.provenance",
    "stacked": "tda_utils.engine.stacked",
    "store": "tda_utils.experiments.store",
    "studies": "tda_utils.experiments.studies",
    "sum_up": "tda_utils.study_of",
    "summary_file": "the method tda_utils.Experiment.study_file",
    "training": "tda_utils.engine.training, tda_utils.engine.recipe and tda_utils.engine.noise",
    "trusted_pairs": "tda_utils.clearest_pairs",
    "vision_transformer": "tda_utils.models.vision_transformer",
    "work": "tda_utils.reproduce.work",
}

__all__ = sorted(name for names in _HOMES.values() for name in names.split())
__getattr__, __dir__ = lazy(__name__, _HOMES, _RENAMED)
