"""Notebook 14: a derivative through training by hand, a cosine, slopes that add up."""

import numpy as np

from tests.exercises.cases import cases_of


def through(samples, j, rate, steps, direct=1.0, carried=1.0, first=0):
    place = slope = 0.0
    for step in range(steps):
        if step >= first:
            pull = direct * (place - samples[j]) / len(samples)
            slope -= rate * (carried * slope + pull)
        place -= rate * np.mean(place - samples)
    return slope


def after_the_step(samples, j, rate, steps):
    place = slope = 0.0
    for _ in range(steps):
        place -= rate * np.mean(place - samples)
        slope -= rate * (slope + (place - samples[j]) / len(samples))
    return slope


def end(samples, j, rate, steps):
    place = 0.0
    for _ in range(steps):
        place -= rate * np.mean(place - samples)
    return place


def cosine(x, y):
    return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())


def middles(points):
    return (np.arange(points) + 0.5) / points


MISTAKES = {
    "holds": [
        (lambda x, y: np.corrcoef(x.ravel(), y.ravel())[0, 1], "takes the means away"),
        (lambda x, y: (x * y).sum(), "is the inner product"),
        (lambda x, y: cosine(x, y) ** 2, "the square of the cosine"),
        (lambda x, y: np.mean([cosine(a, b) for a, b in zip(x, y, strict=True)]), "each sample"),
        (lambda x, y: (x * y).sum() / (x**2).sum(), "a slope"),
        (lambda x, y: (x * y).sum() / (x**2).sum() / (y**2).sum(), "take the root"),
        (lambda x, y: np.mean(np.sign(x) == np.sign(y)), "the same sign"),
    ],
    "difference": [
        (lambda d, points: -d(1.0), "at one alone"),
        (lambda d, points: np.mean([d(w) for w in middles(points)]), "opposite sign"),
        (lambda d, points: -np.mean(d(np.arange(points) / points)), "the ends of the parts"),
        (lambda d, points: -np.mean(d((np.arange(points) + 1) / points)), "at one alone"),
        (lambda d, points: -np.mean(d(np.linspace(0, 1, points))), "the ends of the parts"),
        (lambda d, points: -sum(d(w) for w in middles(points)), "adds the derivatives up"),
    ],
    "slope_of_the_end": [
        (lambda *case: through(*case, carried=0.0), "through the parameter"),
        (lambda *case: through(*case, first=case[3] - 1), "the last step alone"),
        (lambda *case: through(*case, direct=len(case[0])), "takes the sum"),
        (after_the_step, "after the step"),
        (lambda *case: -through(*case), "opposite sign"),
        (end, "is where training ends"),
        (lambda *case: 0.5, "is right for the numbers"),
    ],
}
TestNotebook14 = cases_of("14", MISTAKES)
