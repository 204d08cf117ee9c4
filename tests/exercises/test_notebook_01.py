"""Notebook 01: the sign of an attribution, and what removing a sample does."""

import numpy as np
import torch

from tests.exercises.cases import cases_of


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


MISTAKES = {
    "helpful": [
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
    "remove_together": [
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
    "loo_of_the_mean": [
        (lambda *a: -loo_of_the_mean(*a), "sign turned round"),
        (lambda *a: loo_of_the_mean(*a).T, "axes swapped"),
        (lambda *a: loo_of_the_mean(*a, left=0), "divides by n after the removal"),
        (lambda a, b: loo_of_the_mean(a, b) + (b - a.mean()) ** 2, "gives the losses"),
        (lambda *a: abs(loo_of_the_mean(*a)), "lost the sign"),
    ],
}
TestNotebook01 = cases_of("01", MISTAKES)
