"""README.md shows what the committed results say."""

import pytest

from tools.pages import filling, readme


def test_generated_parts_are_up_to_date():
    assert readme.main(["--check"]) == 0


def test_a_missing_part_is_said():
    with pytest.raises(ValueError, match=r"page.md .*'gallery'.*'cost'"):
        filling.fill("<!-- begin gallery -->", None, {"cost": str}, "page.md")
