"""Laws of a reward's identity: it follows what the scores depend on, and says where that cannot be known."""

import functools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import guided
from guided.errors import GuidedError
from guided.scoring import registry
from guided.scoring.identity import as_recorded
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import register_reward
from tests.toys.values import dna

LIMIT = 3


def identity(spec):
    return resolve_reward(spec).identity


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.py").write_text(
        "from near_one import W\ndef f(samples):\n    return [W * len(s) for s in samples]\n"
    )
    (tmp_path / "near_one.py").write_text("from near_two import W\n")
    (tmp_path / "near_two.py").write_text("W = 1.0\n")
    yield tmp_path
    for name in ("near_one", "near_two", "mod_r"):
        sys.modules.pop(name, None)


def test_a_changed_neighbour_of_a_neighbour_is_noticed_and_takes_effect(folder):
    before = resolve_reward("r.py:f")
    assert before(["ab"]).tolist() == [2.0]
    (folder / "near_two.py").write_text("W = 2.0\n")
    after = resolve_reward("r.py:f")
    assert after.spec != before.spec and after(["ab"]).tolist() == [4.0]
    with pytest.raises(GuidedError, match="has changed"):
        resolve_reward(before.spec)


def test_a_file_without_neighbours_has_the_identity_of_a_former_version(folder):
    (folder / "alone.py").write_text("import json, numpy\ndef f(samples):\n    return [1.0] * len(samples)\n")
    assert identity("alone.py:f")["terms"][0].keys() == {"reward", "parameters", "sha256", "weight", "transform"}
    assert identity("qed")["terms"][0].keys() == {"reward", "parameters", "weight", "transform"}


def test_a_function_of_a_module_is_noticed_when_it_changes(folder):
    (folder / "mod_r.py").write_text("def f(samples):\n    return [1.0] * len(samples)\n")
    before = resolve_reward("mod_r:f")
    (folder / "mod_r.py").write_text("def f(samples):\n    return [2.0] * len(samples)\n")
    after = resolve_reward("mod_r:f")
    assert after.identity != before.identity and after(["a"]).tolist() == [2.0]
    with pytest.raises(GuidedError, match="has changed"):
        resolve_reward(before.spec)
    (folder / "mod_r.py").write_text("from near_one import W\ndef f(samples):\n    return [W] * len(samples)\n")
    before = resolve_reward("mod_r:f")
    (folder / "near_two.py").write_text("W = 3.0\n")
    assert resolve_reward("mod_r:f").identity != before.identity and resolve_reward("mod_r:f")(["a"]).tolist() == [3.0]


def test_files_of_folders_and_of_the_home_folder_are_part_of_it(folder, monkeypatch):
    (folder / "w.py").write_text("def f(samples, weights: str):\n    return [1.0] * len(samples)\n")
    monkeypatch.setenv("HOME", str(folder))
    (folder / "weights" / "deep").mkdir(parents=True)
    inner = folder / "weights" / "deep" / "a.bin"
    for spec in ("w.py:f?weights=weights", "w.py:f?weights=~/weights", "w.py:f?weights=~/weights/deep/a.bin"):
        inner.write_text("1")
        before = identity(spec)
        inner.write_text("2")
        assert identity(spec) != before
        inner.write_text("1")
        assert identity(spec) == before
    inner.rename(inner.with_name("b.bin"))
    assert identity("w.py:f?weights=weights") != before


def test_a_parameter_may_be_longer_than_a_path():
    chain = "C" * 5000
    assert identity(f"similarity?target={chain}")["terms"][0]["parameters"]["target"] == chain
    with pytest.raises(GuidedError, match="unknown reward") as caught:
        resolve_reward("q" * 10_000)
    assert len(str(caught.value)) < 2000


def script(text: str) -> dict:
    """What a script prints last, as JSON."""
    code = "import json, numpy, functools\nfrom guided.scoring.objective import resolve_reward\n" + textwrap.dedent(
        text
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(json.dumps([resolve_reward(f).identity, resolve_reward(f).opaque]))"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    return json.loads(done.stdout)


def test_the_text_of_a_function_and_of_what_it_uses_is_part_of_it():
    one = "W = {w}\ndef g(s): return W * len(s)\ndef f(samples): return [g(s) for s in samples]"
    same, opaque = script(one.format(w=1))
    assert opaque is None and script(one.format(w=1) + "\nother = 5")[0] == same
    assert script(one.format(w=2))[0] != same
    assert script(one.format(w=1).replace("len(s)", "-len(s)"))[0] != same


def closure(held):
    def f(samples):
        return [float(held) if isinstance(held, float) else 1.0] * len(samples)

    return f


class Scorer:
    def __call__(self, samples):
        return [1.0] * len(samples)


def test_what_cannot_be_known_is_said():
    for made in (closure([1.0]), closure(torch.ones(1)), Scorer(), Scorer().__call__, lambda s, x=[1.0]: x * len(s)):
        assert resolve_reward(made).opaque is not None
    assert "'held', which it holds, is an object of list" in str(resolve_reward(closure([1.0])).opaque)
    for made in (closure(1.0), lambda s: [LIMIT] * len(s), "qed", functools.partial(closure(1.0))):
        assert resolve_reward(made).opaque is None
    assert identity(closure(1.0)) == identity(closure(1.0)) != identity(closure(2.0))


def test_what_a_module_makes_is_known_by_the_module(folder):
    text = "class Scorer:\n    def __call__(self, s):\n        return [{} for _ in s]\nf = Scorer()\n"
    (folder / "mod_r.py").write_text(text.format(1.0))
    before = resolve_reward("mod_r:f")
    assert before.opaque is None and before(["a"]).tolist() == [1.0]
    (folder / "mod_r.py").write_text(text.format(2.0))
    assert resolve_reward("mod_r:f").identity != before.identity and resolve_reward("mod_r:f")(["a"]).tolist() == [2.0]


def test_a_registered_function_is_known_by_its_text(monkeypatch):
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    register_reward("mine")(closure(1.0))
    before = resolve_reward("mine").identity
    monkeypatch.setattr(registry, "_table", {})
    register_reward("mine")(closure(2.0))
    assert resolve_reward("mine").identity != before


def test_what_a_former_version_did_not_record_is_not_held_against_it(folder):
    new = identity({"r.py:f": 1.0, closure(1.0): 2.0})
    old = json.loads(json.dumps(new))
    del old["terms"][0]["modules"], old["terms"][1]["source"], old["terms"][1]["modules"]
    assert as_recorded(old, new) == old
    assert resolve_reward({**old, "terms": old["terms"][:1]}).identity["terms"] == new["terms"][:1]
    for key, other in (("weight", 3.0), ("sha256", "0"), ("reward", "s.py:f")):
        changed = json.loads(json.dumps(old))
        changed["terms"][0][key] = other
        assert as_recorded(changed, new) == new
    assert as_recorded(None, new) == as_recorded([], new) == new


SMALL = {"target": "mean", "prompt": "GC", "n": 10, "states": 1, "updates": 2, "n_check": 0}
TINY = {**SMALL, "network": {"width": 8, "depth": 1}}


def gs(samples):
    return [s.count("G") / len(s) for s in samples]


def test_a_folder_of_a_value_is_not_used_for_an_edited_function(tmp_path):
    guided.fit_value(dna(), gs, out=tmp_path, **TINY)
    edited = eval(compile("lambda samples: [1 - s.count('G') / len(s) for s in samples]", "edited", "eval"))
    edited.__module__, edited.__qualname__ = gs.__module__, gs.__qualname__
    with pytest.raises(GuidedError, match=r"source is .* there"):
        guided.fit_value(dna(), edited, out=tmp_path, **TINY)
    guided.fit_value(dna(), gs, out=tmp_path, **TINY)


def test_a_folder_of_a_value_is_used_for_an_opaque_reward_only_when_it_is_trusted(tmp_path):
    held = [1.0]
    guided.fit_value(dna(), closure(held), out=tmp_path, **TINY)
    with pytest.raises(GuidedError, match=r"is in use, and reward 'f' cannot be told .*trust_rewards"):
        guided.fit_value(dna(), closure(held), out=tmp_path, **TINY)
    guided.fit_value(dna(), closure(held), out=tmp_path, trust_rewards=True, **TINY)


def test_a_value_of_a_former_version_is_found_again(tmp_path):
    value = guided.fit_value(dna(), gs, out=tmp_path, **TINY)
    for file in (tmp_path / "config.json", tmp_path / "rollouts" / "rollouts.json"):
        config = json.loads(file.read_text())
        for key in ("source", "modules"):
            del config["reward"]["terms"][0][key]
        file.write_text(json.dumps(config, indent=2))
    again = guided.fit_value(dna(), gs, out=tmp_path, **TINY)
    assert again.identity == value.identity
    guided.sample(dna(), gs, "svdd", n=2, prompt="GC", value=again)


def test_the_identity_that_is_handed_out_is_a_copy():
    made = resolve_reward("alerts?catalogs=PAINS")
    made.identity["terms"][0]["parameters"]["catalogs"] = "none"
    assert made.identity["terms"][0]["parameters"]["catalogs"] == "PAINS"


def test_the_digest_of_a_file_is_one(tmp_path):
    from guided.scoring.dependencies import path_digest
    from guided.storage import digest

    Path(tmp_path / "a").write_text("a")
    assert path_digest(tmp_path / "a") == digest(tmp_path / "a")


def test_a_run_of_a_former_version_resumes_until_a_neighbour_changes(folder, guided):
    words = ["sample", "rna", "-r", "r.py:f", "-n", 4, "--batch-size", 2, "-M", 1, "--steps", 2, "--no-report"]
    assert guided(*words, "--out", "o")[0] == 0
    whole = Path("o/samples.csv").read_bytes()
    run = json.loads(Path("o/run.json").read_text())
    del run["config"]["reward"]["terms"][0]["modules"], run["summary"]
    Path("o/run.json").write_text(json.dumps({**run, "requests_done": 2}))
    Path("o/samples.csv").write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert guided(*words, "--out", "o")[0] == 0 and Path("o/samples.csv").read_bytes() == whole
    assert "modules" in json.loads(Path("o/run.json").read_text())["config"]["reward"]["terms"][0]
    (folder / "near_two.py").write_text("W = 2.0\n")
    code, _, err = guided(*words, "--out", "o")
    assert code == 2 and "modules.near_two is" in err
