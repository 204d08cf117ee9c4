"""The nine claims: evidence that supports one, refutes it, or leaves it undecided."""

from __future__ import annotations

import pytest

from tda_utils.experiments.names import STUDY_METHODS
from tests.tools.pages.synthetic import WITHOUT_DRIFT, around, content, evidence
from tools.pages import claims
from tools.pages.rules import OPEN, REFUTED, SUPPORTED

ESTIMATORS = [method for method in STUDY_METHODS if method != "loo"]
NOISY, STEADY, WIDE = around(0.8), around(0.05), around(0.3, 0.29)


def changed(found, path, value):
    """Set a number of a content; the last key may be two methods."""
    *keys, last = path.split("/")
    part = found
    for key in keys:
        part = part[key]
    if isinstance(part, list):
        row = next(row for row in part if set(row[:2]) == set(last.split(", ")))
        row[2:] = value
    else:
        part[last] = value
    return found


def verdicts(claim, *contents, view="paired", part=0):
    question = claims.CLAIMS[claim - 1].questions[part]
    return question.verdicts(evidence(*contents))[view]


def one(path, value, **values):
    return changed(content(**values), path, value)


# Claims that ask one number of each study: the part, its path, and what supports and refutes.
OF_ONE_NUMBER = [
    (1, 0, "reliability/10/loo/sign_uncertain", NOISY, STEADY),
    (2, 0, "reliability/10/loo/found", STEADY, NOISY),
    (2, 1, "reliability/10/loo/one_model", STEADY, NOISY),
    (3, 0, "stability/loo/pearson", around(0.8), around(0.95)),
    (3, 1, "stability/loo/pearson", around(0.7), around(0.9)),
    (6, 0, "agreement/mean/pearson/influence, grad_dot", around(0.95), around(0.5)),
    (6, 1, "reliability/10/grad_cos/significant", around(0.95), around(0.5)),
]


@pytest.mark.parametrize(("claim", "part", "path", "supports", "refutes"), OF_ONE_NUMBER)
def test_a_number_supports_refutes_or_leaves_open(claim, part, path, supports, refutes):
    open_value = around(0.5, 0.49)
    for value, expected in ((supports, SUPPORTED), (refutes, REFUTED), (open_value, OPEN)):
        assert verdicts(claim, one(path, value), part=part) == [expected]
    assert verdicts(claim, one(path, [0.5, None, None]), part=part) == [OPEN]
    assert verdicts(claim, one(path, [None, None, None]), part=part) == [OPEN]


@pytest.mark.parametrize(("claim", "part", "path", "supports", "refutes"), OF_ONE_NUMBER)
@pytest.mark.parametrize("small", [{"members": 5}, {"attributed": 19}])
def test_a_small_study_decides_nothing(claim, part, path, supports, refutes, small):
    path = path.replace("/10/", f"/{small.get('members', 10)}/")
    for value in (supports, refutes):
        assert verdicts(claim, one(path, value, **small), part=part) == [OPEN]
    least = {name: number + 1 for name, number in small.items()}
    path = path.replace("/5/", "/6/")
    assert OPEN not in verdicts(claim, one(path, supports, **least), part=part)


@pytest.mark.parametrize("claim", [1, 2, 3])
def test_released_scores_are_judged_raw_and_without_their_drift(claim):
    found = content(protocol="released")
    for name, value, stable in (("loo", 0.02, 0.95), (WITHOUT_DRIFT, 0.8, 0.5)):
        for measure in ("sign_uncertain", "one_model", "found"):
            found["reliability"]["10"][name][measure] = around(value)
        found["stability"][name]["pearson"] = around(stable)
    raw = verdicts(claim, found, view="released")
    assert raw != verdicts(claim, found, view="released, drift removed")
    assert verdicts(claim, found) == []


def test_a_study_without_drift_is_judged_raw_alone():
    found = content(protocol="released", model="vit", backbone="tiny")
    del found["signs"][WITHOUT_DRIFT]
    for claim in (1, 2, 3):
        assert len(verdicts(claim, found, view="released")) == 1
        assert verdicts(claim, found, view="released, drift removed") == []


def test_noise_whose_source_may_be_rounding_decides_nothing():
    path = "reliability/10/loo/sign_uncertain"
    assert verdicts(1, one(path, NOISY, floor=0.01)) == [SUPPORTED]
    assert verdicts(1, one(path, NOISY, floor=0.011)) == [OPEN]
    # In the finer precision the study is judged; the coarse one is then left out.
    fine = one(path, NOISY, floor=1e-9, dtype="float64")
    assert verdicts(1, one(path, STEADY, floor=0.4), fine) == [SUPPORTED]


def test_claim_2_asks_of_one_model_and_of_the_mean_apart():
    found = content()
    found["reliability"]["10"]["loo"] |= {"found": around(0.6), "one_model": around(0.05)}
    assert verdicts(2, found, part=0) == [REFUTED]
    assert verdicts(2, found, part=1) == [SUPPORTED]


def test_claim_2_does_not_take_nothing_found_for_nothing_there():
    found = content()
    found["reliability"]["10"]["loo"] |= {"found": [0.0, 0.0, 0.0], "significant": STEADY}
    assert verdicts(2, found, part=0) == [OPEN]


@pytest.mark.parametrize(
    ("initialisation", "order", "expected"),
    [(0.3, 0.1, SUPPORTED), (0.1, 0.3, REFUTED), (0.2, 0.21, OPEN)],
)
def test_claim_4_asks_every_method_of_every_crossed_set(initialisation, order, expected):
    sets = [("mnist3", 20), ("mnist3", 50), ("cifar10", 20)]
    crossed = []
    for task, size in sets:
        found = content(task=task, per_class=size, members=5, orders=5, attributed=12)
        for shares in found["variance"].values():
            shares |= {"initialisation": around(initialisation), "order": around(order)}
        crossed.append(found)
    assert verdicts(4, *crossed) == [expected] * 15


@pytest.mark.parametrize(
    ("values", "loo", "others"),
    [
        ({"floor": None}, OPEN, SUPPORTED),
        ({"floor": 0.02}, OPEN, SUPPORTED),
        ({"attributed": 11}, OPEN, OPEN),
        ({"members": 2, "orders": 2}, OPEN, OPEN),
    ],
)
def test_claim_4_needs_a_known_floor_for_leave_one_out(values, loo, others):
    found = content(**({"members": 5, "orders": 5, "attributed": 12} | values))
    for shares in found["variance"].values():
        shares["order"] = around(0.01)
    assert verdicts(4, found) == [loo, *[others] * 4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (around(0.3), SUPPORTED),
        (around(-0.9), SUPPORTED),  # To say the opposite is to disagree.
        (around(0.7), REFUTED),
        (around(0.5), OPEN),
        ([None, None, None], OPEN),  # Leave-one-out repeats nothing, so there is no ceiling.
    ],
)
def test_claim_5_looks_below_the_ceiling_at_each_method(value, expected):
    found = content()
    for method in ESTIMATORS:
        changed(found, f"agreement/mean/pearson/loo, {method}", around(0.45))
        changed(found, f"ceiling/pearson/{method}", value)
    assert verdicts(5, found) == [expected] * 4
    changed(found, "ceiling/pearson/ats", around(0.3))
    assert verdicts(5, found)[0] == SUPPORTED


def clustered(inside, across):
    found = content()
    for at, pair in enumerate((*claims.CLUSTERS, *claims.ACROSS)):
        value = around(inside if at < 2 else across)
        changed(found, f"agreement/mean/pearson/{', '.join(pair)}", value)
    return found


@pytest.mark.parametrize(
    ("inside", "across", "removal", "released"),
    [(0.6, 0.2, SUPPORTED, SUPPORTED), (0.3, 0.5, REFUTED, SUPPORTED), (0.3, 0.3, OPEN, SUPPORTED)],
)
def test_claim_6_has_its_clusters_with_either_sign(inside, across, removal, released):
    assert verdicts(6, clustered(inside, across), part=2) == [removal]
    assert verdicts(6, clustered(inside, across), part=3) == [released]
    assert not claims.CLAIMS[5].questions[3].counts


def test_claim_6_asks_the_opposite_of_cifar():
    path = "reliability/10/grad_cos/significant"
    assert verdicts(6, one(path, around(0.5), task="cifar10"), part=1) == [SUPPORTED]
    assert verdicts(6, one(path, around(0.95), task="cifar10"), part=1) == [REFUTED]


def sizes(*values, **others):
    path = "reliability/10/loo/mean_p"
    names = (10, 20, 50)
    return [
        one(path, around(v, 0.02), per_class=n, **others)
        for n, v in zip(names, values, strict=False)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1, 0.3, 0.1), SUPPORTED),
        ((0.1, 0.2, 0.3), REFUTED),
        ((0.3, 0.2, 0.1), REFUTED),
        ((0.1, 0.11, 0.3), OPEN),
        ((0.1, 0.3), OPEN),
    ],
)
def test_claim_7_looks_for_a_turn_beyond_the_intervals(values, expected):
    assert verdicts(7, *sizes(*values)) == [expected]


def test_claim_7_tells_refuted_from_not_decided():
    contents = [*sizes(0.1, 0.2, 0.3), *sizes(0.1, 0.11, 0.3, task="cifar10")]
    found = verdicts(7, *contents)
    assert found == [REFUTED, OPEN]
    assert claims.rules.pooled(found) == "refuted where decided"


def test_claim_7_has_no_released_lists_and_no_small_study():
    assert verdicts(7, *sizes(0.1, 0.2, 0.3, lists="released")) == []
    (first, second, _), small = sizes(0.1, 0.2, 0.3), content(per_class=50, members=4)
    assert verdicts(7, first, second, small) == [OPEN]


@pytest.mark.parametrize(
    ("two", "three", "expected"), [(0.1, 0.3, SUPPORTED), (0.3, 0.1, REFUTED), (0.2, 0.21, OPEN)]
)
def test_claim_8_compares_models_on_one_set(two, three, expected):
    path = "reliability/10/loo/mean_p"
    pair = [one(path, around(two, 0.02)), one(path, around(three, 0.02), model="cnn3")]
    assert verdicts(8, *pair) == [expected]
    # A model with few members leaves the others' comparison alone.
    few = content(model="vit", backbone="tiny", members=3)
    assert verdicts(8, *pair, few) == [expected, OPEN]


def test_claim_8_leaves_members_out_of_both_models_at_once():
    path = "reliability/10/loo/mean_p"
    pair = [one(path, around(0.2, 0.1)), one(path, around(0.25, 0.1), model="cnn3")]
    assert verdicts(8, *pair) == [OPEN]
    for found in pair:
        value = found["reliability"]["10"]["loo"]["mean_p"][0]
        without = [value + 0.01 * (-1) ** member for member in range(10)]
        found["without"] = {"reliability": {"10": {"loo": {"mean_p": without}}}}
    assert verdicts(8, *pair) == [SUPPORTED]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.7, SUPPORTED), (0.3, REFUTED), (0.505, OPEN), (None, OPEN)]
)
def test_claim_9_asks_each_method_for_its_gain_in_stability(value, expected):
    found = content()
    for row in found["checkpoints"]["5"].values():
        row["halves"] = [None] * 3 if value is None else around(value)
    assert verdicts(9, found) == [expected] * 5


def test_studies_beside_the_paper_are_no_evidence():
    path = "reliability/10/loo/sign_uncertain"
    others = [
        one(path, STEADY, draw=1),
        one("reliability/100/loo/sign_uncertain", STEADY, members=100),
        content(draw=2),
    ]
    found = evidence(one(path, NOISY), *others)
    assert [study.name for study in found.of("paired")] == ["MNIST3, 10, CNN2-L"]
    assert len(found.beside) == len(others)
