"""Small experiments whose summaries are looked at, and what they are summed up to."""

import pytest

import tda_utils as tda

SIZE = {"members": 3, "checkpoints": 2, "epochs": 2, "attributed": 3, "test_per_class": 2}


@pytest.fixture(scope="package")
def small_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="package", params=["paired", "released"])
def experiment(request, small_store):
    return tda.Experiment(protocol=request.param, store=small_store, **SIZE)


@pytest.fixture(scope="package")
def summary(experiment):
    return tda.study_of(experiment)


@pytest.fixture(scope="package", params=["paired", "released"])
def crossed(request, small_store):
    """Two initialisations with two orders of two batches an epoch."""
    values = SIZE | {"members": 2, "orders": 2, "attributed": 2, "per_class": 20}
    return tda.Experiment(protocol=request.param, store=small_store, **values)
