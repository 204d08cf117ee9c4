"""Files that others wrote: what is no plain file, too long or too deep is refused in a sentence."""

import os
import socket

import pytest

from tda_utils.texts import (
    MOST_NESTED,
    UnfitFile,
    brief_problem,
    check_nesting,
    opened,
    parse_json,
    read_json,
    read_plain,
)
from tests.refusals import refused


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (pipe, "a pipe"),
        (os.mkdir, "a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_plain_file_is_refused_and_not_waited_for(make, kind, tmp_path):
    path = tmp_path / "there"
    make(path)
    for read in (read_plain, read_json, lambda path: opened(path).__enter__()):
        refused(UnfitFile, lambda read=read: read(path), path, kind, "plain file")


def test_a_socket_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    listening("there")
    with pytest.raises((OSError, UnfitFile)):
        read_plain("there")


def test_what_is_not_there_or_a_circle_of_links_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "nothing")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="links"):
        read_plain(tmp_path / "a")


def test_a_file_is_read_up_to_its_bound_and_no_further(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"12345")
    assert read_plain(path, most=5) == b"12345"
    refused(UnfitFile, lambda: read_plain(path, most=4), path, "5 bytes", 4)
    # A file without blocks that claims a hundred gigabytes is not read to find that out.
    os.truncate(path, 100 * 2**30)
    refused(UnfitFile, lambda: read_plain(path), path, f"{100 * 2**30:,} bytes")


def test_a_file_of_the_system_says_no_length_and_is_bounded_all_the_same():
    assert os.stat("/proc/self/maps").st_size == 0
    refused(UnfitFile, lambda: read_plain("/proc/self/maps", most=9), "/proc/self/maps", "most 9")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("[" * 20_000 + "]" * 20_000, f"more than {MOST_NESTED} deep"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, f"more than {MOST_NESTED} deep"),
        ("[" * 1_000_000, f"more than {MOST_NESTED} deep"),
        ("9" * 5_000, "5,000 digits"),
        ("[-" + "9" * 21 + "]", "digits"),
        ("NaN", "NaN"),
        ('{"a": [-Infinity]}', "-Infinity"),
        ("1e999", "1e999"),
        ("", "no JSON"),
        ("{'a': 1}", "no JSON"),
    ],
)
def test_json_that_is_too_deep_too_large_or_none_is_refused(text, fact, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(text)
    assert len(refused(UnfitFile, lambda: read_json(path), path, fact)) < 400


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_bytes(b'"\xff"')
    refused(UnfitFile, lambda: read_json(path), path, "no JSON")


def test_json_is_what_it_is():
    deep = "[" * MOST_NESTED + "]" * MOST_NESTED
    assert parse_json('{"a": [1, 2.5, null, "x[{\\"["], "b": 18446744073709551615}') == {
        "a": [1, 2.5, None, 'x[{"['],
        "b": 2**64 - 1,
    }
    assert str(parse_json(deep)) == deep
    assert parse_json("[NaN, 1e999, -Infinity]", finite=False)[1:] == [float("inf"), -float("inf")]


def test_brackets_in_a_text_are_not_counted():
    check_nesting('["' + "[" * 1_000 + '", "\\"' + "{" * 1_000 + '"]')
    # A quotation mark without its partner takes all that follows, and nothing is gone over twice.
    check_nesting('["' + "\\[" * 1_000_000)


def test_a_problem_is_said_on_one_line_of_moderate_length():
    assert brief_problem(ValueError("one\n  two.")) == "one two"
    assert brief_problem(MemoryError()) == "MemoryError"
    assert len(brief_problem(ValueError("x" * 10_000))) < 600
