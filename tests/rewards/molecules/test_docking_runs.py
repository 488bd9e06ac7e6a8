"""Whatever happens to a ligand is its own: laws of runs that dock, with stand-ins for Vina and meeko."""

import math
import sqlite3
import sys
import warnings

import pytest

import guided
from guided.errors import GuidedError
from guided.rewards.molecules import docking as module
from tests.rewards.molecules.test_docking import BOX, atom
from tests.toys.vina import MEEKO, VINA

pytest.importorskip("rdkit")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the stand-ins and a receptor; this process and those of workers take them for Vina."""
    for name, text in (("vina", VINA), ("meeko", MEEKO)):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "pocket.pdbqt").write_text(atom(1, 0, 0, 0, "C") + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    yield tmp_path
    _forget()
    for name in ("vina", "meeko"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def _forget():
    module._vina.cache_clear()
    module._affinity.cache_clear()


def docked(place):
    """What was docked, in order: the ligand, exhaustiveness and evaluations."""
    path = place / "docked"
    return path.read_text().splitlines() if path.exists() else []


def reward(place, more=""):
    return f"docking?receptor={place / 'pocket.pdbqt'}&box={BOX}{more}"


def test_a_ligand_that_fails_costs_no_other_a_second_docking(place):
    """Not embedded, no molecule, not prepared by meeko, refused by Vina: no score, and counted."""
    objective = guided.resolve_reward(reward(place))
    five = "C(C)(C)(C)(C)C"  # bonds of one carbon
    scores = objective(["CCO", five, "C(", "CCF", "CCBr", "CC.CC", "CCN", "CCCO"]).tolist()
    assert scores == [3.0, *[-math.inf] * 5, 3.0, 4.0]
    assert objective.failures == 5
    assert [line.split()[0] for line in docked(place)] == ["CCO", "CCBr", "CCN", "CCCO"]


def test_what_vina_says_is_one_line(place):
    objective = guided.resolve_reward(reward(place))
    objective(["CCBr"])
    assert objective.first_failure.endswith(
        "Vina cannot dock it: an atom is outside of the box by far, for sample 'CCBr'"
    )


def test_a_molecule_that_cannot_be_embedded(place, monkeypatch):
    from rdkit.Chem import rdDistGeom

    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", lambda *given: -1)
    objective = guided.resolve_reward(reward(place))
    assert objective(["CCO"]).tolist() == [-math.inf]
    assert "cannot be embedded" in objective.first_failure and docked(place) == []


def test_a_worker_that_is_killed_takes_no_other_ligand_with_it(place):
    """It is replaced, and its ligand is tried once more."""
    objective = guided.resolve_reward(reward(place), workers=1)
    try:
        assert objective(["CCS", "CCN"]).tolist() == [3.0, 3.0] and objective.failures == 0
        assert [line.split()[0] for line in docked(place)] == ["CCS", "CCS", "CCN"]
    finally:
        objective.close()


def test_settings_reach_vina(place):
    guided.resolve_reward(reward(place, "&exhaustiveness=3&max_evals=1000"))(["CCO"])
    assert docked(place) == ["CCO 3 1000"]


def test_a_full_disk_is_one_line_and_the_scores_stay(place, monkeypatch, capfd):
    import diskcache

    def full(*given, **options):
        raise sqlite3.OperationalError("database or disk is full")

    objective = guided.resolve_reward(reward(place), cache=place / "cache")
    monkeypatch.setattr(diskcache.Cache, "set", full)
    assert objective(["CCO"]).tolist() == [3.0] and objective(["CCCO"]).tolist() == [4.0]
    objective.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].endswith("database or disk is full")


def run(place, out, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return guided.sample(
            "molecules", reward(place), "unguided", n=2, steps=4, cache=place / "cache", out=place / out, **options
        )


def test_a_sample_without_a_score_stays_in_its_run(place, monkeypatch):
    """With the others as they are, and -inf in its place."""
    first = run(place, "a")
    prepare = module._embedded

    def fails(molecule, seed):
        if len(molecules) == 0:
            molecules.append(molecule)
            raise ValueError("it cannot be embedded")
        return prepare(molecule, seed)

    molecules: list[object] = []
    monkeypatch.setattr(module, "_embedded", fails)
    _forget()
    options = {"n": 2, "steps": 4, "out": place / "b"}
    other = guided.sample("molecules", reward(place, "&seed=2"), "unguided", **options)
    assert other.samples == first.samples
    assert sorted(other.rewards.tolist())[0] == -math.inf and other.rewards.isfinite().sum() == 1


def test_the_second_run_of_a_command_docks_nothing(place):
    first = run(place, "a")
    assert len(docked(place)) == len(set(filter(None, first.samples)))
    before = docked(place)
    _forget()
    assert run(place, "b").rewards.tolist() == first.rewards.tolist()
    assert docked(place) == before


def test_poses_are_those_of_the_samples_with_their_scores(place):
    """One file a sample, which names it; they are not found twice, and the report says where they are."""
    found = run(place, "a", poses=True, report=True)
    files = sorted((place / "a" / "poses").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.sdf" for i, r in enumerate(found.rewards) if r > -math.inf]
    for file in files:
        text, i = file.read_text(), int(file.stem)
        assert text.splitlines()[0] == found.samples[i] and text.endswith("$$$$\n")
        assert f"> <docking>\n{found.rewards[i]:.3f}\n" in text
        assert f"pose in poses/{file.name}" in (place / "a" / "report.html").read_text()
    files[0].unlink()
    before = docked(place)
    run(place, "a", poses=True, report=True)
    assert files[0].exists() and len(docked(place)) == len(before) + 1


def test_poses_by_workers_are_the_same_files(place):
    run(place, "a", poses=True)
    run(place, "b", poses=True, workers=1)
    texts = [{p.name: p.read_bytes() for p in (place / name / "poses").iterdir()} for name in "ab"]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("given", "said"), [("qed", "needs a reward that docks"), (None, "needs a reward")])
def test_poses_need_a_reward_that_docks(tmp_path, given, said):
    with pytest.raises(GuidedError, match=f"poses {said}"):
        guided.sample("molecules", given, "unguided", n=1, steps=2, poses=True, out=tmp_path / "a")
    with pytest.raises(GuidedError, match="poses needs out"):
        guided.sample("molecules", "qed", "unguided", n=1, steps=2, poses=True)
