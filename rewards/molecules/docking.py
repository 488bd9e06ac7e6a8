r"""Docking: the affinity of a molecule to a protein's pocket, by AutoDock Vina.

The score is minus the energy of the best pose, in kcal/mol. A molecule is taken in the protonation of its SMILES, with
its implicit hydrogens added: no pH is assumed. Its conformer is RDKit's (ETKDG, then MMFF), its atom types and
rotatable bonds meeko's. Conformer and search start from `seed` on one core, so a molecule always has the same score.

A molecule that cannot be embedded or docked has no score: it counts as -inf and in the run's failures, and stops no
run; a receptor that Vina does not read is refused at once. Affinity maps are made once in a process. A score takes
seconds, so use workers and a cache; ligands are given to workers one by one, so a time limit is a ligand's own, and one
that ends its worker costs no other its score. With a time limit there is a worker even if none was asked for, as Vina
cannot be stopped otherwise. With `--poses` the run folder has the poses of the finished samples:

    guided sample gdss_zinc250k.pth -r "docking?receptor=parp1" --workers 2 --cache ~/.cache/guided --time-limit 120 \
        --poses --out docked

References:
    | AutoDock Vina 1.2.0: New Docking Methods, Expanded Force Field, and Python Bindings (Eberhardt et al., 2021)
    | https://doi.org/10.1021/acs.jcim.1c00203
"""

__all__ = ["docking", "pose"]

import importlib.util
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from guided.errors import GuidedError, RewardError
from guided.rewards.molecules.receptors import Box, pocket
from guided.scoring.registry import register_reward

_turn = Lock()  # threads of one process share an engine
_INT32 = 2**31 - 1
CLASH = 10.0  # kcal/mol: a search that is cut short may end with atoms in one another


def _check(receptor: str, box: str = "", exhaustiveness: int = 1, seed: int = 1, max_evals: int = 0) -> None:
    for name, given, least in (("exhaustiveness", exhaustiveness, 1), ("max_evals", max_evals, 0), ("seed", seed, 1)):
        if not least <= given <= _INT32:
            raise GuidedError(f"{name} is {given}; it must be from {least} to {_INT32}")
    _needs_vina()
    text, _ = pocket(receptor, box)
    try:
        _engine(text, seed)
    except RewardError as error:
        raise GuidedError(f"receptor {receptor!r}: {error}") from error


def pose(
    sample: str,
    receptor: str,
    box: str = "",
    exhaustiveness: int = 1,
    seed: int = 1,
    max_evals: int = 0,
) -> str:
    """The best pose of a molecule as an SDF record, in the receptor's coordinates, with its score as `docking`.

    It is docked anew, with the same result: nothing is kept of the poses that scores come from.

    Args:
        sample: A SMILES.
        receptor: As of `docking`, and so are the others.
        box: As of `docking`.
        exhaustiveness: As of `docking`.
        seed: As of `docking`.
        max_evals: As of `docking`.

    Raises:
        ImportError: vina or meeko is not installed.
        ValueError: A parameter is wrong, or the molecule cannot be docked.
    """
    _needs_vina()
    text, numbers = pocket(receptor, box)
    return _record(*_docked(sample, text, numbers, exhaustiveness, seed, max_evals), sample)


@register_reward("docking", modality="molecules", check=_check, tolerant=True, single=True, pose=pose)
def docking(
    samples: Sequence[str | None],
    receptor: str,
    box: str = "",
    exhaustiveness: int = 1,
    seed: int = 1,
    max_evals: int = 0,
) -> list[float]:
    """Affinity to a receptor by AutoDock Vina, in kcal/mol, higher is better; no score where docking fails.

    Args:
        samples: n SMILES.
        receptor: The name of one of dockstring's receptors, or the path of a PDBQT file, which may be gzipped.
        box: Centre and size in angstrom, six numbers with commas; "" for that of the name.
        exhaustiveness: How many searches the best pose is chosen from; the time grows with it.
        seed: Of conformers and searches.
        max_evals: The most evaluations of a search; 0 for Vina's own number, which grows with the molecule. 30,000
            take a thirtieth of the time and find a weaker pose, which is enough to compare candidates with.

    Raises:
        ImportError: vina or meeko is not installed.
        ValueError: A parameter is wrong; or, for a single sample, it cannot be docked.
    """
    _needs_vina()
    text, numbers = pocket(receptor, box)
    return [_affinity(smiles, text, numbers, exhaustiveness, seed, max_evals) for smiles in samples]


def _needs_vina() -> None:
    missing = [name for name in ("vina", "meeko") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the reward 'docking' needs {' and '.join(missing)}: pip install guided[docking]")


@lru_cache(maxsize=4)
def _vina(text: str, box: Box, seed: int) -> Any:
    """Vina with a receptor and its affinity maps, on one core.

    Raises:
        RewardError: As of `_engine`, or there are no maps. No molecule is to blame.
    """
    engine = _engine(text, seed)
    try:
        engine.compute_vina_maps(center=list(box[:3]), box_size=list(box[3:]))
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise RewardError(f"Vina makes no maps of the box: {_short(error)}") from error
    return engine


def _engine(text: str, seed: int) -> Any:
    """Vina with a receptor.

    Raises:
        RewardError: Vina does not read it, or there is no room for the file that it reads.
    """
    from vina import Vina

    engine = Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    try:
        with tempfile.TemporaryDirectory() as folder:  # it only reads files, and each process needs its own
            path = Path(folder) / "receptor.pdbqt"
            path.write_text(text)
            engine.set_receptor(str(path))
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise RewardError(f"Vina cannot read the receptor: {_short(error)}") from error
    return engine


def _short(error: object) -> str:
    return " ".join(str(error).split())[:200]


@lru_cache(maxsize=100_000)
def _affinity(smiles: str | None, *how: Any) -> float:
    """Minus the energy of the best pose; the same molecule is not docked twice in a process."""
    return _docked(smiles, *how)[0]


def _docked(
    smiles: str | None, text: str, box: Box, exhaustiveness: int, seed: int, max_evals: int
) -> tuple[float, str]:
    """Minus the energy of the best pose, and the pose as PDBQT text.

    Raises:
        ValueError: The molecule cannot be prepared or docked.
    """
    ligand = _ligand(smiles, seed)
    engine = _vina(text, box, seed)
    try:
        with _turn:
            engine.set_ligand_from_string(ligand)
            engine.dock(exhaustiveness=exhaustiveness, n_poses=1, max_evals=max_evals)
            energies, found = engine.energies(n_poses=1), engine.poses(n_poses=1)
    except (RuntimeError, ValueError, TypeError) as error:  # its own failures are RuntimeErrors
        raise ValueError(f"Vina cannot dock it: {_short(error)}") from error
    if not len(energies) or not energies[0][0] < CLASH:
        raise ValueError("Vina found no pose" + (" without a clash" if len(energies) else ""))
    return -float(energies[0][0]), str(found)


def _record(score: float, text: str, smiles: str) -> str:
    """An SDF record of a pose, whose PDBQT text names the molecule's atoms."""
    from meeko import PDBQTMolecule, RDKitMolCreate
    from rdkit import Chem

    try:
        molecule = RDKitMolCreate.from_pdbqt_mol(PDBQTMolecule(text, skip_typing=True))[0]
        block = Chem.MolToMolBlock(molecule)
    except Exception as error:  # meeko's own are of several kinds
        raise ValueError(f"meeko cannot read the pose: {_short(error)}") from error
    _, _, rest = block.partition("\n")
    return f"{smiles}\n{rest}> <docking>\n{score:.3f}\n\n$$$$\n"


def _ligand(smiles: str | None, seed: int) -> str:
    """The PDBQT text of a molecule."""
    from meeko import MoleculePreparation, PDBQTWriterLegacy
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None or not molecule.GetNumAtoms():
            raise ValueError("it is no molecule that RDKit can read")
        if len(Chem.GetMolFrags(molecule)) > 1:
            raise ValueError("it has several fragments, which do not dock as one molecule")
        molecule = _embedded(Chem.AddHs(Chem.MolFromSmiles(Chem.MolToSmiles(molecule))), seed)
        try:
            setups = MoleculePreparation().prepare(molecule)
            text, ready, why = PDBQTWriterLegacy.write_string(setups[0])
        except Exception as error:  # atoms without types, and what else meeko does not take
            raise ValueError(f"meeko cannot prepare it: {_short(error)}") from error
    if not ready:
        raise ValueError(f"meeko cannot prepare it: {_short(why)}")
    return str(text)


def _embedded(molecule: Any, seed: int) -> Any:
    """The molecule with a conformer."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.maxIterations = 30  # of a cage that has no conformer, three times as many take five seconds
    if rdDistGeom.EmbedMolecule(molecule, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(molecule, parameters) < 0:
            raise ValueError("it cannot be embedded: no conformer satisfies its distances")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    return molecule
