"""A sampler is found by its name, wherever it comes from; adding one is one file."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import guided
from guided.errors import GuidedError
from guided.samplers import SVDD, Unguided, base, register_sampler, resolve_sampler, sampler_to_dict, samplers

ROOT = Path(__file__).parents[2]
OWN = """
from dataclasses import dataclass

from guided.samplers.base import register_sampler


@register_sampler("first-of-two")
@dataclass(frozen=True)
class FirstOfTwo:
    "Draws two and keeps the first."

    N: int = 2

    def __call__(self, model, value, streams):
        particles = model.start(streams, self.N)
        while not particles.done:
            particles = particles.propose()
        return particles.take(value(particles, 0.0).argmax(1, keepdim=True) * 0)
"""


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(base, "_table", dict(base._table))


def test_a_file_in_the_folder_is_a_sampler(tmp_path):
    package = tmp_path / "guided"
    package.mkdir()
    for entry in (ROOT / "guided").iterdir():
        if entry.name != "samplers":
            (package / entry.name).symlink_to(entry.resolve())
    shutil.copytree(ROOT / "samplers", package / "samplers")
    (package / "samplers" / "first_of_two.py").write_text(OWN)

    def guided(*words):
        command = [sys.executable, "-m", "guided", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert "first-of-two" in guided("samplers").stdout
    drawn = guided("sample", "molecules", "-r", "qed", "--sampler", "first-of-two", "-n", "2", "--steps", "2")
    assert drawn.returncode == 0, drawn.stderr
    assert "reward median" in drawn.stdout


def test_an_installed_sampler_is_imported_when_it_is_asked_for(monkeypatch):
    point = EntryPoint("installed", "guided.samplers.unguided:Unguided", base.GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [point] if group == base.GROUP else [])
    assert resolve_sampler("installed") == Unguided()
    assert "installed" in samplers()


def test_an_installed_sampler_that_fails_is_named(monkeypatch):
    point = EntryPoint("broken", "no_such_module:Sampler", base.GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [point])
    with pytest.raises(GuidedError, match="'broken' cannot be imported"):
        resolve_sampler("broken")


def test_a_name_belongs_to_one_class(table):
    @dataclass(frozen=True)
    class Other:
        M: int = 1

    with pytest.raises(GuidedError, match=r"already registered by .*svdd:SVDD"):
        register_sampler("svdd")(Other)
    assert register_sampler("other")(Other) is Other
    assert register_sampler("other")(Other) is Other  # a cell that runs twice
    assert sampler_to_dict(Other(M=3)) == {"name": "other", "M": 3}


@pytest.mark.parametrize("name", ["", "two words", "a:b"])
def test_malformed_names_are_refused(name):
    with pytest.raises(GuidedError, match="no spaces and no colon"):
        register_sampler(name)(SVDD)


def test_only_dataclasses_are_samplers(table):
    with pytest.raises(GuidedError, match="not a dataclass"):
        register_sampler("plain")(object)


class Plain:
    def __call__(self, model, value, streams):
        return model.start(streams, 1)


@dataclass
class Thawed(Plain):
    N: int = 2


@dataclass(frozen=True)
class Returns:
    """A sampler that returns what it is given."""

    what: object = None

    def __call__(self, model, value, streams):
        return self.what


@pytest.mark.parametrize("sampler", [Plain(), Thawed(), lambda model, value, streams: None])
def test_a_sampler_is_a_frozen_dataclass(sampler):
    name = type(sampler).__name__
    with pytest.raises(GuidedError, match=rf"'{name}' is not a frozen dataclass; put @dataclass\(frozen=True\)"):
        resolve_sampler(sampler)


@pytest.mark.parametrize("what", [None, "CCO", (1, 2)])
def test_a_sampler_returns_particles(what):
    message = f"Returns returned {what!r}; it must return Particles, one for each of the 2 requests"
    with pytest.raises(GuidedError, match=re.escape(message)):
        guided.sample("molecules", "qed", Returns(what), n=2, steps=4)


def test_fields_of_an_own_sampler_are_checked():
    with pytest.raises(GuidedError, match="did you mean 'alpha'"):
        resolve_sampler({"name": "guided.samplers.svdd:SVDD", "alhpa": 1})


@pytest.mark.parametrize("name", [":", "a:", ":b", "x" * 10_000])
def test_strange_names_are_one_line(name):
    with pytest.raises(GuidedError):
        resolve_sampler(name)
