"""Plots: the figures of the paper, and an explorer of pairs, from scores and summaries.

Every function returns its figure, a matplotlib ``Figure`` or an Altair chart, with alternative text
in which the main numbers are computed from what is drawn (`tda_utils.outputs.alt_text`). Nothing is
left behind in pyplot. `tda_utils.outputs` shows and saves them.

============================ ===================================================================
`concept`                    one score is one draw: the posterior of tau for two train-test pairs
`tau_histograms`             the same, small, for several methods
`face_to_face`               the pairs with the smallest p, as pictures
`images`                     a row of pictures
`mean_against_std`           every pair: is the mean larger than the noise?
`reliability_map`            train x test: which pairs differ from zero, and where do they lie?
`rank_change`                the "most helpful" training samples under one seed and under another
`p_by_checkpoints`           mean p against the number of checkpoints
`significant_fractions`      how many pairs are significant, before and after correction
`agreement_matrices`         correlations between methods
`agreement_by_study`         the same correlations in several experiments
`agreement_by_members`       is leave-one-out broken, or just noisy?
`reliability_by`             mean p and significant pairs by training-set size, or by model
`reliability_by_checkpoints` the same in several experiments, by the checkpoints averaged
`full_set`                   what is left of one sample's influence among very many
`floor_by_steps`             how far rounding alone moves a training, beside leaving a sample out
`remedies_by_steps`          how far the derivative through training tells what leave-one-out does
`weight_paths`               the loss against a sample's weight, and its derivative
`groups_by_size`             what leaving out groups does, and how well scores foretell it
`noise_sources`              which source the noise of each method comes from
`choose_two`                 Altair: two methods against each other, chosen by menus
`explore_pairs`              Altair: select pairs, see their p-values and pictures
`STYLE`, `LOOKS`, ...        the look of all of them, for drawings of one's own
============================ ===================================================================

Figures that one notebook asks for are in modules of their own, to be imported by name:

================= ==============================================================================
`removals`        one prediction, and what each removal does to it
`estimators`      estimators laid beside leave-one-out, for one model
`seeds`           two models that differ in their seed, or in one half of it
`ensembles`       how members and checkpoints differ, and what a test may count
`released`        what the released code computes, beside what the definitions say
`crossed`         every initialisation with every batch order
================= ==============================================================================

Source of the figures' content: E. Nguyen, M. Seo and S. J. Oh, "A Bayesian Perspective on Training
Data Attribution", NeurIPS 2023, arXiv 2305.19765.
"""

from tda_utils.face import lazy
from tda_utils.plots.explore import choose_two, explore_pairs
from tda_utils.plots.floor import floor_by_steps
from tda_utils.plots.groups import groups_by_size
from tda_utils.plots.look import FAINT, INK, LOOKS, SOFT, STYLE, TEXT_WIDTH
from tda_utils.plots.maps import mean_against_std, rank_change, reliability_map
from tda_utils.plots.members import agreement_by_members
from tda_utils.plots.methods import (
    agreement_matrices,
    full_set,
    p_by_checkpoints,
    significant_fractions,
)
from tda_utils.plots.pairs import concept, face_to_face, tau_histograms
from tda_utils.plots.pictures import images
from tda_utils.plots.remedies import remedies_by_steps, weight_paths
from tda_utils.plots.studies import (
    agreement_by_study,
    noise_sources,
    reliability_by,
    reliability_by_checkpoints,
)

__all__ = [
    "FAINT",
    "INK",
    "LOOKS",
    "SOFT",
    "STYLE",
    "TEXT_WIDTH",
    "agreement_by_members",
    "agreement_by_study",
    "agreement_matrices",
    "choose_two",
    "concept",
    "explore_pairs",
    "face_to_face",
    "floor_by_steps",
    "full_set",
    "groups_by_size",
    "images",
    "mean_against_std",
    "noise_sources",
    "p_by_checkpoints",
    "rank_change",
    "reliability_by",
    "reliability_by_checkpoints",
    "reliability_map",
    "remedies_by_steps",
    "significant_fractions",
    "tau_histograms",
    "weight_paths",
]

_OF_OUTPUTS = ("alt_text", "save", "save_numbers", "save_table", "show", "with_alt")
__getattr__, _ = lazy(
    __name__,
    {},
    {
        "variance_shares": "tda_utils.plots.noise_sources",
        **{name: f"tda_utils.outputs.{name}" for name in _OF_OUTPUTS},
    },
)
