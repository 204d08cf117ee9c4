"""docs/models.md shows the outcomes that the tests of the zoo hold."""

from tests.zoo.inputs import INPUTS
from tests.zoo.networks import NETWORKS
from tests.zoo.objectives import CASES
from tests.zoo.outcomes import GRADIENT_METHODS, PAIRED, input_outcome, outcome
from tests.zoo.training_outcomes import TRAINING_METHODS, training_outcome
from tools.pages import models


def test_the_page_of_models_is_up_to_date():
    assert models.main(["--check"]) == 0


def tables():
    """Return the tables of the page, cell by cell."""
    found, before = [], ""
    for line in models.MODELS.read_text(encoding="utf-8").splitlines():
        if line[:1] == "|":
            if before[:1] != "|":
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


def test_every_objective_and_every_kind_of_inputs_is_on_the_page():
    _, objectives, inputs = tables()
    assert [row[0] for row in objectives[2:]] == list(CASES)
    methods = [name.strip("`") for name in inputs[0][3:]]
    assert methods == [*TRAINING_METHODS, *GRADIENT_METHODS]
    assert [row[0] for row in inputs[2:]] == list(INPUTS) == list(PAIRED)
    for network, _, tried, *cells in inputs[2:]:
        assert tuple(tried.split("; ")) == PAIRED[network] and {*PAIRED[network]} <= {*CASES}
        assert cells == [input_outcome(network, method) for method in methods]


def test_every_cell_is_what_the_tests_expect():
    rows = tables()[0]
    methods = [name.strip("`") for name in rows[0][1:]]
    assert {*methods} == {*TRAINING_METHODS, *GRADIENT_METHODS}
    assert [row[0] for row in rows[2:]] == list(NETWORKS) and len(NETWORKS) >= 25
    for network, *cells in rows[2:]:
        for method, cell in zip(methods, cells, strict=True):
            of = training_outcome if method in TRAINING_METHODS else outcome
            assert cell.partition(",")[0] == of(network, method), (network, method)
