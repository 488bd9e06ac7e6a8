"""Tables of measured numbers are what was measured, and say so where the weights have changed since."""

import hashlib
import json
import re
from dataclasses import replace

import pytest

from benchmarks.figures import measured
from benchmarks.figures.__main__ import chosen, left, measure
from benchmarks.figures.draw import script
from benchmarks.figures.measured import MEASURED, ROOT, fingerprint, load, rounded, run, stale
from benchmarks.figures.outside import OUTSIDE
from benchmarks.figures.recipe import Measurement, Missing, Table
from benchmarks.figures.render import BLOCK, cell, documents, rendered, written
from benchmarks.figures.tables import TABLES
from guided.errors import GuidedError

MEASUREMENTS = {table.measurement.name for table in TABLES.values()}
NAMES = [str(path.relative_to(ROOT)) for path in documents()]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_documents_show_what_was_measured(name):
    """`make figures ARGS=--render` writes it. Stale numbers are said to be so: the rendering knows today's weights."""
    assert TEXTS[name] == written(TEXTS[name], TABLES)


def test_every_table_is_in_a_document_and_every_file_has_a_table():
    shown = {name for text in TEXTS.values() for name, _ in BLOCK.findall(text)}
    assert shown == {*TABLES}
    assert {path.stem for path in MEASURED.glob("*.json")} == MEASUREMENTS


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_no_column_is_empty(table):
    """An empty column is left out; the cause may be a misspelt entry, or numbers that are older than this folder."""
    if not any("note" in found for found in load(table.measurement).values()):
        shown = rendered(table).splitlines()[0].strip("| ").split(" | ")
        assert shown == [head for head in table.columns if head]


def measures(line):
    """Whether a line of a table holds mostly numbers."""
    cells = [text.strip() for text in line.strip().strip("|").split("|")][1:]
    filled = [text for text in cells if text]
    return bool(filled) and sum(bool(re.match(r"[-+±]?[\d.][\d.,]*\b", text)) for text in filled) > len(filled) / 2


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_numbers_are_measured_here_or_listed(name):
    """A table outside of a block, most of whose lines are numbers, is in a document that outside.py lists."""
    loose = re.findall(r"(?:^\|.*\n)+", BLOCK.sub("", TEXTS[name]), re.MULTILINE)
    tables = [table.splitlines() for table in loose]
    heads = {lines[0] for lines in tables if sum(map(measures, lines[2:])) > (len(lines) - 2) / 2}
    listed = {head for place, head, _ in OUTSIDE if place == name}
    assert heads <= listed or "" in listed


def test_what_is_listed_as_outside_is_there():
    for name, head, why in OUTSIDE:
        assert name in TEXTS and head in TEXTS[name].splitlines() and why, (name, head)


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A measurement of a model with weights of its own, of two runs; its table, and the folder of its numbers."""
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    monkeypatch.setattr(measured, "MEASURED", tmp_path)
    weights = tmp_path / "guided" / "checkpoints" / "toy" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    fingerprint.cache_clear()
    yield (
        Table(
            Measurement(
                "toy_runs",
                ("toy",),
                {"one": {"M": 1}, "two": {"M": 2}},
                lambda settings, work: [{"reward": settings["M"] / 8, "each": [1.0, settings["M"]]}],
            ),
            {"": "{label}", "M": "{reward:.2f}", "second": "{each[1]}", "no": "{nothing:.1f}"},
        ),
        tmp_path,
        weights,
    )
    fingerprint.cache_clear()


def test_a_table_is_rendered_from_its_runs(one):
    table, folder, _ = one
    for label in ("two", "one"):
        run(table.measurement, label)
    text = rendered(table)
    assert text.startswith("| | M | second |\n|---|---|---|\n| one | .12 | 1 |\n| two | .25 | 2 |\n\n*")
    assert "Stale" not in text
    assert list(json.loads((folder / "toy_runs.json").read_text())) == ["one", "two"]
    assert f"weights toy `{fingerprint('toy')}`" in text and "torch" in text


def test_changed_weights_and_settings_are_stale_and_said_to_be(one):
    table, _, weights = one
    run(table.measurement, "one")
    assert stale(table.measurement, "two", None) == "not measured"
    assert "Not measured yet: two." in (text := rendered(table)) and "Stale" not in text
    assert "| two" not in rendered(table)
    run(table.measurement, "two")
    other = replace(table.measurement, runs={"one": {"M": 1}, "two": {"M": 3}})
    assert "**Stale**: measured with other settings: M (two)." in rendered(replace(table, measurement=other))
    weights.write_bytes(b"other weights")
    fingerprint.cache_clear()
    assert stale(table.measurement, "one", load(table.measurement)["one"]) == "other weights of toy"
    assert "**Stale**: measured with other weights of toy. `make figures ONLY=toy_runs`" in rendered(table)
    run(table.measurement, "one")
    assert "**Stale**: measured with other weights of toy (two)." in rendered(table)


def test_a_document_is_written_within_its_blocks_only(one):
    table, *_ = one
    run(table.measurement, "one")
    text = "before\n\n<!-- figures: toy_runs -->\nold\n<!-- end -->\n\nafter <!-- end -->\n"
    new = written(text, {"toy_runs": table})
    assert new.startswith("before\n\n<!-- figures: toy_runs -->\n\n| | M | second |\n|---|---|---|\n| one |")
    assert new.endswith("<!-- end -->\n\nafter <!-- end -->\n") and "old" not in new
    assert written(new, {"toy_runs": table}) == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures: nothing -->\n<!-- end -->", "there is no table 'nothing'"),
        ("<!-- figures: toy_runs -->\n", "no `<!-- end -->`"),
        ("<!-- figures: toy runs -->\n<!-- end -->", "no `<!-- end -->`"),
        ("<!-- figures: toy_runs -->\n<!-- figures: toy_runs -->\n<!-- end -->", "no `<!-- end -->`"),
    ],
)
def test_wrong_blocks_are_refused(text, message, one):
    table, *_ = one
    with pytest.raises(GuidedError, match=message):
        written(text, {"toy_runs": table})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a:.3f}", "-.500"),
        ("{b:,.0f}", "10,240"),
        ("{c:.1f}", ""),
        ("{d:.1f}", ""),
        ("{a:.0%}", "-50 %"),
        ("{b:.1f} and {a}", "10240.0 and -.5"),
    ],
)
def test_cells(template, text):
    assert cell(template, {"a": -0.5, "b": 10_240.0, "c": None}) == text


def test_runs_that_are_left_are_measured_until_the_time_is_over(one, capsys):
    table, *_ = one
    measure(left([table.measurement]), minutes=0)
    assert "2 runs are left" in capsys.readouterr().out and load(table.measurement) == {}
    run(table.measurement, "two")
    measure(left([table.measurement]), minutes=1)
    assert "toy_runs, one (not measured)" in (out := capsys.readouterr().out) and "two" not in out
    assert [why for *_, why, _ in left([table.measurement], again=True)] == ["again", "again"]
    assert left([table.measurement]) == [] and [*load(table.measurement)] == ["one", "two"]


def test_a_run_that_needs_what_is_not_there_is_left_out(one, capsys, monkeypatch):
    table, *_ = one
    monkeypatch.delenv("NOWHERE", raising=False)
    runs = {"one": {"commands": ["script.py --table $NOWHERE"]}}
    measure(left([replace(table.measurement, runs=runs, measure=script(lambda _: []))]), minutes=1)
    assert "left out: $NOWHERE is not set" in capsys.readouterr().out and load(table.measurement) == {}


def test_names_are_those_of_measurements_tables_and_documents():
    assert [found.name for found in chosen(["samplers_natural"])] == ["samplers_natural"]
    assert [found.name for found in chosen(["molecules_moses_properties"])] == ["molecules_moses"]
    assert {"molecules_svdd", "hot_loop"} <= {found.name for found in chosen(["README.md"])} < {*MEASUREMENTS}
    assert {found.name for found in chosen([])} == MEASUREMENTS
    with pytest.raises(GuidedError, match="there is no 'molecule'"):
        chosen(["molecule"])


def test_a_script_is_run_and_its_numbers_are_read(tmp_path):
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'x').write_text('.5')"
    rows = script(lambda out: [{"reward": float((out / "x").read_text())}])(
        {"commands": [f'-c "{code}" {{out}}']}, tmp_path / "work"
    )
    assert rows == [{"reward": 0.5}]
    with pytest.raises(Missing, match="ended with 1"):
        script(lambda _: [])({"commands": ["-c 1/0"]}, tmp_path)


@pytest.mark.usefixtures("one")
def test_fingerprints_are_those_of_sha256sum():
    assert fingerprint("toy") == hashlib.sha256(b"weights").hexdigest()[:12]
    with pytest.raises(GuidedError, match="no weights"):
        fingerprint("none")


def test_numbers_have_six_digits():
    assert rounded({"a": [0.123456789, 3]}) == {"a": [0.123457, 3]}
