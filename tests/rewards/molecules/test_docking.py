"""Docking: receptors and boxes are checked without Vina; with it, scores are deterministic, and failures have none."""

import ctypes
import gzip
import importlib.util
import math
import time

import pytest

import guided
from guided.errors import GuidedError, RewardError
from guided.rewards.molecules import docking as module
from guided.rewards.molecules import receptors
from guided.rewards.molecules.docking import docking
from guided.rewards.molecules.receptors import BOXES
from guided.scoring import registry
from guided.scoring.registry import register_reward, rewards

needs_vina = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("vina", "meeko")),
    reason="vina and meeko are not installed: pip install guided[docking]",
)
needs_dockstring = pytest.mark.skipif(
    importlib.util.find_spec("dockstring") is None, reason="dockstring is not installed: pip install guided[docking]"
)
BOX = "0,0,0,12,12,12"


def atom(i, x, y, z, kind):
    return f"ATOM  {i:5d}  {kind:<3} LIG A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    +0.100 {kind:<2}"


@pytest.fixture
def receptor(tmp_path):
    """A pocket: carbons and oxygens on a half shell."""
    atoms = [(4 * math.cos(a), 4 * math.sin(a), z) for z in (-3, 0, 3) for a in (0, 1, 2, 3)]
    lines = [atom(i, *place, "OA" if i % 3 == 0 else "C") for i, place in enumerate(atoms)]
    path = tmp_path / "pocket.pdbqt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def vina(monkeypatch):
    """As if Vina were installed: what comes before a ligand is docked does not need it."""
    monkeypatch.setattr(module, "_needs_vina", lambda: None)
    monkeypatch.setattr(module, "_engine", lambda text, seed: None)


def objective(path, **options):
    return guided.resolve_reward(f"docking?receptor={path}&box={BOX}", **options)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("box=1,2,3", "six numbers"),
        ("box=0,0,0,1,1,nan", "six numbers"),
        ("box=0,0,0,1,1,-1", "six numbers"),
        ("", "needs a box"),
        ("box=100,0,0,9,9,9", "misses the receptor"),
        ("box=0,0,0,12,12,101", "100 angstrom long at most"),
        (f"box={BOX}&exhaustiveness=0", "exhaustiveness is 0"),
        (f"box={BOX}&exhaustiveness=99999999999", "exhaustiveness is 99999999999"),
        (f"box={BOX}&max_evals=3000000000", "max_evals is 3000000000"),
        (f"box={BOX}&seed=0", "seed is 0"),
        (f"box={BOX}&max_evals=-1", "max_evals is -1"),
    ],
)
def test_wrong_boxes_are_told_at_once(receptor, vina, query, message):
    with pytest.raises(GuidedError, match=message):
        guided.resolve_reward(f"docking?receptor={receptor}" + (f"&{query}" if query else ""))


DAMAGED = bytearray(gzip.compress(bytes(range(256)) * 40))
DAMAGED[60:90] = bytes(30)


@pytest.mark.parametrize(
    "content", [b"", b"CCO\n", b"ATOM      1  N   SER", b"\x1f\x8b\x08broken", bytes(DAMAGED), b"\xff\xfe"]
)
def test_files_that_are_no_pdbqt(tmp_path, vina, content):
    path = tmp_path / "parp1.pdbqt"
    path.write_bytes(content)
    with pytest.raises(GuidedError, match="receptor"):
        guided.resolve_reward(f"docking?receptor={path}")


def test_a_pdb_file_is_no_pdbqt(receptor, vina):
    receptor.write_text("\n".join(line[:66] + f"{line[77:79]:>12}" for line in receptor.read_text().splitlines()))
    with pytest.raises(GuidedError, match="is no PDBQT"):
        objective(receptor)


def test_an_atom_without_a_place_is_no_atom(receptor, vina):
    receptor.write_text(receptor.read_text() + atom(99, 0, math.nan, 0, "C") + "\n")
    with pytest.raises(GuidedError, match="is no PDBQT"):
        objective(receptor)


def test_a_file_that_changes_is_read_again(receptor):
    """Else the scores of another receptor would be kept as those of this one."""
    before = receptors.pocket(str(receptor), BOX)[0]
    receptor.write_text(before + atom(99, 0, 0, 0, "C") + "\n")
    assert receptors.pocket(str(receptor), BOX)[0] == receptor.read_text() != before


def test_the_boxes_of_the_paper_go_by_the_files_name(receptor, vina, tmp_path):
    """Gzipped or not."""
    x, y, z = BOXES["fa7"][:3]
    path = tmp_path / "fa7.pdbqt.gz"
    path.write_bytes(gzip.compress((atom(1, x, y, z, "C") + "\n").encode()))
    assert receptors.pocket(str(path), "")[1] == BOXES["fa7"]


def test_unknown_names(vina):
    with pytest.raises(GuidedError, match="no such name"):
        guided.resolve_reward("docking?receptor=parp11")


@needs_dockstring
def test_dockstrings_receptors_have_boxes(vina):
    assert receptors.pocket("parp1", "")[1] == (26.835, 11.332, 27.744, 30, 30, 30)
    assert len(list(receptors._dockstring().glob("*_target.pdbqt"))) == 58


def test_without_vina_it_says_what_to_install(receptor, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install guided\[docking\]"):
        objective(receptor)


def test_failures_of_a_tolerant_reward_stop_no_run(monkeypatch):
    """Whatever the policy: counted, and -inf."""
    monkeypatch.setattr(registry, "_table", dict(registry._table))

    @register_reward("picky", tolerant=True)
    def picky(samples):
        if any(sample == "bad" for sample in samples):
            raise ValueError("it cannot be embedded")
        return [1.0] * len(samples)

    assert rewards()["picky"].tolerant
    scored = guided.resolve_reward("picky", on_error="stop")
    assert scored(["good", "bad", "good"]).tolist() == [1.0, -math.inf, 1.0]
    assert scored.failures == 1
    assert "cannot be embedded, for sample 'bad'" in scored.first_failure


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_time_limit_is_a_samples_own(monkeypatch, tmp_path, library):
    """Of a reward that is given one sample at a time: five that are quick take longer together, and none is blamed. As
    docking does, one may hold Python's lock (PyDLL) and so stop the process that it is called in.
    """
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    log = tmp_path / "log"

    @register_reward("slow", tolerant=True, single=True)
    def slow(samples):
        with log.open("a") as file:
            file.write(f"{len(samples)}\n")
        getattr(ctypes, library)(None).usleep(30_000_000 if samples == ["hangs"] else 300_000)
        return [1.0] * len(samples)

    objective, start = guided.resolve_reward("slow", time_limit=1.0), time.perf_counter()
    assert objective(["a", "b", "hangs", "c", "d", "e"]).tolist() == [1.0, 1.0, -math.inf, 1.0, 1.0, 1.0]
    assert {*log.read_text().split()} == {"1"} and objective.failures == 1
    assert time.perf_counter() - start < 25
    objective.close()


@needs_vina
def test_a_pose_is_in_the_receptors_pocket_with_the_score_of_the_molecule(receptor):
    from rdkit import Chem

    record = module.pose("c1ccccc1O", str(receptor), BOX)
    title, *_, last = record.splitlines()
    molecule = Chem.MolFromMolBlock(record.partition("> <")[0])
    assert title == "c1ccccc1O" and last == "$$$$" and Chem.MolToSmiles(molecule) == "Oc1ccccc1"
    assert f"{docking(['c1ccccc1O'], str(receptor), BOX)[0]:.3f}" in record
    assert abs(molecule.GetConformer().GetPositions()).max() < 6  # half of the box


@needs_vina
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "ROOT\n" + text, "cannot read the receptor"),
        (lambda text: text.replace(" OA", " Xx"), "cannot read the receptor"),
    ],
)
def test_a_receptor_that_vina_does_not_read_is_refused_at_once(receptor, change, message):
    receptor.write_text(change(receptor.read_text()))
    with pytest.raises(GuidedError, match=message):
        objective(receptor)


@needs_vina
def test_no_molecule_is_to_blame_for_a_full_disk(receptor, monkeypatch):
    scored = objective(receptor)
    module._vina.cache_clear()

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(RewardError, match="No space left"):
        scored(["CCO"])


def test_a_pose_with_a_clash_is_none(monkeypatch):
    class Engine:
        energies = staticmethod(lambda n_poses: [[49.6]])
        poses = staticmethod(lambda n_poses: "")
        dock = set_ligand_from_string = staticmethod(lambda *given, **options: None)

    monkeypatch.setattr(module, "_ligand", lambda smiles, seed: "")
    monkeypatch.setattr(module, "_vina", lambda *given: Engine())
    with pytest.raises(ValueError, match="no pose without a clash"):
        module._docked("C#C", "", (), 1, 1, 10)


@needs_vina
def test_fewer_evaluations_find_no_better_pose(receptor):
    few, all_of_them = (docking(["CCCCCCO"], str(receptor), BOX, max_evals=n)[0] for n in (100, 0))
    assert few <= all_of_them


@needs_vina
def test_scores_do_not_depend_on_their_neighbours(receptor):
    scores = docking(["CCO", "c1ccccc1O"], str(receptor), BOX)
    assert all(0 < score < 10 for score in scores)
    module._affinity.cache_clear()
    assert docking(["c1ccccc1O", "CCO"], str(receptor), BOX) == scores[::-1]
    module._affinity.cache_clear()
    assert docking(["OCC"], str(receptor), BOX) == scores[:1]  # another spelling of the same molecule


@needs_vina
def test_ligands_that_cannot_be_docked_have_no_score(receptor):
    given = ["CCO", "", "C(", "CCO.CCO", "[U]", None]
    scored = objective(receptor)
    found = scored(given).tolist()
    assert found[0] > 0
    assert found[1:] == [-math.inf] * 5
    assert scored.failures == 5


@needs_vina
def test_the_second_run_docks_nothing(receptor, tmp_path, monkeypatch):
    given = ["CCO", "CCO.CCO", "CCN"]
    first = objective(receptor, cache=tmp_path / "cache")(given).tolist()
    module._affinity.cache_clear()
    monkeypatch.setattr(module, "_affinity", lambda *given: pytest.fail("docked again"))
    second = objective(receptor, cache=tmp_path / "cache")
    assert second(given).tolist() == first
    assert second.failures == 1  # remembered, too


@needs_vina
def test_other_settings_are_other_scores(receptor, tmp_path):
    """The cache tells receptors, boxes and exhaustiveness apart."""
    keys = {
        guided.resolve_reward(f"docking?receptor={receptor}&box={BOX}{more}", cache=tmp_path).terms[0].cached.reward
        for more in ("", "&exhaustiveness=2", "&seed=2")
    }
    receptor.write_text(receptor.read_text().replace(" C ", " A "))
    keys.add(objective(receptor, cache=tmp_path).terms[0].cached.reward)
    assert len(keys) == 4


@needs_vina
def test_affinity_maps_are_made_once(receptor):
    module._vina.cache_clear()
    docking(["CCO", "CCN"], str(receptor), BOX)
    docking(["CCC"], str(receptor), BOX)
    assert module._vina.cache_info().misses == 1
