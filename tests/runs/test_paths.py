"""Files that a user names: prompts, folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import guided
from guided import check_folder, read_prompts
from guided.errors import GuidedError
from guided.fitting.negative.job import train_negative
from guided.samplers import SVDD


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


@pytest.mark.parametrize("given", [None, 0, b"x", [], {}, object()], ids=lambda given: type(given).__name__)
def test_what_is_no_path_is_one_line(given: Any) -> None:
    with pytest.raises(GuidedError, match=r"the path is .*; it must be a text"):
        guided.open_run(given)
    if given is not None:
        with pytest.raises(GuidedError, match=r"out is .*; it must be a path"):
            guided.sample("rna", None, "unguided", out=given)


@pytest.mark.parametrize("progress", [0, "", [], 1.5])
def test_a_progress_that_cannot_be_called_is_one_line(tmp_path: Path, progress: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: guided.sample("rna", None, "unguided", steps=1, progress=progress),
        lambda: guided.fit_value("rna", "gc", out=tmp_path / "value", progress=progress),
        lambda: train_negative("rna", tmp_path / "negative", progress=progress),
    ]
    for call in calls:
        with pytest.raises(GuidedError, match=r"progress is .*; it must be a function of a Progress, or None"):
            call()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["x" * 10_000, "a\0b"], ids=["too long", "a null"])
@pytest.mark.parametrize("option", ["out", "cache", "value", "image"])
def test_a_name_that_no_file_can_have_is_one_line(name: str, option: str) -> None:
    with pytest.raises(GuidedError, match=option if option != "value" else "there is no folder"):
        guided.sample("rna", "gc", steps=1, **{option: name})
    with pytest.raises(GuidedError, match=r"holds no run"):
        guided.open_run(name)


@pytest.mark.parametrize("number", [10**400, -(10**5000)], ids=["1e400", "-1e5000"])
@pytest.mark.parametrize("option", ["n", "seed", "steps", "draws", "workers", "time_limit", "guidance", "devices"])
def test_a_number_beyond_all_floats_is_one_line(number: int, option: str) -> None:
    with pytest.raises(GuidedError, match=f"{option} is too large|devices"):
        guided.sample("rna", "gc", **{option: number})
    with pytest.raises(GuidedError, match="M is too large"):
        SVDD(M=number)


def test_a_report_is_a_yes_or_no() -> None:
    with pytest.raises(GuidedError, match="report is"):
        guided.sample("rna", "gc", report=np.array([1, 2]))
    with pytest.raises(GuidedError, match="report needs out"):
        guided.sample("rna", "gc", report=True)
