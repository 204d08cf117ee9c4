"""Notebook 08: batches, interaction, variance components, resampling of seeds."""

import numpy as np
import xarray as xr

from tests.exercises.cases import cases_of

CROSSED = ("initialisation", "order", "checkpoint", "train", "test")


def crossed(shape):
    """Return a function that draws scores in this shape and stretches them to all runs."""

    def scores(initialisations, orders, checkpoints, pairs, generator):
        full = (initialisations, orders, checkpoints, 1, pairs)
        drawn = tuple(size if kept else 1 for size, kept in zip(full, shape, strict=True))
        return xr.DataArray(generator.normal(size=drawn) * np.ones(full), dims=CROSSED)

    return scores


def both(*parts):
    return lambda *arguments: sum(part(*arguments) for part in parts)


def left_over(scores):
    return scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()


def mean_square(scores):
    return (left_over(scores) ** 2).sum() / ((scores.shape[0] - 1) * (scores.shape[1] - 1))


def rows_of(scores):
    return scores.mean(1).var(ddof=1)


def drawn_runs(scores, generator):
    flat = scores.reshape(-1, scores.shape[2])
    return flat[generator.integers(len(flat), size=len(flat))].reshape(scores.shape)


INTERACTION = (1, 1, 0, 0, 1)


MISTAKES = {
    "order_matters": [
        (lambda n, batch: n >= batch, "with 32 samples in batches of 32"),
        (lambda n, batch: n >= 2 * batch, "asks for a whole second batch"),
        (lambda n, batch: -(-n // batch), "has to be True or False"),
    ],
    "only_interaction": [
        (crossed((1, 0, 0, 0, 1)), "gives every order the same"),
        (crossed((0, 1, 0, 0, 1)), "gives every initialisation the same"),
        (crossed((1, 1, 0, 0, 0)), "gives every pair the same"),
        (crossed((1, 1, 1, 0, 1)), "changes from checkpoint to checkpoint"),
        (crossed((0, 0, 0, 0, 0)), "nothing varies"),
        (both(crossed(INTERACTION), crossed((1, 0, 0, 0, 1))), "something else in it that varies"),
        (
            lambda i, j, c, pairs, generator: generator.normal(size=(i, j, c, 1, pairs)),
            "return a DataArray",
        ),
        (
            lambda i, j, c, pairs, generator: crossed(INTERACTION)(i, j, 1, pairs, generator),
            "has shape",
        ),
    ],
    "variance_of_initialisation": [
        (lambda x: x.var(0, ddof=1).mean(), "what DE-Init sees"),
        (rows_of, "is the variance of the means over orders"),
        (lambda x: x.mean(0).var(ddof=1) - mean_square(x) / x.shape[0], "variance of the order"),
        (lambda x: rows_of(x) - mean_square(x), "takes off the whole interaction"),
        (lambda x: rows_of(x) - mean_square(x) / x.shape[0], "by the number of initialisations"),
        (lambda x: x.mean(1).var() - left_over(x).var() / x.shape[1], "should be n - 1"),
        (lambda x: rows_of(x) - left_over(x).var() / x.shape[1], "squares of what is left by I J"),
        (
            lambda x: max(rows_of(x) - mean_square(x) / x.shape[1], 0),
            "sets negative estimates to zero",
        ),
    ],
    "resample": [
        (
            lambda scores, generator: scores[generator.integers(5, size=5)],
            "draws initialisations and leaves the orders",
        ),
        (
            lambda scores, generator: scores[:, generator.integers(6, size=6)],
            "draws orders and leaves the initialisations",
        ),
        (drawn_runs, "draws runs"),
        (lambda scores, generator: scores[:, :, generator.integers(7, size=7)], "draws pairs"),
        (
            lambda scores, generator: generator.permutation(generator.permutation(scores), axis=1),
            "shuffles",
        ),
        (lambda scores, generator: scores, "returns the scores as they are"),
        (lambda scores, generator: scores[generator.integers(5, size=4)], "has shape"),
        (lambda scores, generator: generator.normal(size=scores.shape), "not there before"),
        (
            lambda scores, generator: scores[[0, 0, 1, 3, 4]][:, [5, 5, 1, 2, 3, 0]],
            "does not draw from the generator",
        ),
    ],
}
TestNotebook08 = cases_of("08", MISTAKES)
