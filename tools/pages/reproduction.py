"""Write paper/REPRODUCTION.md: for each claim of the paper a verdict, by a rule and numbers.

No number is typed: all are computed from paper/tables and paper/numbers, and each verdict follows
from its rule. So a new result changes the verdict, not the other way round.

    python -m tools.pages.reproduction           write paper/REPRODUCTION.md
    python -m tools.pages.reproduction --check   exit with 1 if it would change
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

from tda_utils.data.load import DEFECTIVE_LISTS, load_task
from tda_utils.terms import PROTOCOLS
from tools import ROOT
from tools.pages import whole_set
from tools.pages.claims import CLAIMS, Finding, Results, interval
from tools.pages.filling import sentence, write_or_check

PAPER = ROOT / "paper"


def findings(folder: Path = PAPER) -> dict[int, dict[str, Finding]]:
    """Judge every claim under every protocol from the results in a folder.

    Returns
    -------
    dict
        ``{number of the claim, from 1: {protocol: finding}}``.
    """
    return {
        number: {protocol: claim.judge(Results(folder, protocol)) for protocol in PROTOCOLS}
        for number, claim in enumerate(CLAIMS, start=1)
    }


def verdict_of(by_protocol: Mapping[str, Finding]) -> str:
    """Sum up the verdicts of both protocols.

    Examples
    --------
    >>> same, other = (Finding(text, "", {}) for text in ("supported", "not supported"))
    >>> verdict_of({"paired": same, "released": same})
    'supported'
    >>> verdict_of({"paired": same, "released": other})
    'depends on the protocol (paired: supported; released: not supported)'
    """
    verdicts = {protocol: one.verdict for protocol, one in by_protocol.items()}
    if len(set(verdicts.values())) == 1:
        return next(iter(verdicts.values()))
    said = "; ".join(f"{protocol}: {verdict}" for protocol, verdict in verdicts.items())
    return f"depends on the protocol ({said})"


# ---------------- defects of the released code


def defects(folder: Path = PAPER) -> list[tuple[str, str, str]]:
    """Return (defect, measured effect, figure) of each defect of the released code."""
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
            "The drift that all training samples share is "
            f"{drift['share_one_model_median']['before']:.0%} of the variance of one model's scores"
            " (median); the correlation with leave-one-out from scratch is "
            f"{drift['pearson_with_retrained']['before']:.2f}, and "
            f"{drift['pearson_with_retrained']['after']:.2f} once the drift is removed.",
            "released_drift",
        ),
        (
            "The p-value has neither the square root of n nor a t distribution.",
            f"Noise gives a mean p of {test['null_mean_p']['released']:.3f}, not "
            f"{test['null_mean_p']['t']:.1f}; p < 0.05 asks for a ratio of mean to standard "
            "deviation of "
            f"{test['threshold']['released']:.2f} instead of {test['threshold']['t']:.2f}; of the "
            f"same LOO scores {test['fraction_significant']['LOO']['released']:.0%} instead of "
            f"{test['fraction_significant']['LOO']['t']:.0%} are significant.",
            "released_test",
        ),
        (
            "The influence recursion has a scale of 1e4 and a handful of steps.",
            "It returns a multiple of Grad-Dot: correlation "
            f"{influence['pearson_lissa_grad_dot']['lowest']:.5f} to "
            f"{influence['pearson_lissa_grad_dot']['highest']:.5f}; the residual of the equation "
            f"that it should solve is {influence['residual']['wanted_equation']:.0%} (solved: 0%).",
            "released_influence",
        ),
        (
            "The additional training step has a fresh Adam.",
            f"It is a sign step of length {ats['length']['adam']:.3f}, where the gradient step has "
            f"{ats['plain_length']['least']:.1e} to {ats['plain_length']['largest']:.1e}; weight "
            f"decay alone decides up to {ats['decided_by_weight_decay']['largest']:.0%} of the "
            "directions.",
            "released_ats",
        ),
        (
            "ATS and IF have up-weighting sign, the other methods removal sign.",
            "Pearson's correlation of means of IF and GD is "
            f"{signed['influence', 'grad_dot']:.2f}, of ATS and GC "
            f"{signed['ats', 'grad_cos']:.2f}.",
            "agreement",
        ),
        (
            "CIFAR-10's lists of 10, 30 and 40 of each class index the test split.",
            f"In this order {', '.join(map(str, lists))} of the training images are test images as "
            "well; with 10 of each class the mean p of LOO is "
            f"{_list_effect(Results(folder, 'paired'))} with sound lists.",
            "list_defect",
        ),
        (
            "One seed sets initialisation and batch order, and with 30 training samples an epoch is"
            " one batch.",
            "The sources of noise cannot be told apart. In the crossed design the share of the "
            f"batch order in LOO is {sources['shares']['loo']['order']:.0%}, of the initialisation "
            f"{sources['shares']['loo']['initialisation']:.0%}.",
            "variance_sources",
        ),
        (
            "Vision transformers are compared under random crops of the test images, with dropout "
            "on in the first one only, and with another initialisation and order in the second.",
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
    rows = results.loo(results.table("list_defect"), "mean_p")
    rows = rows[rows["per class"] == 10].set_index("panel")
    return (
        f"{interval(rows.loc['released lists'], False)} instead of "
        f"{interval(rows.loc['corrected lists'], False)}"
    )


# ---------------- the page


def page(folder: Path = PAPER) -> str:
    """Return the text of REPRODUCTION.md."""
    judged = findings(folder)
    parts = (
        _top(judged),
        _claims(judged),
        whole_set.section(folder),
        _defects(folder),
        _limits(folder),
    )
    lines = list(itertools.chain.from_iterable(parts))
    return "\n".join(lines).replace(" %", "\N{NO-BREAK SPACE}%")


def _top(judged: Mapping[int, Mapping[str, Finding]]) -> list[str]:
    lines = [
        "# What holds of the paper",
        "",
        "<!-- Generated by `make readme` from the committed tables; do not edit. -->",
        "",
        "Each claim of Nguyen, Seo and Oh (NeurIPS 2023) has a rule below that says beforehand",
        "what would support it. The verdict follows from the rule and the numbers of this package,",
        "under both protocols: `paired` computes what the definitions say, `released` what the",
        "authors' code computes. Intervals are 95 %, over members (claim 4: over initialisations",
        "and orders).",
        "",
        "LOO is leave-one-out, ATS one additional training step, IF influence, GD Grad-Dot and GC",
        "Grad-Cos. A study is named by data, training samples of each class and network, and *test",
        "images* is CIFAR-10 with the released list, which indexes the test split. Figures are",
        "named as in the gallery; terms are explained in the [glossary](../docs/glossary.md).",
        "",
        "| | claim | verdict |",
        "| --: | --- | --- |",
    ]
    for number, claim in enumerate(CLAIMS, start=1):
        lines.append(f"| {number} | {claim.text} | {verdict_of(judged[number])} |")
    return [*lines, ""]


def _claims(judged: Mapping[int, Mapping[str, Finding]]) -> list[str]:
    lines = ["## The evidence", ""]
    for number, claim in enumerate(CLAIMS, start=1):
        figures = ", ".join(f"`{name}`" for name in claim.figures)
        lines += [f"### {number}. {claim.text}", "", f"*Rule.* {claim.rule}", ""]
        for protocol, finding in judged[number].items():
            lines += [f"- **{protocol}: {finding.verdict}.** {sentence(finding.said)}"]
        lines += ["", f"*What decides.* {claim.decides}", "", f"*Figures.* {figures}", ""]
    return lines


def _defects(folder: Path) -> list[str]:
    lines = [
        "## Defects of the released code, and what each does",
        "",
        "| what it does | measured effect | figure |",
        "| --- | --- | --- |",
    ]
    return [
        *lines,
        *(
            f"| {what} | {effect.replace('%', ' %')} | `{figure}` |"
            for what, effect, figure in defects(folder)
        ),
        "",
    ]


def _limits(folder: Path) -> list[str]:
    lines = [
        "## At which size",
        "",
        "| study | protocol | members x checkpoints | trained on | attributed x test |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for protocol in PROTOCOLS:
        results = Results(folder, protocol)
        whole = results.numbers("full_mnist")
        sizes = results.numbers("by_size")["studies"] | {
            "all of MNIST, CNN2-L, gradient methods": whole,
            "all of MNIST, CNN2-L, LOO": whole
            | {"members": whole["loo members"], "attributed": whole["loo samples"]},
        }
        for name, size in sizes.items():
            lines.append(
                f"| {name} | {protocol} | {size['members']} x {size['checkpoints']} | "
                f"{size['train']:,} | {size['attributed']} x {size['test']} |"
            )
    return [
        *lines,
        "",
        "## What could not be done",
        "",
        "- The numbers in the paper's tables were not at hand, so nothing here is compared with",
        "  them; claims are taken from the paper's text.",
        "- The studies above are what two CPU cores could do in hours, and one GPU for all of",
        "  MNIST. The paper has ten members, all pairs and more studies; `bayes-tda run --all",
        "  --size paper` has its size.",
        "- The released code does not run as it is, and it has no scripts for the single sources",
        "  of noise, for CNN3-L and for all of MNIST; `released` there applies its procedures.",
        "",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write REPRODUCTION.md, or check it; return the exit code."""
    summary = __doc__.splitlines()[0]
    return write_or_check(PAPER / "REPRODUCTION.md", lambda _: page(), summary, arguments)


if __name__ == "__main__":
    sys.exit(main())
