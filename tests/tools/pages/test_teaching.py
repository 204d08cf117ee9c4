"""docs/teaching.md shows what the notebooks say of themselves."""

import pytest

from tools.pages import teaching


def test_the_generated_parts_of_the_teachers_page_are_up_to_date():
    assert teaching.main(["--check"]) == 0


def test_an_opening_without_a_reading_time_is_said():
    text = "## What you'll learn\n\n- x\n\n## What you need\n\nnothing"
    with pytest.raises(ValueError, match="notebooks/01"):
        teaching.lesson("01 One", "notebooks/01", text)
