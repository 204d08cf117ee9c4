"""The checks of the exercises: right answers pass, and each likely mistake gets its words."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from tda_utils import exercises
from tda_utils.exercises import NotYet, answer, compare, passed, require


def refused(call, *arguments, **options) -> str:
    """Return the message with which a call is refused."""
    with pytest.raises(NotYet) as stop:
        call(*arguments, **options)
    return str(stop.value)


# ---------------- what the checks share


def stub(losses):
    """As in the student's copy."""
    ...  # your code


def ellipsis(losses):
    return ...


def failing(losses):
    return losses["x"]


@pytest.mark.parametrize("function", [stub, ellipsis])
def test_an_untouched_stub_is_met_kindly(function):
    assert refused(answer, 3, function, [1.0]) == (
        f"Exercise 3: nothing is returned yet. Write the body of {function.__name__} above, run "
        "it, and run this cell again."
    )


def test_an_exception_of_the_readers_code_is_named_with_its_line():
    assert refused(answer, 1, failing, {}) == (
        "Exercise 1: failing stops with KeyError: 'x', in the line 'return losses[\"x\"]'. "
        "Repair it above, run it, and run this cell again."
    )


def test_an_interruption_is_none_of_the_checks_business():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(1, interrupted)


def test_what_the_check_itself_says_is_not_taken_for_a_fault_of_the_code():
    def calls_a_stand_in(train):
        train()

    def stand_in():
        require(1, False, "train needs one weight for each digit.")

    assert refused(answer, 1, calls_a_stand_in, stand_in) == (
        "Exercise 1: train needs one weight for each digit."
    )


def test_a_value_in_place_of_the_function_is_named():
    assert "needs the function itself, and got 0.5. Write its name" in refused(answer, 1, 0.5)


def test_zero_and_false_are_answers():
    assert answer(1, lambda: 0) == 0
    assert answer(1, lambda: False) is False
    assert answer(1, lambda: np.zeros(2)).shape == (2,)


def test_a_function_that_changes_its_arguments_does_not_disturb_the_check():
    def in_place(values, *, more):
        values -= values.mean()
        more.append(1)
        return values

    values, more = np.arange(3.0), []
    answer(1, in_place, values, more=more)
    np.testing.assert_array_equal(values, [0, 1, 2])
    assert more == []


def test_ipython_shows_the_message_alone():
    assert NotYet("one\ntwo")._render_traceback_() == ["one", "two"]


def test_what_holds_passes_and_is_printed(capsys):
    require(1, np.bool_(True), "no")
    passed(1, "It shows something.")
    assert capsys.readouterr().out == "Exercise 1: correct. It shows something.\n"
    assert refused(require, 1, np.bool_(False), "no.") == "Exercise 1: no."


TAU = np.array([[0.5, -1.0], [2.0, 0.25]])
LABELLED = xr.DataArray(TAU, dims=("train", "test"))
SAME = [
    (3, np.int64(3)),
    (np.float32(0.1), 0.1),
    (torch.tensor(0.1, requires_grad=True), 0.1),
    (torch.tensor(TAU), TAU),
    (TAU.tolist(), TAU),
    (LABELLED, TAU),
    (LABELLED.T, LABELLED),
    (np.float64("nan"), np.nan),
    ((1.0, 2), np.array([1.0, 2.0])),
    (np.bool_(True), True),
    ({np.int64(1), 2}, {1, 2}),
    ("members", "members"),
    ({"LOO": np.float32(0.5), "GD": "x"}, {"GD": "x", "LOO": 0.5}),
]


@pytest.mark.parametrize(("given", "expected"), SAME, ids=range(len(SAME)))
def test_what_is_right_is_right_in_every_form(given, expected):
    compare(1, given, expected)


DIFFERENT = {
    "sign": (-TAU, TAU, "tau has the sign turned round[.]"),
    "scale": (5 * TAU, TAU, "is 5 times what it has to be"),
    "number": (3.0, 2.0, "is 3, and 2 is right for the numbers of this check"),
    "one place": (
        TAU + np.diag([0, 1]),
        TAU,
        r"wrong in 1 of 4 places: at position \(1, 1\) it is 1.25, and 0.25 is right",
    ),
    "row": ([0.0, 1.0], [0.0, 2.0], "wrong in 1 of 2 places: at position 1 it is 1, and 2"),
    "nan": (TAU * np.nan, TAU, "has nan in it"),
    "shape": (TAU[:1], TAU, r"has shape \(1, 2\); it has to be \(2, 2\)"),
    "array for number": (TAU, 1.0, r"is an array of shape \(2, 2\); it has to be one number"),
    "number for array": (1.0, TAU, r"is one number; it has to be an array of shape \(2, 2\)"),
    "text": ("1.0", 1.0, "is '1.0'; it has to be one number"),
    "function": (max, TAU, "is of type builtin_function_or_method; it has to be an array"),
    "ragged": ([[1], [1, 2]], TAU, "is of type list; it has to be an array of shape"),
    "no labels": (TAU, LABELLED, r"array of shape \(2, 2\); it has to be an xarray.DataArray with"),
    "dimensions": (LABELLED.mean("test"), LABELLED, r"dimensions \(train\); .* \(train, test\)"),
    "values": (LABELLED.T + 1, LABELLED, "wrong in 4 of 4 places: at position"),
    "truth": (True, False, "is True, and that is not right"),
    "truth as text": ("yes", True, "is 'yes'; it has to be a truth value"),
    "set": ({1, 2}, {1, 3}, "is {1, 2}, and {1, 3} is right"),
    "list for set": ([1, 3], {1, 3}, "is \\[1, 3\\], and {1, 3} is right"),
    "choice": ("sample", "members", "is 'sample'; choose one of 'members'"),
    "no dict": (1.0, {"a": 1.0}, r"is one number; it has to be a dict with the keys \['a'\]"),
    "keys": ({"b": 1.0}, {"a": 1.0}, r"has the keys \['b'\]; they have to be \['a'\]"),
    "in a dict": ({"a": 2.0}, {"a": 1.0}, "at 'a' is 2, and 1 is right"),
    "zero": (np.ones(2), np.zeros(2), "wrong in 2 of 2 places: at position 0 it is 1, and 0"),
}


@pytest.mark.parametrize("fault", DIFFERENT)
def test_a_difference_is_put_in_words(fault):
    given, expected, sentence = DIFFERENT[fault]
    message = refused(compare, 2, given, expected, what="tau")
    assert message.startswith("Exercise 2: tau ")
    assert re.search(sentence, message), message


def test_a_likely_mistake_comes_before_the_general_words():
    mistakes = {"counts samples, not members.": 50, "is the other one.": "samples"}
    assert refused(compare, 1, 50, 10, mistakes=mistakes, what="n") == (
        "Exercise 1: n counts samples, not members."
    )
    message = refused(compare, 1, "pairs", "members", mistakes={"is no.": "samples"}, what="n")
    assert message == "Exercise 1: n is 'pairs'; choose one of 'members', 'samples'."


def test_a_tolerance_can_be_wider_or_narrower():
    compare(1, 1.05, 1.0, rtol=0.1)
    assert "is 1.00001" in refused(compare, 1, 1.00001, 1.0, rtol=1e-6)


def test_checks_are_imported_when_asked_for():
    with pytest.raises(AttributeError, match=r"tda_utils.exercises has no 'notebook_99'; it has"):
        _ = exercises.notebook_99


# ---------------- the checks of each notebook: what passes, and the mistakes with their words

notebook_01, notebook_02 = exercises.notebook_01, exercises.notebook_02
notebook_03, notebook_04 = exercises.notebook_03, exercises.notebook_04


def helpful(loss_with, losses_without):
    tau = losses_without - loss_with
    return [int(j) for j in np.argsort(-tau) if tau[j] > 0]


def together(train, n_train, removed, single=lambda loss, base: loss - base):
    def loss(gone):
        weights = torch.ones(n_train)
        weights[gone] = 0
        return train(weights)

    base = loss([])
    return loss(removed) - base, sum(single(loss([j]), base) for j in removed)


def keeping_only(train, n_train, removed):
    weights = torch.zeros(n_train)
    weights[removed] = 1
    return train(weights) - train(torch.ones(n_train)), together(train, n_train, removed)[1]


def loo_of_the_mean(train, test, left=-1):
    without = (train.sum() - train) / (len(train) + left)
    return (test[None] - without[:, None]) ** 2 - (test[None] - train.mean()) ** 2


def cosines(train, test, lengths=lambda a, b: np.outer(a, b)):
    norms = [np.linalg.norm(x, axis=1) for x in (train, test)]
    return train @ test.T / lengths(*norms)


def by_chance(n, k, m):
    return stats.hypergeom(n, k, k).sf(m - 1)


def influence(train, test, curvature, damping, damped=None):
    matrix = curvature + damping * np.eye(len(curvature)) if damped is None else damped
    return train @ np.linalg.solve(matrix, test.T) / len(train)


def shared(a, b, k):
    return len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k]))


def class_only(tau):
    return (tau["train_label"] == tau["test_label"]).astype(float)


def p_of_shuffles(
    a,
    b,
    orders,
    measure=lambda a, b: stats.spearmanr(a, b).statistic,
    reaches=np.greater_equal,
    more=(1, 1),
):
    found = measure(a, b)
    count = sum(bool(reaches(measure(a, b[order]), found)) for order in orders)
    return (more[0] + count) / (more[1] + len(orders))


def standard_error(tau, ddof=1, divide=lambda members: members**0.5):
    return tau.mean("checkpoint").std("member", ddof=ddof) / divide(tau.sizes["member"])


def pooled_error(tau, draws):
    return tau.std(("member", "checkpoint"), ddof=1) / draws**0.5


def effective(members, checkpoints, correlation):
    return members * checkpoints / (1 + (checkpoints - 1) * correlation)


def common_way(scores, centre=True):
    total = scores - scores.mean(axis=1 if centre else None, keepdims=True)
    common = (scores - scores.mean()).mean(axis=0)
    return len(scores) * (common**2).sum() / (total**2).sum()


CASES = {
    notebook_01.check_helpful: (
        helpful,
        [
            (lambda a, b: helpful(0, a - b), "sign turned round: these digits hurt"),
            (lambda a, b: helpful(0, a - b)[::-1], "sign turned round, and the order too"),
            (lambda a, b: helpful(a, b)[::-1], "the least helpful comes first"),
            (lambda a, b: np.flatnonzero(b > a), "not sorted by how much"),
            (lambda a, b: np.argsort(a - b), "leave out those that hurt"),
            (lambda a, b: np.argsort(b - a), "has all digits, and the most harmful first"),
            (lambda a, b: b > a, "has to return positions"),
            (lambda a, b: b - a, "has to return positions"),
            (lambda a, b: 3, "a list of positions"),
        ],
    ),
    notebook_01.check_remove_together: (
        together,
        [
            (lambda *a: together(*a)[::-1], "two numbers in the wrong order"),
            (lambda *a: [-x for x in together(*a)], "sign turned round"),
            (lambda *a: together(*a, single=lambda loss, base: loss), "adds losses up"),
            (
                lambda *a: (
                    together(*a)[0] + a[0](torch.ones(a[1])),
                    together(*a, single=lambda loss, base: loss)[1],
                ),
                "gives losses",
            ),
            (
                lambda *a: (
                    together(*a)[0],
                    together(*a, single=lambda loss, base: loss - base / 2)[1],
                ),
                "takes the loss with all digits away once",
            ),
            (keeping_only, "keeps only the removed digits"),
            (lambda *a: (together(*a)[1],) * 2, "the single ones twice"),
            (lambda train, n, removed: train(torch.ones(2)), r"got the shape \(2,\)"),
            (lambda *a: together(*a)[0], "is one number; it has to be an array of shape"),
        ],
    ),
    notebook_01.check_loo_of_the_mean: (
        loo_of_the_mean,
        [
            (lambda *a: -loo_of_the_mean(*a), "sign turned round"),
            (lambda *a: loo_of_the_mean(*a).T, "axes swapped"),
            (lambda *a: loo_of_the_mean(*a, left=0), "divides by n after the removal"),
            (lambda a, b: loo_of_the_mean(a, b) + (b - a.mean()) ** 2, "gives the losses"),
            (lambda *a: abs(loo_of_the_mean(*a)), "lost the sign"),
        ],
    ),
    notebook_02.check_cosines: (
        cosines,
        [
            (lambda a, b: cosines(a, b).T, "axes swapped"),
            (lambda a, b: -cosines(a, b), "sign turned round"),
            (lambda a, b: a @ b.T, "is Grad-Dot"),
            (lambda a, b: cosines(a, b, lambda x, y: x[:, None]), "training gradients only"),
            (lambda a, b: cosines(a, b, lambda x, y: y), "test gradients only"),
            (lambda a, b: cosines(a, b, lambda x, y: np.outer(x, y) ** 2), "squared lengths"),
            (
                lambda a, b: a @ b.T / np.linalg.norm(a) / np.linalg.norm(b),
                "length of all gradients together",
            ),
        ],
    ),
    notebook_02.check_by_chance: (
        by_chance,
        [
            (lambda n, k, m: stats.hypergeom(n, k, k).pmf(m), "exactly m shared"),
            (lambda n, k, m: by_chance(n, k, m + 1), "more than m shared"),
            (lambda n, k, m: 1 - by_chance(n, k, m), "fewer than m shared"),
            (lambda n, k, m: stats.hypergeom(n, k, k).cdf(m), "at most m shared"),
            (lambda n, k, m: stats.binom(k, k / n).sf(m - 1), "the same digit more than once"),
            (lambda n, k, m: k * k / n, "mean number of shared digits"),
        ],
    ),
    notebook_02.check_influence: (
        influence,
        [
            (lambda *a: influence(*a).T, "axes swapped"),
            (lambda *a: -influence(*a), "sign turned round"),
            (lambda *a: len(a[0]) * influence(*a), "lacks the factor 1/n"),
            (lambda *a: influence(*a[:3], 0), "lacks the damping"),
            (lambda *a: influence(*a, damped=a[2] + a[3]), "belongs on the diagonal"),
            (
                lambda *a: a[0] @ (a[2] + a[3] * np.eye(4)) @ a[1].T / len(a[0]),
                "multiplies by the matrix",
            ),
            (
                lambda *a: influence(*a[:3], 0) + a[3] * a[0] @ a[1].T / len(a[0]),
                "adds it afterwards",
            ),
            (
                lambda *a: influence(*a, damped=np.diag(np.diag(a[2]) + a[3])),
                "the diagonal of the matrix alone",
            ),
        ],
    ),
    notebook_03.check_shared: (
        shared,
        [
            (lambda a, b, k: shared(-a, -b, k), "the most harmful digits"),
            (lambda a, b, k: shared(abs(a), abs(b), k), "largest attributions in size"),
            (lambda a, b, k: int(sum(np.argsort(-a)[:k] == np.argsort(-b)[:k])), "same place"),
            (lambda a, b, k: shared(a, b, k) / k, "is a share"),
        ],
    ),
    notebook_03.check_class_only: (
        class_only,
        [
            (lambda tau: 1 - class_only(tau), "one where the classes differ"),
            (lambda tau: tau * class_only(tau), "still holds attributions"),
            (lambda tau: class_only(tau).values, "has to be an xarray.DataArray"),
        ],
    ),
    notebook_03.check_p_of_shuffles: (
        p_of_shuffles,
        [
            (lambda *a: p_of_shuffles(*a, more=(0, 0)), "leaves the unshuffled order out"),
            (lambda *a: p_of_shuffles(*a, more=(1, 0)), "adds one above, but not below"),
            (lambda *a: p_of_shuffles(*a, reaches=np.less), "stay below the correlation"),
            (
                lambda *a: p_of_shuffles(*a, reaches=lambda x, y: abs(x) >= abs(y)),
                "compares sizes",
            ),
            (
                lambda *a: p_of_shuffles(*a, measure=lambda x, y: np.corrcoef(x, y)[0, 1]),
                "takes the correlation of the scores",
            ),
        ],
    ),
    notebook_04.check_standard_error: (
        standard_error,
        [
            (lambda tau: standard_error(tau, divide=lambda m: 1), "is the standard deviation"),
            (lambda tau: pooled_error(tau, 12), "counts every checkpoint as an independent"),
            (lambda tau: pooled_error(tau, 4), "over members and checkpoints together"),
            (lambda tau: standard_error(tau, divide=lambda m: (3 * m) ** 0.5), "root of all"),
            (lambda tau: standard_error(tau, ddof=0), "one less"),
            (lambda tau: standard_error(tau, divide=lambda m: m), "take its square root"),
            (lambda tau: standard_error(tau) ** 2, "is a variance"),
            (lambda tau: tau.std("member"), r"dimensions \(checkpoint, train, test\)"),
        ],
    ),
    notebook_04.check_effective_samples: (
        effective,
        [
            (lambda m, c, r: m * c, "number of all samples"),
            (lambda m, c, r: m, "number of members, whatever"),
            (lambda m, c, r: m * c / (1 + c * r), "only C - 1 others"),
            (lambda m, c, r: effective(1, m * c, r), "correlates all samples"),
            (lambda m, c, r: m * c * (1 - r), "takes the correlated part off"),
            (lambda m, c, r: 1 / effective(m, c, r), "is the variance of the mean"),
        ],
    ),
    notebook_04.check_common_way: (
        common_way,
        [
            (lambda x: 1 - common_way(x), "share of what is left"),
            (lambda x: common_way(x, centre=False), "still has the differences"),
            (lambda x: x.mean(1).var() / x.var(), "share of the members"),
            (lambda x: common_way(x) / len(x), "adds the common way up once"),
            (
                lambda x: common_way(x) * ((x - x.mean(1, keepdims=True)) ** 2).sum(),
                "gives a sum of squares",
            ),
        ],
    ),
}
MISTAKES = [(check, wrong, words) for check, (_, list_) in CASES.items() for wrong, words in list_]


def label(value):
    return f"{value.__module__[-2:]}-{value.__name__}" if value in CASES else None


@pytest.mark.parametrize("check", CASES, ids=label)
def test_the_right_answer_passes_and_the_stub_does_not(check, capsys):
    right, _ = CASES[check]
    check(right)
    assert re.fullmatch(r"Exercise \d: correct\. \S.*\.\n", capsys.readouterr().out)

    def untouched(*arguments, **options): ...

    message = refused(check, untouched)
    assert re.fullmatch(
        r"Exercise \d: nothing is returned yet\. Write the body of untouched .*", message
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("check", "wrong", "words"), MISTAKES, ids=lambda v: label(v) if callable(v) else v
)
def test_a_typical_mistake_gets_its_words(check, wrong, words):
    message = refused(check, wrong)
    assert re.match(r"Exercise \d: ", message)
    assert re.search(words, message), message


def test_every_check_of_these_notebooks_has_its_cases():
    checks = [
        function
        for module in (notebook_01, notebook_02, notebook_03, notebook_04)
        for name, function in vars(module).items()
        if name.startswith("check_")
    ]
    assert set(checks) == set(CASES)
