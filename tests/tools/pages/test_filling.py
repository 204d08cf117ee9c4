"""Generated parts of pages: filled, checked, and named where one is missing."""

import os

import pytest

from tda_utils.texts import read_json
from tools.pages import filling

PAGE = "By hand.\n<!-- begin sum -->\nold\n<!-- end sum -->\nBy hand.\n"


def test_what_is_written_by_hand_stays():
    made = filling.fill(PAGE, (1, 2), {"sum": lambda numbers: rf"\1 {sum(numbers)}"}, "page.md")
    assert made == PAGE.replace("old", r"\1 3")


@pytest.mark.parametrize("parts", [{}, {"product": str}, {"sum": str, "product": str}])
def test_a_part_that_is_missing_or_unknown_is_named_with_its_page(parts):
    with pytest.raises(ValueError, match=r"page\.md") as error:
        filling.fill(PAGE, None, parts, "page.md")
    assert all(f"'{name}'" in str(error.value) for name in {"sum", *parts})


def test_checking_changes_nothing_and_writing_ends_the_difference(tmp_path, capsys):
    path = tmp_path / "page.md"

    def run(*arguments):
        return filling.write_or_check(path, lambda before: before[:2] + "new", "", list(arguments))

    assert run("--check") == 1 and not path.exists()
    assert "page.md" in capsys.readouterr().err
    assert run() == 0 and path.read_text() == "new"
    path.write_text("older")
    assert run("--check") == 1 and path.read_text() == "older"
    assert run() == 0 and path.read_text() == "olnew"
    assert run("--check") == 0


@pytest.mark.parametrize("content", ["[" * 20_000, "9" * 5_000, '{"share": NaN}', "{", None])
def test_a_file_of_numbers_that_is_none_is_one_sentence(content, tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    if content is None:
        os.mkfifo(numbers)
    else:
        numbers.write_text(content)
    page = tmp_path / "page.md"
    page.write_text("as it was")
    assert filling.write_or_check(page, lambda _: str(read_json(numbers)), "", []) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "page.md" in said and str(numbers) in said
    assert page.read_text() == "as it was"
