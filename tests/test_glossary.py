"""The glossary names what is there: classes, their attributes, and options of the command line."""

import re
import sys
from pathlib import Path

import pytest

from guided.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "---" not in line
]
SOURCES = [path.read_text(encoding="utf-8") for room in ("guided", "samplers") for path in (ROOT / room).rglob("*.py")]
CLASSES = sorted(set(re.findall(r"`([A-Z][a-zA-Z]+(?:\.[a-z_]+)?)`", PAGE)))
CODE = set(re.findall(r"`(--?[a-zA-Z][a-z-]*)", PAGE))


def test_a_word_has_four_columns_and_stands_once() -> None:
    words = [row[0] for row in ROWS if row[0] != "word"]
    assert len(words) == len(set(words)) > 50
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_there_with_its_attribute(name: str) -> None:
    cls, _, attribute = name.partition(".")
    [source] = [text for text in SOURCES if re.search(rf"^class {cls}\b", text, re.MULTILINE)]
    assert re.search(rf"\b(def )?{attribute}\b", source)


def test_an_option_is_one_of_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command in (["sample"], ["fit-value"], ["npo", "train"]):
        monkeypatch.setattr(sys, "argv", ["guided", *command, "--help"])
        with pytest.raises(SystemExit):
            main()
    text = capsys.readouterr().out
    assert {option for option in CODE if not re.search(rf"(?<![\w-]){option}\b", text)} == set()
