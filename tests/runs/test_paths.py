"""Files that a user names: prompts, folders."""

from pathlib import Path

import pytest

from guided import check_folder, read_prompts
from guided.errors import GuidedError


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"red\ngreen\n", ["red", "green"]),
        (b"red\ngreen", ["red", "green"]),
        (b"red\r\ngreen\r\n", ["red", "green"]),
        (b"\xef\xbb\xbfred\n", ["red"]),
        ("a\u2028b\u0085\n".encode()[:4] + b"b\n", ["a\u2028b"]),
        ("ä☃\u2029x\n".encode(), ["ä☃\u2029x"]),
        (b" red \n", [" red "]),
    ],
)
def test_a_line_ends_where_an_editor_ends_it(tmp_path, data, lines):
    (tmp_path / "p.txt").write_bytes(data)
    assert read_prompts(tmp_path / "p.txt") == lines


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"red\n\ngreen\n", "have an empty line, line 2"),
        (b"red\n \t\n", "control character U+0009 in line 2"),
        (b"red\x0bgreen\n", "control character U+000B in line 1"),
        (b"red\na\x00b\n", "control character U+0000 in line 2"),
        (b"red\rgreen\n", "control character U+000D in line 1"),
        ("red\u0085green\n".encode(), "control character U+0085 in line 1"),
        (b"\xff\xfe", "are not UTF-8 text"),
        (b"", "are empty"),
        (b"\xef\xbb\xbf", "are empty"),
        (None, "cannot read the prompts"),
    ],
)
def test_wrong_prompts_are_said_with_their_line(tmp_path, data, message):
    if data is not None:
        (tmp_path / "p.txt").write_bytes(data)
    with pytest.raises(GuidedError) as error:
        read_prompts(tmp_path / "p.txt")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.txt").write_text("red\n")
    assert read_prompts("~/p.txt") == ["red"]


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").touch()
    for path, message in (
        (Path(), "is empty"),
        (tmp_path / "file", "must be a folder"),
        (tmp_path / "file/a", "a file"),
    ):
        with pytest.raises(GuidedError, match=f"--out .*{message}"):
            check_folder(path)
    check_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
