"""README.md shows what the committed results say."""

import pytest
import write_readme


def test_generated_parts_are_up_to_date():
    assert write_readme.main(["--check"]) == 0


def test_a_missing_part_is_said():
    with pytest.raises(ValueError, match="it must have"):
        write_readme.fill("<!-- begin gallery -->\n<!-- end gallery -->", None)
