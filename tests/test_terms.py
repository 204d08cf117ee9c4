"""Words that several wings share."""

from typing import get_args

from tda_utils.attribution import METHODS
from tda_utils.terms import METHOD_LABELS, PROTOCOLS, Protocol


def test_the_type_and_the_values_are_the_same_protocols():
    assert get_args(Protocol) == PROTOCOLS


def test_every_method_has_a_label_of_its_own():
    assert METHOD_LABELS.keys() >= METHODS.keys()
    assert len(set(METHOD_LABELS.values())) == len(METHOD_LABELS)
