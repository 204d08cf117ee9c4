"""README.md shows what the committed results say."""

from tools.pages import readme


def test_generated_parts_are_up_to_date():
    assert readme.main(["--check"]) == 0
