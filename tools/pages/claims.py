"""The claims of the paper: of each the questions that it asks, and the rule that decides each.

A rule reads the committed summaries of studies, and types no number but its borders: a new result
changes the verdict, not the other way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tda_utils.experiments.names import STUDY_METHODS
from tda_utils.terms import METHOD_LABELS
from tools.pages import rules
from tools.pages.evidence import (
    DATA,
    FEW_MEMBERS,
    LEAST_CROSSED,
    LEAST_SAMPLES,
    MODELS,
    Evidence,
    Number,
    Study,
    difference,
)

ESTIMATORS = tuple(method for method in STUDY_METHODS if method != "loo")
#: Which source of noise the study with these names has; the order of the table.
SOURCES = ("initialisation", "order", "interaction")
#: Training samples of each class, in any study.
SIZES = (10, 20, 30, 40, 50, 60)

OFTEN, RARE, MOSTLY = 0.5, 0.1, 0.9
LOW, ALIKE, RELIABLE = 0.5, 0.9, 0.8


@dataclass(frozen=True)
class View:
    """A protocol, and which of its leave-one-out scores are looked at."""

    name: str
    protocol: str
    loo: str = "loo"


PAIRED, RELEASED = View("paired", "paired"), View("released", "released")
WITHOUT_DRIFT = View("released, drift removed", "released", "loo_without_drift")
PROTOCOL_VIEWS = (PAIRED, RELEASED)
VIEWS = (*PROTOCOL_VIEWS, WITHOUT_DRIFT)


# ---------------- tables of evidence

#: What is made of a number that stands in a file, by the number of members.
CHANGES: dict[str, Callable[[Number, int], Number]] = {
    "": lambda number, members: number,
    "R / (n - (n - 1) R)": lambda number, n: number.mapped(lambda r: r / (n - (n - 1) * r)),
    "other sign": lambda number, members: -number,
}


@dataclass(frozen=True)
class Column:
    """A column of a table: where its numbers stand in a study's file, and how they are written."""

    title: str
    #: Keys, with ``{loo}``, ``{members}`` and ``{last}``; "A - B" is the difference of two.
    path: str
    #: "percent", "p" (three decimals) or "correlation" (two).
    form: str
    change: str = ""

    def place(self, study: Study, view: View, members: int) -> str:
        """Return the path in the study's file."""
        last = study.content["size"]["checkpoints"]
        return self.path.format(loo=view.loo, members=members, last=last)

    def of(self, study: Study, view: View, members: int) -> Number:
        """Return the number of a study."""
        paths = self.place(study, view, members).split(" - ")
        found = [CHANGES[self.change](study.number(path), members) for path in paths]
        return difference(*found) if len(found) > 1 else found[0]


@dataclass(frozen=True)
class Row:
    """What one study, or several that are compared, say to a question."""

    view: str
    name: str
    members: int
    #: By the title of the column, which study it is and what it says.
    cells: Mapping[str, tuple[Study, Number]]
    #: One, or one for each cell that is judged by itself.
    verdicts: tuple[str, ...]
    #: Why a study decides nothing whatever its numbers.
    reason: str = ""

    @property
    def studies(self) -> tuple[Study, ...]:
        """The studies of the row, each once."""
        return tuple({study.file: study for study, _ in self.cells.values()}.values())


@dataclass(frozen=True)
class Question:
    """One thing that a claim says, with the rule that decides it."""

    title: str
    rule: str
    columns: tuple[Column, ...]
    ask: Callable[[Question, Evidence, View], list[Row]]
    views: tuple[View, ...] = VIEWS
    #: Whether the claim's verdict is also this one's; else it explains another question.
    counts: bool = True

    def rows(self, evidence: Evidence) -> list[Row]:
        """Return the evidence of all views."""
        return [row for view in self.views for row in self.ask(self, evidence, view)]

    def verdicts(self, evidence: Evidence) -> dict[str, list[str]]:
        """Return the verdicts under each view."""
        return {
            view.name: [one for row in self.ask(self, evidence, view) for one in row.verdicts]
            for view in self.views
        }


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the questions that it asks, and the figure to look at."""

    text: str
    questions: tuple[Question, ...]
    figure: str
    decides: str
    #: Other figures on it.
    more: tuple[str, ...] = field(default=())


Cells = Mapping[str, Number]


def _studies(evidence: Evidence, view: View) -> list[Study]:
    """Return the studies of a view; released transformers have no drift that could be removed."""
    return [one for one in evidence.of(view.protocol) if view.loo in one.content["signs"]]


def by_study(
    judge: Callable[[Study, Cells], str | Iterable[str]], of_sources: bool = False
) -> Callable[[Question, Evidence, View], list[Row]]:
    """Return how a question is asked of one study after the other.

    Parameters
    ----------
    judge
        From a study and the numbers of the columns, makes a verdict, or one for each method.
    of_sources
        Whether the question is what the spread over members comes from: then rounding must be none
        of it.
    """

    def ask(question: Question, evidence: Evidence, view: View) -> list[Row]:
        rows = []
        for study in _studies(evidence, view):
            numbers = {one.title: one.of(study, view, study.members) for one in question.columns}
            found = judge(study, numbers)
            verdicts = (found,) if isinstance(found, str) else tuple(found)
            reason = study.too_small or ("rounding" if of_sources and study.rounded else "")
            if reason:
                verdicts = (rules.OPEN,) * len(verdicts)
            cells = {title: (study, number) for title, number in numbers.items()}
            rows.append(Row(view.name, study.name, study.members, cells, verdicts, reason))
        return rows

    return ask


# ---------------- claims 1 to 3: how noisy is leave-one-out?

SIGN_UNCERTAIN = Column("noise > mean", "reliability/{members}/{loo}/sign_uncertain", "percent")
SIGNIFICANT = Column("p < 0.05", "reliability/{members}/{loo}/significant", "percent")
FOUND = Column("FDR", "reliability/{members}/{loo}/found", "percent")
PAIRS = Column("independent pairs", "effective_pairs/{loo}", "count")
ONE_MODEL = Column("mean > 1.96 std", "reliability/{members}/{loo}/one_model", "percent")
STABILITY = "stability/{loo}/pearson"
OF_MEAN = Column("mean over members", STABILITY, "correlation")
OF_ONE = Column("one model", STABILITY, "correlation", "R / (n - (n - 1) R)")


def _overshadowed(study: Study, cells: Cells) -> str:
    return rules.at_least(cells["noise > mean"], OFTEN)


def _found(study: Study, cells: Cells) -> str:
    there = cells["FDR"].value > 0 and cells["p < 0.05"].low > study.noise
    return rules.there_and_rare(cells["FDR"], 0, RARE, there)


def _one_model(study: Study, cells: Cells) -> str:
    number = cells["mean > 1.96 std"]
    return rules.there_and_rare(number, study.noise_of_one, RARE, number.value > 0)


def _noisy(title: str, border: float) -> Callable[[Study, Cells], str]:
    return lambda study, cells: rules.below(cells[title], border)


# ---------------- claim 4: initialisation or batch order?

SHARES = tuple(Column(source, f"variance/{{loo}}/{source}", "percent") for source in SOURCES)


def _initialisation_or_order(question: Question, evidence: Evidence, view: View) -> list[Row]:
    rows = []
    for study in evidence.crossed(view.protocol):
        for method in STUDY_METHODS:
            own = View(view.name, view.protocol, method)
            numbers = {one.title: one.of(study, own, study.members) for one in question.columns}
            reason = study.too_small or _unsafe(study, method)
            verdict = rules.greater(numbers["initialisation"], numbers["order"])
            cells = {title: (study, number) for title, number in numbers.items()}
            verdicts = (rules.OPEN if reason else verdict,)
            name = f"{study.name}: {METHOD_LABELS[method]}"
            rows.append(Row(view.name, name, study.members, cells, verdicts, reason))
    return rows


def _unsafe(study: Study, method: str) -> str:
    """Say why rounding may be part of what the sources are held responsible for."""
    if method != "loo" or study.protocol != "paired":
        return ""
    if study.floor is None:
        return "floor not measured"
    return "rounding" if study.rounded else ""


# ---------------- claims 5 and 6: do the methods agree?


def _agreement(first: str, second: str, change: str = "", title: str = "") -> Column:
    pair = f"{METHOD_LABELS[first]}, {METHOD_LABELS[second]}"
    path = f"agreement/mean/pearson/{first}, {second}"
    return Column(title or pair, path, "correlation", change)


RAW = tuple(
    _agreement("loo", method, title=f"{METHOD_LABELS[method]} raw") for method in ESTIMATORS
)
CEILING = tuple(
    Column(METHOD_LABELS[method], f"ceiling/pearson/{method}", "correlation")
    for method in ESTIMATORS
)


def _disagree(study: Study, cells: Cells) -> list[str]:
    return [rules.below(cells[column.title], LOW) for column in CEILING]


def _alike(study: Study, cells: Cells) -> str:
    return rules.at_least(cells["IF, GD"], ALIKE)


def _steady_on_mnist(study: Study, cells: Cells) -> str:
    verdict = rules.at_least(cells["GC p < 0.05"], MOSTLY)
    return verdict if study.values["task"] == "mnist3" else rules.opposite(verdict)


CLUSTERS = (("ats", "influence"), ("grad_dot", "grad_cos"))
ACROSS = tuple(itertools.product(*CLUSTERS))
_TOGETHER = [_agreement(*pair).title for pair in CLUSTERS]
_APART = [_agreement(*pair).title for pair in ACROSS]


def _clustered(study: Study, cells: Cells) -> str:
    return rules.clustered((cells[name] for name in _TOGETHER), (cells[name] for name in _APART))


# ---------------- claims 7 and 8: size of the training set and of the model

MEAN_P = "reliability/{members}/{loo}/mean_p"


def _by_size(question: Question, evidence: Evidence, view: View) -> list[Row]:
    """Compare the sizes of each data set: CNN2-L, trained and tested on sound lists."""
    rows = []
    for task, name in DATA.items():
        usual = [
            one
            for one in _studies(evidence, view)
            if (one.values["task"], one.values["model"]) == (task, "cnn2")
            and one.values["lists"] != "released"
        ]
        named = [(str(one.values["per_class"]), one) for one in usual]
        if len(named) > 1:
            rows.append(_compared(question, view, name, named, rules.turning))
    return rows


def _by_model(question: Question, evidence: Evidence, view: View) -> list[Row]:
    """Compare the models on each training set, first those that have members enough."""
    rows = []
    groups: dict[tuple[str, int, str], list[Study]] = {}
    for one in _studies(evidence, view):
        values = one.values
        groups.setdefault((values["task"], values["per_class"], values["lists"]), []).append(one)
    for (task, size, lists), studies in groups.items():
        name = f"{DATA[task]}, {size}" + (" (test images)" if lists == "released" else "")
        named = [(MODELS[one.values["model"]], one) for one in studies]
        enough = [(title, one) for title, one in named if not one.too_small]
        for chosen in (enough, named) if len(enough) not in (0, len(named)) else (named,):
            if len(chosen) > 1:
                titles = {title for title, _ in chosen}
                absent = [title for title in MODELS.values() if title not in titles]
                own = f"{name}, without {' and '.join(absent)}" if absent else name
                rows.append(_compared(question, view, own, chosen, rules.rising))
    return rows


def _compared(
    question: Question,
    view: View,
    name: str,
    named: Sequence[tuple[str, Study]],
    judge: Callable[[Iterable[Number]], str],
) -> Row:
    """Make a row of several studies, all with as many members as the smallest of them has."""
    members = min(one.members for _, one in named)
    columns = {column.title: column for column in question.columns}
    cells = {title: (one, columns[title].of(one, view, members)) for title, one in named}
    # Whoever is left out of one study is left out of the other only where both have these members.
    numbers = [number for _, number in cells.values()]
    steps = [difference(after, before) for before, after in itertools.pairwise(numbers)]
    reason = next((one.too_small for _, one in named if one.too_small), "")
    verdict = rules.OPEN if reason else judge(steps)
    return Row(view.name, name, members, cells, (verdict,), reason)


# ---------------- claim 9: more checkpoints

GAINS = tuple(
    Column(
        METHOD_LABELS[method],
        f"checkpoints/{{last}}/{method}/halves - checkpoints/1/{method}/halves",
        "p",
    )
    for method in STUDY_METHODS
)


def _steadier(study: Study, cells: Cells) -> list[str]:
    return [rules.rising([cells[column.title]]) for column in GAINS]


#: Said once for all questions.
SIZE_RULE = (
    f"A study with {FEW_MEMBERS} members or fewer, or with fewer than {LEAST_SAMPLES} attributed "
    "samples, decides nothing."
)

CLAIMS = (
    Claim(
        "The influence of one sample is often overshadowed by initialisation and batch noise.",
        (
            Question(
                "More noise than mean",
                "Supported if for at least half of the pairs the standard deviation of "
                "leave-one-out over members exceeds the absolute mean; refuted if for fewer. Not "
                "decided where rounding is more than 1 % of leave-one-out, since then neither "
                "initialisation nor batches need be the cause.",
                (SIGN_UNCERTAIN,),
                by_study(_overshadowed, of_sources=True),
            ),
        ),
        "by_size",
        "How much one sample counts, which is more among few than among many. The released scores "
        "hold the drift of continued training, which all training samples share. It moves the mean "
        "away from zero and hides what one sample does; without it the noise is in plain view.",
        ("mean_against_std",),
    ),
    Claim(
        "Noise-independent train-test pairs are rare, but exist; only there should TDA be trusted.",
        (
            Question(
                "Does the mean differ from zero?",
                "There are such pairs if more have p < 0.05 than noise gives, and some are left "
                "after control of the false discovery rate. They are rare if less than a tenth is "
                "left. Supported if both hold, refuted if they are not rare. That none is left "
                "refutes nothing, so it decides nothing.",
                (SIGNIFICANT, FOUND, PAIRS),
                by_study(_found),
            ),
            Question(
                "Can one model be trusted?",
                "A pair can be trusted if its mean exceeds 1.96 standard deviations over members. "
                "Supported if there are more such pairs than noise gives and less than a tenth; "
                "refuted if there are a tenth or more.",
                (ONE_MODEL,),
                by_study(_one_model),
            ),
        ),
        "significant_fraction",
        "Which question is asked. The released formula asks the second one, about one model, which "
        "is what the authors' README says; a t-test asks the first, and its answer grows with the "
        "number of members. The pairs of a study share their members: noise moves thousands of "
        "them together, as if there were only so many *independent pairs*.",
        ("concept",),
    ),
    Claim(
        "Ground-truth leave-one-out is itself noisy.",
        (
            Question(
                "Would another seed's leave-one-out agree?",
                "Supported if the correlation between the leave-one-out scores of two models, "
                "trained from different seeds, is below one half; refuted if it is at least that.",
                (OF_ONE,),
                by_study(_noisy("one model", LOW)),
            ),
            Question(
                "Would the mean over other members agree?",
                "Supported if the reliability of the mean over members, which is the correlation "
                "with the mean over as many others, is below 0.8; refuted if it is at least that.",
                (OF_MEAN,),
                by_study(_noisy("mean over members", RELIABLE)),
            ),
        ),
        "agreement",
        "Whether one model is meant or the mean over ten. In the released scores the drift is much "
        "the same for every seed of a test sample, so that they agree with each other on it.",
    ),
    Claim(
        "Initialisation gives more variance than batch order.",
        (
            Question(
                "Shares in the crossed design",
                "Supported for a method if the share of the initialisation exceeds that of the "
                "order, with intervals apart; refuted if it is the other way round. A crossed "
                f"study needs more than {FEW_MEMBERS} models and at least {LEAST_CROSSED} samples. "
                "Leave-one-out also needs a floor of at most 1 %.",
                SHARES,
                _initialisation_or_order,
                PROTOCOL_VIEWS,
            ),
        ),
        "variance_sources",
        "Which set. With two batches an epoch there is little order to vary. What initialisation "
        "and order do together (*interaction*) can be larger than what both do alone; then "
        "neither of the two is the source.",
    ),
    Claim(
        "Estimated attribution and ground truth disagree: correlations of LOO with the rest are "
        "low.",
        (
            Question(
                "Correlation with a noiseless leave-one-out",
                "The correlation of means with LOO, divided by the square root of LOO's "
                "reliability: what it would be had LOO no noise. Supported for a method if it is "
                "below one half; refuted if it is at least that.",
                (*CEILING, *RAW),
                by_study(_disagree),
                PROTOCOL_VIEWS,
            ),
        ),
        "agreement_by_study",
        "How noisy the ground truth is, which bounds the raw correlation from above, and what it "
        "is: continued training measures something other than retraining does.",
        ("agreement",),
    ),
    Claim(
        "IF and GD behave alike; GC is rather stable on MNIST3 and not on CIFAR-10; methods "
        "cluster as {ATS, IF} and {GD, GC}.",
        (
            Question(
                "IF and GD behave alike",
                "Supported if their correlation of means is at least 0.9, refuted if it is less.",
                (_agreement("influence", "grad_dot"),),
                by_study(_alike),
                PROTOCOL_VIEWS,
            ),
            Question(
                "GC is stable on MNIST3 and not on CIFAR-10",
                "Supported by a study of MNIST3 if at least 90 % of the pairs have p < 0.05, and "
                "by one of CIFAR-10 if fewer have; refuted otherwise.",
                (Column("GC p < 0.05", "reliability/{members}/grad_cos/significant", "percent"),),
                by_study(_steady_on_mnist),
                PROTOCOL_VIEWS,
            ),
            Question(
                "Clusters, all methods with removal sign",
                "Supported if both correlations inside the clusters exceed all four across them, "
                "with intervals apart; refuted if one inside lies below one across.",
                tuple(_agreement(*pair) for pair in (*CLUSTERS, *ACROSS)),
                by_study(_clustered),
                PROTOCOL_VIEWS,
            ),
            Question(
                "Clusters, signs as released",
                "The same rule, with the sign of ATS and IF that they have in the released code: "
                "positive where a sample is harmful.",
                (
                    *(_agreement(*pair) for pair in CLUSTERS),
                    *(_agreement(*pair, "other sign") for pair in ACROSS),
                ),
                by_study(_clustered),
                PROTOCOL_VIEWS,
                counts=False,
            ),
        ),
        "agreement",
        "The solver, and the sign. The released recursion stops at a multiple of Grad-Dot, so IF "
        "and GD are one method there, and a converged solve is another one. In the released code "
        "ATS and IF have the opposite sign of GD and GC: whatever agrees across the clusters then "
        "counts as disagreement.",
        ("agreement_by_study", "released_influence"),
    ),
    Claim(
        "Noise is not monotonic in training-set size.",
        (
            Question(
                "Mean p of LOO by samples of each class",
                "Supported for a data set if mean p rises in one step and falls in another, both "
                "beyond the interval of the difference; refuted if every step goes the same way, "
                "each beyond its interval.",
                tuple(Column(str(size), MEAN_P, "p") for size in SIZES),
                _by_size,
            ),
        ),
        "by_size",
        "The intervals: a turn within them may be an accident of ten seeds.",
        ("list_defect",),
    ),
    Claim(
        "More complex models (CNN2-L < CNN3-L < ViT + LoRA) give noisier attribution.",
        (
            Question(
                "Mean p of LOO by model",
                "Supported on a data set if mean p rises in that order, each step beyond the "
                "interval of the difference; refuted if a step falls beyond its interval. Models "
                "with members enough are compared by themselves as well.",
                tuple(Column(model, MEAN_P, "p") for model in MODELS.values()),
                _by_model,
            ),
        ),
        "by_model",
        "How far each model's training has come after the same number of epochs.",
    ),
    Claim(
        "More checkpoints make scores more stable.",
        (
            Question(
                "What averaging over all checkpoints adds to stability",
                "The stability of a method is the reliability of its mean over members, from the "
                "correlation between halves of them. Supported for a method if it is higher with "
                "all checkpoints averaged than with the last one alone, beyond the interval of the "
                "difference; refuted if it is lower.",
                GAINS,
                by_study(_steadier),
                PROTOCOL_VIEWS,
            ),
        ),
        "mean_p",
        "What varies between checkpoints. Averaging removes independent noise; where epochs share "
        "a trend, as in unfinished training, it adds the trend.",
    ),
)
