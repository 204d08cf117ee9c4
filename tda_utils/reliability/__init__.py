r"""Reliability: what of a training data attribution score repeats, and what is noise.

A score tau(z_j, z) belongs to one trained model, and a trained model is one draw from a posterior.
The score is therefore a random variable, and what can be said about it comes from a sample of
models: its mean, its spread, and a test of whether the mean differs from zero at all. Everything
here starts from one labelled array, ``scores``, with dimensions ``(member, checkpoint, train,
test)`` (``checkpoint`` may be missing):

========================================= ======================================================
`summarise`                               mean, standard deviation, signal-to-noise ratio and p
`p_values`                                p alone, by a t-test or by the released code's formula
`snr_threshold`, `null_reference`         what these look like when scores are pure noise
`significant`                             which pairs stand out, many tests at once
`verdicts`, `contradictions`              a word for each pair; where two methods repeat opposites
`calibrated`, `right_held_out`            which signs are right, by a few retrainings?
`clearest_pairs`, `least_certain_pairs`   the two ends of the list
`false_sign_rate`                         how probable is it that a sign is not what it seems?
`held_out`                                do verdicts hold on members that they have not seen?
`mean_p_by_checkpoints`                   do more checkpoints help?
`sequential`                              are enough pairs decided to stop training members?
`seeds_needed`                            how many members does it take?
`variance_components`                     does the noise come from members or from checkpoints?
`crossed_components`, `variance_shares`   from initialisation, batch order, or checkpoints?
`one_run.own_confidence`                  how sure is a run of its own scores?
`overall.overall_reliability`             an experiment in five numbers, with intervals
`stability`                               would other members give the same mean?
`correlation_of_means`, `ceiling`         do two methods' means agree, and as far as they can?
`effective_pairs`                         how many pairs does seed noise move by themselves?
`top_lists`, `top_probability`            which samples lead a list, and how sure is that?
`rounding_share`, `defined_members`       how much of leave-one-out is rounding?
`null_ratio`                              how large is the floor beside it?
`agreement`                               do two methods tell one story, more than by chance?
`agreement_by_members`                    is leave-one-out broken, or just noisy?
`removal_signed`, `remove_drift`          scores that mean the same, before they are compared
`datamodelling_score`                     do summed scores order subsets as training does?
`removal_curves`, `smallest_group`        what leaving out a method's first samples does, and since
                                          how many of them it repeats
`distribution_shift`                      what a sample does to the mean and spread of a loss
========================================= ======================================================

The members are the independent draws. Checkpoints of one member follow each other along one
training run, so they are averaged within a member before any test; counting them as further
independent draws would make every p too small.

A training that diverged has scores that are no numbers. What becomes of them is the same in every
function: infinite scores are refused, with one sentence. A NaN gives NaN in its own pair of a
training and a test sample, and in no other; only a ranking of training samples is NaN for the whole
test sample. A number over pairs, such as a correlation, a share or
an interval, is that of the pairs that are complete, without NaN in any member, checkpoint or draw
of anything that is compared; it is NaN if none is left.

Scores may come from any library: only xarray, NumPy and SciPy are used here.

Source: E. Nguyen, M. Seo and S. J. Oh, "A Bayesian Perspective on Training Data Attribution",
NeurIPS 2023, arXiv 2305.19765.
"""

from tda_utils.face import lazy
from tda_utils.reliability.agreement import agreement
from tda_utils.reliability.by_members import agreement_by_members
from tda_utils.reliability.calibrate import calibrated, right_held_out
from tda_utils.reliability.distributions import changes_spread_only, distribution_shift
from tda_utils.reliability.effective import effective_pairs
from tda_utils.reliability.groups import (
    datamodelling_score,
    group_effects,
    group_scores,
    removal_curves,
    smallest_group,
)
from tda_utils.reliability.heldout import held_out
from tda_utils.reliability.overall import mean_p_by_checkpoints
from tda_utils.reliability.pairs import clearest_pairs, least_certain_pairs
from tda_utils.reliability.ranks import top_lists, top_probability
from tda_utils.reliability.rounding import defined_members, null_ratio, rounding_share
from tda_utils.reliability.seeds import seeds_needed
from tda_utils.reliability.sequential import sequential
from tda_utils.reliability.shrinkage import false_sign_rate
from tda_utils.reliability.significance import (
    NullReference,
    null_reference,
    p_values,
    significant,
    snr_threshold,
    summarise,
)
from tda_utils.reliability.signs import drift_share, removal_signed, remove_drift
from tda_utils.reliability.stability import ceiling, correlation_of_means, stability
from tda_utils.reliability.variance import crossed_components, variance_components, variance_shares
from tda_utils.reliability.words import contradictions, verdicts

__all__ = [
    "NullReference",
    "agreement",
    "agreement_by_members",
    "calibrated",
    "ceiling",
    "changes_spread_only",
    "clearest_pairs",
    "contradictions",
    "correlation_of_means",
    "crossed_components",
    "datamodelling_score",
    "defined_members",
    "distribution_shift",
    "drift_share",
    "effective_pairs",
    "false_sign_rate",
    "group_effects",
    "group_scores",
    "held_out",
    "least_certain_pairs",
    "mean_p_by_checkpoints",
    "null_ratio",
    "null_reference",
    "p_values",
    "removal_curves",
    "removal_signed",
    "remove_drift",
    "right_held_out",
    "rounding_share",
    "seeds_needed",
    "sequential",
    "significant",
    "smallest_group",
    "snr_threshold",
    "stability",
    "summarise",
    "top_lists",
    "top_probability",
    "variance_components",
    "variance_shares",
    "verdicts",
]

__getattr__, _ = lazy(
    __name__,
    {},
    {
        "noisiest_pairs": "tda_utils.reliability.least_certain_pairs",
        "overall_reliability": "tda_utils.reliability.overall.overall_reliability",
        "trusted_pairs": "tda_utils.reliability.clearest_pairs",
    },
)
