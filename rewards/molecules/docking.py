"""Docking: the affinity of a molecule to a protein's pocket, by AutoDock Vina.

The score is minus the energy of the best pose, in kcal/mol. A molecule is taken in the protonation of its SMILES, with
its implicit hydrogens added: no pH is assumed. Its conformer is RDKit's (ETKDG, then MMFF), its atom types and
rotatable bonds meeko's. Conformer and search start from `seed` on one core, so a molecule always has the same score.

The 58 receptors of dockstring go by their names, and a file of a receptor by its path, which may be gzipped. A box
comes with a name; the five receptors of SVDD's experiments have theirs by the names of their files.

A molecule that cannot be embedded or docked has no score: it counts as -inf and in the run's failures, and stops no
run. Affinity maps are made once in a process. A score takes seconds, so use workers and a cache:

    guided sample gdss_zinc250k.pth -r "docking?receptor=parp1" --workers 2 --cache ~/.cache/guided --time-limit 120

References:
    | AutoDock Vina 1.2.0: New Docking Methods, Expanded Force Field, and Python Bindings (Eberhardt et al., 2021)
    | https://doi.org/10.1021/acs.jcim.1c00203

    | DOCKSTRING: Easy Molecular Docking Yields Better Benchmarks for Ligand Design (Garcia-Ortegon et al., 2022)
    | https://doi.org/10.1021/acs.jcim.1c01334

    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024), the boxes
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["BOXES", "docking"]

import gzip
import importlib.util
import math
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from guided.errors import GuidedError, nearest
from guided.scoring.registry import register_reward

Box = tuple[float, ...]

#: Centre and size in angstrom, by the name of a receptor's file.
BOXES: dict[str, Box] = {
    "parp1": (26.413, 11.282, 27.238, 18.521, 17.479, 19.995),
    "jak2": (114.758, 65.496, 11.345, 19.033, 17.929, 20.283),
    "braf": (84.194, 6.949, -7.081, 22.032, 19.211, 14.106),
    "fa7": (10.131, 41.879, 32.097, 20.673, 20.198, 21.362),
    "5ht1b": (-26.602, 5.277, 17.898, 22.5, 22.5, 22.5),
}


def _check(receptor: str, box: str = "", exhaustiveness: int = 1, seed: int = 1) -> None:
    if exhaustiveness < 1:
        raise GuidedError(f"exhaustiveness is {exhaustiveness}; it must be at least 1")
    if not 1 <= seed < 2**31:
        raise GuidedError(f"seed is {seed}; it must be from 1 to {2**31 - 1}")
    _needs_vina()
    _pocket(receptor, box)


@register_reward("docking", modality="molecules", check=_check, tolerant=True)
def docking(
    samples: Sequence[str | None], receptor: str, box: str = "", exhaustiveness: int = 1, seed: int = 1
) -> list[float]:
    """Affinity to a receptor by AutoDock Vina, in kcal/mol, higher is better; no score where docking fails.

    Args:
        samples: n SMILES.
        receptor: The name of one of dockstring's receptors, or the path of a PDBQT file, which may be gzipped.
        box: Centre and size in angstrom, six numbers with commas; "" for that of the name.
        exhaustiveness: How many searches the best pose is chosen from; the time grows with it.
        seed: Of conformers and searches.

    Raises:
        ImportError: vina or meeko is not installed.
        ValueError: A parameter is wrong; or, for a single sample, it cannot be docked.
    """
    _needs_vina()
    text, numbers = _pocket(receptor, box)
    # After a failure the others of its batch are asked for again, one by one: their scores are remembered.
    return [_affinity(smiles, text, numbers, exhaustiveness, seed) for smiles in samples]


def _needs_vina() -> None:
    missing = [name for name in ("vina", "meeko") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the reward 'docking' needs {' and '.join(missing)}: pip install guided[docking]")


@lru_cache(maxsize=32)
def _pocket(receptor: str, box: str) -> tuple[str, Box]:
    """The receptor's PDBQT text and its box.

    Raises:
        GuidedError: There is no such receptor, it is no PDBQT, or the box misses it.
    """
    path, own = _located(str(receptor))
    numbers = _numbers(box) if box else own or BOXES.get(path.name.split(".")[0].lower())
    if numbers is None:
        raise GuidedError(f"receptor {str(path)!r} needs a box: centre and size in angstrom, as box=1,2,3,20,20,20")
    text = _text(path)
    atoms = _atoms(text, path)
    inside = sum(all(abs(atom[i] - numbers[i]) <= numbers[3 + i] / 2 for i in range(3)) for atom in atoms)
    if not inside:
        raise GuidedError(f"the box {_written(numbers)} misses the receptor {str(receptor)!r}: no atom of it is inside")
    return text, numbers


def _located(receptor: str) -> tuple[Path, Box | None]:
    """The file of a receptor, and its box where dockstring has one."""
    path = Path(receptor).expanduser()
    if path.is_file():
        return path, None
    folder = _dockstring()
    names = sorted(file.name.removesuffix("_target.pdbqt") for file in folder.glob("*_target.pdbqt")) if folder else []
    if folder is None or receptor.upper() not in names:
        hint = nearest(receptor.upper(), names)
        known = f"; dockstring's are {', '.join(names)}" if names else "; names need dockstring, of guided[docking]"
        raise GuidedError(f"receptor is {receptor!r}; there is no such file, and no such name{hint}{known}")
    name = receptor.upper()
    return folder / f"{name}_target.pdbqt", _conf(folder / f"{name}_conf.txt")


def _dockstring() -> Path | None:
    """The folder of dockstring's receptors; it is found without importing the package, which looks for OpenBabel."""
    spec = importlib.util.find_spec("dockstring")
    place = Path(spec.origin).parent / "resources" / "targets" if spec and spec.origin else None
    return place if place and place.is_dir() else None


def _conf(path: Path) -> Box:
    lines = (line.split("=") for line in path.read_text().splitlines() if "=" in line)
    entries = {key.strip(): float(value) for key, value in lines}
    return tuple(entries[f"{what}_{axis}"] for what in ("center", "size") for axis in "xyz")


def _numbers(box: str) -> Box:
    try:
        numbers = tuple(float(part) for part in str(box).split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
        raise GuidedError(f"box is {box!r}; it must be six numbers, centre and size in angstrom, as 1,2,3,20,20,20")
    return numbers


def _written(numbers: Box) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise GuidedError(f"cannot read the receptor {str(path)!r}: {str(error) or type(error).__name__}") from error


def _atoms(text: str, path: Path) -> list[tuple[float, ...]]:
    """The coordinates of a PDBQT's atoms: columns 31 to 54; the atom type follows the charge in column 71."""
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    try:
        atoms = [tuple(float(line[at : at + 8]) for at in (30, 38, 46)) for line in lines]
        typed = all(line[77:79].strip() and math.isfinite(float(line[66:76])) for line in lines)
    except ValueError:
        atoms, typed = [], False
    if not atoms or not typed:
        raise GuidedError(f"receptor {str(path)!r} is no PDBQT file: no atoms with charges and AutoDock's types")
    return atoms


@lru_cache(maxsize=4)
def _vina(text: str, box: Box, seed: int) -> Any:
    """Vina with a receptor and its affinity maps, on one core."""
    from vina import Vina

    engine = Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    with tempfile.TemporaryDirectory() as folder:  # it only reads files, and each process needs its own
        path = Path(folder) / "receptor.pdbqt"
        path.write_text(text)
        engine.set_receptor(str(path))
    engine.compute_vina_maps(center=list(box[:3]), box_size=list(box[3:]))
    return engine


@lru_cache(maxsize=100_000)
def _affinity(smiles: str | None, text: str, box: Box, exhaustiveness: int, seed: int) -> float:
    """Minus the energy of the best pose.

    Raises:
        ValueError: The molecule cannot be prepared or docked.
    """
    ligand = _ligand(smiles, seed)
    engine = _vina(text, box, seed)
    try:
        engine.set_ligand_from_string(ligand)
        engine.dock(exhaustiveness=exhaustiveness, n_poses=1)
        energies = engine.energies(n_poses=1)
    except (RuntimeError, ValueError, TypeError) as error:  # its own failures are RuntimeErrors
        raise ValueError(f"Vina cannot dock it: {' '.join(str(error).split())[:200]}") from error
    if not len(energies) or not math.isfinite(energies[0][0]):
        raise ValueError("Vina found no pose")
    return -float(energies[0][0])


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
            raise ValueError(f"meeko cannot prepare it: {' '.join(str(error).split())[:200]}") from error
    if not ready:
        raise ValueError(f"meeko cannot prepare it: {' '.join(str(why).split())[:200]}")
    return str(text)


def _embedded(molecule: Any, seed: int) -> Any:
    """The molecule with a conformer."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.maxIterations = 100
    if rdDistGeom.EmbedMolecule(molecule, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(molecule, parameters) < 0:
            raise ValueError("it cannot be embedded: no conformer satisfies its distances")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    return molecule
