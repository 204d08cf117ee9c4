"""docs/models.md shows the outcomes that the tests of the zoo hold."""

from tests.zoo.networks import NETWORKS
from tests.zoo.outcomes import GRADIENT_METHODS, outcome
from tests.zoo.training_outcomes import TRAINING_METHODS, training_outcome
from tools.pages import models


def test_the_page_of_models_is_up_to_date():
    assert models.main(["--check"]) == 0


def test_every_cell_is_what_the_tests_expect():
    lines = models.MODELS.read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    methods = [name.strip("`") for name in rows[0][1:]]
    assert {*methods} == {*TRAINING_METHODS, *GRADIENT_METHODS}
    assert [row[0] for row in rows[2:]] == list(NETWORKS) and len(NETWORKS) >= 25
    for network, *cells in rows[2:]:
        for method, cell in zip(methods, cells, strict=True):
            of = training_outcome if method in TRAINING_METHODS else outcome
            assert cell.partition(",")[0] == of(network, method), (network, method)
