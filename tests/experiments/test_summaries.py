"""Summaries in files: read as they were written, and made again where they are damaged."""

import json

import pytest

from tda_utils.experiments.studies import SummaryError
from tda_utils.experiments.summaries import kept_content, read_content

FACTS = {"members": 3, "scores": ["study/a.safetensors"]}


def made_in(path, numbers=(0.5, None)):
    return kept_content(
        path, FACTS, lambda: {"numbers": list(numbers)}, lambda own: "numbers" in own
    )


def test_what_is_kept_is_what_was_made_and_is_made_once(tmp_path):
    path = tmp_path / "folder" / "own.json"
    first = made_in(path)
    assert first["numbers"] == [0.5, None] and set(FACTS) < set(first)
    assert {"git", "date", "versions"} <= set(first["provenance"])
    assert made_in(path, [7]) == first
    assert made_in(None, [7])["numbers"] == [7]


@pytest.mark.parametrize("harm", ["cut", "changed", "of others", "a number"])
def test_a_file_that_is_not_what_was_written_is_refused_and_set_aside(harm, tmp_path):
    path = tmp_path / "own.json"
    made_in(path)
    text = path.read_text()
    changed = json.loads(text) | {"numbers": [0.25]}
    facts = FACTS
    if harm == "of others":
        facts = FACTS | {"members": 4}
    else:
        path.write_text({"cut": text[:40], "changed": json.dumps(changed), "a number": "1"}[harm])
    with pytest.raises(SummaryError, match=r"own\.json"):
        read_content(path, facts, lambda _: True)
    if harm != "of others":
        with pytest.warns(RuntimeWarning, match="set aside"):
            assert made_in(path, [1.5])["numbers"] == [1.5]
        assert len(list(tmp_path.glob("*.damaged-1"))) == 1


def test_a_file_without_a_part_is_refused(tmp_path):
    path = tmp_path / "own.json"
    made_in(path)
    with pytest.raises(SummaryError):
        read_content(path, FACTS, lambda own: "curves" in own)
