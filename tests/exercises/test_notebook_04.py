"""Notebook 04: what repeats and what is a draw, and how much many samples are worth."""

from tests.exercises.cases import cases_of


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


MISTAKES = {
    "standard_error": [
        (lambda tau: standard_error(tau, divide=lambda m: 1), "is the standard deviation"),
        (lambda tau: pooled_error(tau, 12), "counts every checkpoint as an independent"),
        (lambda tau: pooled_error(tau, 4), "over members and checkpoints together"),
        (lambda tau: standard_error(tau, divide=lambda m: (3 * m) ** 0.5), "root of all"),
        (lambda tau: standard_error(tau, ddof=0), "one less"),
        (lambda tau: standard_error(tau, divide=lambda m: m), "take its square root"),
        (lambda tau: standard_error(tau) ** 2, "is a variance"),
        (lambda tau: tau.std("member"), r"dimensions \(checkpoint, train, test\)"),
    ],
    "effective_samples": [
        (lambda m, c, r: m * c, "number of all samples"),
        (lambda m, c, r: m, "number of members, whatever"),
        (lambda m, c, r: m * c / (1 + c * r), "only C - 1 others"),
        (lambda m, c, r: effective(1, m * c, r), "correlates all samples"),
        (lambda m, c, r: m * c * (1 - r), "takes the correlated part off"),
        (lambda m, c, r: 1 / effective(m, c, r), "is the variance of the mean"),
    ],
    "common_way": [
        (lambda x: 1 - common_way(x), "share of what is left"),
        (lambda x: common_way(x, centre=False), "still has the differences"),
        (lambda x: x.mean(1).var() / x.var(), "share of the members"),
        (lambda x: common_way(x) / len(x), "adds the common way up once"),
        (
            lambda x: common_way(x) * ((x - x.mean(1, keepdims=True)) ** 2).sum(),
            "gives a sum of squares",
        ),
    ],
}
TestNotebook04 = cases_of("04", MISTAKES)
