"""Files: what is written comes back, whole or not at all; folders are held by one process, where the system can."""

import csv
import errno
import io
import os
import stat
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from guided.errors import GuidedError
from guided.storage import (
    append_csv,
    csv_text,
    lock,
    parse_csv,
    read_csv,
    read_rows,
    read_tensors,
    refuse_foreign,
    refuse_links,
    whole,
    write_csv,
    write_tensors,
    write_whole,
)

CELLS = st.text(st.sampled_from(list('ab,;"\n\r \u2028\x0b\ufeffé')), max_size=6)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=5))
def test_rows_come_back_from_their_text(rows):
    assert parse_csv(csv_text([["x", "y"], *rows]))[1:] == rows


@given(st.lists(st.lists(st.text(st.sampled_from(list('ab,"\n é')), max_size=6), max_size=4), max_size=5))
def test_text_without_carriage_returns_is_written_and_read_as_the_library_does(rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    assert csv_text(rows) == text.getvalue()
    assert parse_csv(text.getvalue()) == list(csv.reader(io.StringIO(text.getvalue(), newline="")))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=2, max_size=3), st.data())
def test_a_torn_text_has_a_prefix_of_the_rows(rows, data):
    text = csv_text([["x", "y"], *rows])
    kept = parse_csv(text[: data.draw(st.integers(0, len(text)))])
    assert kept == [["x", "y"], *rows][: len(kept)]


def test_long_cells_byte_order_marks_and_line_ends_of_editors(tmp_path):
    long = 'C"' * 200_000
    write_csv(tmp_path / "a.csv", [["sample", "reward"], [long, 1.5], ["a\rb", 2.0]])
    assert read_rows(tmp_path / "a.csv") == [{"sample": long, "reward": "1.5"}, {"sample": "a\rb", "reward": "2.0"}]
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,\r\n")
    assert read_csv(tmp_path / "b.csv") == (["x", "y"], [["1", ""]])


def test_a_carriage_return_that_a_former_version_left_bare_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"request,sample,reward\n0,a\rb,1.0\n1,\r,2.0\n")
    assert read_csv(tmp_path / "a.csv")[1] == [["0", "a\rb", "1.0"], ["1", "\r", "2.0"]]


def test_rows_are_added_to_a_file_that_is_there_alone(tmp_path):
    append_csv(tmp_path / "a.csv", ["x"], [[1]])
    append_csv(tmp_path / "a.csv", None, [[2]])
    assert (tmp_path / "a.csv").read_text() == "x\n1\n2\n"
    with pytest.raises(GuidedError, match=r"cannot write to the folder .*No such file"):
        append_csv(tmp_path / "b.csv", None, [[2]])


def test_weights_have_the_permissions_of_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        write_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2)})
        write_whole(tmp_path / "b", "text")
    finally:
        os.umask(old)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.safetensors", "b")] == [0o640, 0o640]
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["w"], torch.ones(2))


def test_a_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    for name in ("a", "a.part"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write_whole(tmp_path / "a", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "a").read_text() == "ours" and not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("write", [lambda p: write_whole(p, "x"), lambda p: write_tensors(p, {"w": torch.ones(9)})])
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, monkeypatch, write):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GuidedError, match=r"^cannot write to the folder '.*': No space left on device$"):
        write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_below_the_writer_of_tensors_is_one_line(tmp_path, monkeypatch):
    def full(tensors, file, metadata=None):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("guided.storage.tensors.save_file", full)
    with pytest.raises(GuidedError, match=r"^cannot write to the folder .*No space left on device"):
        write_tensors(tmp_path / "a", {"w": torch.ones(2)})


def test_a_torn_file_of_tensors_is_one_line(tmp_path):
    write_tensors(tmp_path / "a", {"w": torch.ones(100)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:50])
    with pytest.raises(GuidedError, match="is truncated, or no safetensors file"):
        read_tensors(tmp_path / "a")


def test_a_folder_is_held_by_one(tmp_path):
    with lock(tmp_path / "a"), pytest.raises(GuidedError, match="another process is writing to"), lock(tmp_path / "a"):
        pass
    with lock(tmp_path / "a"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_noted_once(tmp_path, monkeypatch, capsys, number):
    import fcntl

    def none(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    for _ in range(2):
        with lock(tmp_path):
            pass
    assert capsys.readouterr().err.count("has no locks: two processes can write to it at once") == 1


def test_a_lock_that_is_refused_otherwise_is_one_line(tmp_path, monkeypatch):
    import fcntl

    def broken(handle, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(GuidedError, match=r"cannot write to the folder .*Input/output error"), lock(tmp_path):
        pass


def test_links_within_a_folder_pass(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    refuse_links(tmp_path, ["a", "b", "none"])
    (tmp_path / "out").symlink_to(tmp_path.parent)
    with pytest.raises(GuidedError, match=r"'.*out' is a link out of its folder"):
        refuse_links(tmp_path, ["a", "out"])


def test_nothing_is_left_where_the_writer_fails(tmp_path):
    with pytest.raises(KeyError), whole(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyError
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "kept",
    [(), (".DS_Store",), ("notes.txt", "job.sh"), ("run.json", "notes.txt", "plots"), ("config.json", "paper.pdf")],
)
def test_an_empty_folder_and_one_of_ours_are_written_to(tmp_path, kept):
    """Whatever lies beside a run: notes, plots, what a file manager leaves."""
    for name in kept:
        (tmp_path / name).touch()
    refuse_foreign(tmp_path)
    refuse_foreign(tmp_path / "new")


@pytest.mark.parametrize("name", ["thesis.tex", "Documents", "config.yaml", "photo.jpg", "run.json.bak"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / ".bashrc").touch()
    (tmp_path / name).touch()
    with pytest.raises(GuidedError, match=rf"^--out '.*' holds '{name}', and none of run\.json") as caught:
        refuse_foreign(tmp_path, "--out")
    assert "\n" not in str(caught.value)
    (tmp_path / "zeta").touch()
    with pytest.raises(GuidedError, match="and 1 more"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("name", ["samples", "only-3.csv", "only-3.png", "run.json.part", "training", "00000.npz"])
def test_what_an_interrupted_start_leaves_is_ours(tmp_path, name):
    (tmp_path / name).touch()
    refuse_foreign(tmp_path)
