"""Write paper/REPRODUCTION.md: for each claim of the paper a verdict, by a rule and numbers.

No number is typed: all are computed from paper/studies, paper/tables and paper/numbers, and each
verdict follows from its rule. So a new result changes the verdict, not the other way round.

    python -m tools.pages.reproduction           write paper/REPRODUCTION.md
    python -m tools.pages.reproduction --check   exit with 1 if it would change
"""

from __future__ import annotations

import sys
from pathlib import Path

from tda_utils.data.load import DEFECTIVE_LISTS, load_task
from tda_utils.terms import PROTOCOLS
from tools import ROOT
from tools.pages import studies, verdicts, whole_set
from tools.pages.evidence import Evidence, read_evidence
from tools.pages.filling import write_or_check
from tools.pages.results import Results

PAPER = ROOT / "paper"
#: What a difference of the released code is: a mistake, or an answer to another question.
DEFECT, QUESTION = "defect", "another question"


# ---------------- differences of the released code


def defects(folder: Path = PAPER) -> list[tuple[str, str, str, str]]:
    """Return (what it does, what it is, measured effect, figure) of the released code."""
    released = Results(folder, "released")
    drift, influence = released.numbers("released_drift"), released.numbers("released_influence")
    test, ats = released.numbers("released_test"), released.numbers("released_ats")
    signed = released.table("agreement").query("quantity == 'mean' and kind == 'pearson'")
    signed = signed.set_index(["method", "other"])["correlation"]
    sources = released.numbers("variance_sources")
    wide = released.numbers("released_vit")
    errors = wide["times_leave_one_out"]
    lists = []
    for size in DEFECTIVE_LISTS["cifar10"]:
        kept = load_task("cifar10", per_class=size, lists="released").n_test
        lists.append(load_task("cifar10", per_class=size, lists="corrected").n_test - kept)
    return [
        (
            "Leave-one-out goes on training from each checkpoint, with the loss of the sample left "
            "out set to zero, and subtracts the loss before that.",
            DEFECT,
            "The drift that all training samples share is "
            f"{drift['share_one_model_median']['before']:.0%} of the variance of one model's scores"
            " (median); the correlation with leave-one-out from scratch is "
            f"{drift['pearson_with_retrained']['before']:.2f}, and "
            f"{drift['pearson_with_retrained']['after']:.2f} once the drift is removed.",
            "released_drift",
        ),
        (
            "The p-value has neither the square root of n nor a t distribution: it asks whether "
            "one model can be trusted, as the authors' README says, not whether the mean differs "
            "from zero.",
            QUESTION,
            "Read as a test of the mean, noise gives a mean p of "
            f"{test['null_mean_p']['released']:.3f}, not "
            f"{test['null_mean_p']['t']:.1f}; p < 0.05 asks for a ratio of mean to standard "
            "deviation of "
            f"{test['threshold']['released']:.2f} instead of {test['threshold']['t']:.2f}; of the "
            f"same LOO scores {test['fraction_significant']['LOO']['released']:.0%} instead of "
            f"{test['fraction_significant']['LOO']['t']:.0%} are significant.",
            "released_test",
        ),
        (
            "The influence recursion has a scale of 1e4 and a handful of steps.",
            DEFECT,
            "It returns a multiple of Grad-Dot: correlation "
            f"{influence['pearson_lissa_grad_dot']['lowest']:.5f} to "
            f"{influence['pearson_lissa_grad_dot']['highest']:.5f}; the residual of the equation "
            f"that it should solve is {influence['residual']['wanted_equation']:.0%} (solved: 0%).",
            "released_influence",
        ),
        (
            "The additional training step has a fresh Adam.",
            QUESTION,
            f"It is a sign step of length {ats['length']['adam']:.3f}, where the gradient step has "
            f"{ats['plain_length']['least']:.1e} to {ats['plain_length']['largest']:.1e}; weight "
            f"decay alone decides up to {ats['decided_by_weight_decay']['largest']:.0%} of the "
            "directions.",
            "released_ats",
        ),
        (
            "ATS and IF have up-weighting sign, the other methods removal sign.",
            DEFECT,
            "Pearson's correlation of means of IF and GD is "
            f"{signed['influence', 'grad_dot']:.2f}, of ATS and GC "
            f"{signed['ats', 'grad_cos']:.2f}.",
            "agreement",
        ),
        (
            "CIFAR-10's lists of 10, 30 and 40 of each class index the test split.",
            DEFECT,
            f"In this order {', '.join(map(str, lists))} of the training images are test images as "
            "well; with 10 of each class the mean p of LOO is "
            f"{_list_effect(Results(folder, 'paired'))} with sound lists.",
            "list_defect",
        ),
        (
            "One seed sets initialisation and batch order, and with 30 training samples an epoch is"
            " one batch.",
            QUESTION,
            "The sources of noise cannot be told apart. In the crossed design the share of the "
            f"batch order in LOO is {sources['shares']['loo']['order']:.0%}, of the initialisation "
            f"{sources['shares']['loo']['initialisation']:.0%}.",
            "variance_sources",
        ),
        (
            "Vision transformers are compared under random crops of the test images, with dropout "
            "on in the first one only, and with another initialisation and order in the second.",
            DEFECT,
            "With nothing left out, the losses differ by "
            f"{wide['median']['all three']:.2g} nats (median), {errors['all three']:.1f} times the "
            f"leave-one-out scores of that model; crops alone by {errors['other crops']:.1f} times,"
            f" initialisation and order by {errors['other initialisation and order']:.1f} times, "
            f"dropout by {errors['dropout on']:.2f} times (backbone {wide['backbone']}, "
            f"{wide['image_size']} pixels).",
            "released_vit",
        ),
    ]


def _list_effect(results: Results) -> str:
    table = results.table("list_defect").query("method == 'LOO' and measure == 'mean_p'")
    rows = table[table["per class"] == 10].set_index("panel")
    said = (
        f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        for row in (rows.loc["released lists"], rows.loc["corrected lists"])
    )
    return " instead of ".join(said)


# ---------------- the page


def page(folder: Path = PAPER) -> str:
    """Return the text of REPRODUCTION.md."""
    evidence = read_evidence(folder)
    names = studies.names_of(evidence, folder)
    lines = [
        *_top(evidence),
        *verdicts.sections(evidence),
        *studies.other_seeds(evidence),
        *studies.other_lists(evidence),
        *studies.other_samples(evidence),
        *studies.floors(evidence),
        *whole_set.section(folder),
        *_defects(folder),
        *_limits(evidence, folder),
        *studies.times(evidence, names),
        *studies.commands(names),
        *_not_done(evidence),
    ]
    return "\n".join(lines).replace(" %", "\N{NO-BREAK SPACE}%")


def _top(evidence: Evidence) -> list[str]:
    return [
        "# Which claims of the paper hold",
        "",
        "<!-- Generated by `make readme` from the committed results; do not edit. -->",
        "",
        "Each claim of Nguyen, Seo and Oh (NeurIPS 2023) has a rule below that says beforehand",
        "what would support it, what would refute it, and when neither is decided. The verdict",
        "follows from the rule and the numbers of this package, under both protocols: `paired`",
        "computes what the definitions say, `released` what the authors' code computes, and",
        "*drift removed* that without the drift of continued training. Intervals are 95 %, over",
        "members (claim 4: over initialisations and orders).",
        "",
        "LOO is leave-one-out, ATS one additional training step, IF influence, GD Grad-Dot and GC",
        "Grad-Cos. A study is named by data, training samples of each class and network, and *test",
        "images* is CIFAR-10 with the released list, which indexes the test split. Figures are",
        "named as in the gallery; terms are explained in the [glossary](../docs/glossary.md).",
        "Verdicts that version 0.1 had otherwise are listed in",
        "[What we got wrong](../docs/corrections.md).",
        "",
        "*Where decided* means that other studies leave the question open; a claim with several",
        "parts has a verdict on each, by letter.",
        "",
        *verdicts.summary(evidence),
    ]


def _defects(folder: Path) -> list[str]:
    rows = (
        (what, kind, effect.replace("%", " %"), f"`{figure}`")
        for what, kind, effect, figure in defects(folder)
    )
    return [
        "## What the released code does otherwise",
        "",
        "A *defect* makes a number wrong that is meant to be something else. *Another question* is",
        "answered rightly, but is not the one that the definitions ask.",
        "",
        *verdicts.table(("what it does", "it is", "measured effect", "figure"), rows, left=4),
    ]


def _limits(evidence: Evidence, folder: Path) -> list[str]:
    rows = studies.sizes(evidence)
    for protocol in PROTOCOLS:
        whole = Results(folder, protocol).numbers("full_mnist")
        of_loo = {"members": whole["loo members"], "attributed": whole["loo samples"]}
        parts = {"gradient methods": whole, "LOO": whole | of_loo}
        for part, size in parts.items():
            numbers = [
                f"{size['members']} x {size['checkpoints']}",
                f"{size['train']:,}",
                f"{size['attributed']} x {size['test']}",
            ]
            name = f"all of MNIST, CNN2-L, {part}"
            rows.append([name, protocol, *numbers, "float32", verdicts.NONE])
    header = ["study", "protocol", "members x checkpoints", "trained on", "attributed x test"]
    return [
        "## At which size",
        "",
        *verdicts.table([*header, "precision", "floor"], rows, left=2),
        verdicts.MARKED,
        "",
    ]


def _not_done(evidence: Evidence) -> list[str]:
    lines = [
        "## What could not be done",
        "",
        "- The numbers in the paper's tables were not at hand, so nothing here is compared with",
        "  them; claims are taken from the paper's text.",
        "- The studies above are what two CPU cores could do in hours, and one GPU for all of",
        "  MNIST. The paper has ten members, all pairs and more studies; `bayes-tda run --all",
        "  --size paper` has its size.",
        "- The released code does not run as it is, and it has no scripts for the single sources",
        "  of noise, for CNN3-L and for all of MNIST; `released` there applies its procedures.",
    ]
    if evidence.older:
        lines += [
            f"- {len(evidence.older)} summaries of studies are of an older format, and are not",
            "  judged until they are computed again.",
        ]
    return [*lines, ""]


def main(arguments: list[str] | None = None) -> int:
    """Write REPRODUCTION.md, or check it; return the exit code."""
    summary = __doc__.splitlines()[0]
    return write_or_check(PAPER / "REPRODUCTION.md", lambda _: page(), summary, arguments)


if __name__ == "__main__":
    sys.exit(main())
