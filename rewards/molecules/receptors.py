"""Receptors of docking: their PDBQT text and the box that a ligand is placed in.

The 58 receptors of dockstring go by their names, with their boxes. A file of a receptor goes by its path and may be
gzipped; the five of SVDD's experiments have their boxes by the names of their files, any other needs one.

References:
    | DOCKSTRING: Easy Molecular Docking Yields Better Benchmarks for Ligand Design (Garcia-Ortegon et al., 2022)
    | https://doi.org/10.1021/acs.jcim.1c01334

    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024), the boxes
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["BOXES", "Box", "pocket"]

import gzip
import importlib.util
import math
import zlib
from functools import lru_cache
from pathlib import Path

from guided.errors import GuidedError, nearest

Box = tuple[float, ...]

#: Centre and size in angstrom, by the name of a receptor's file.
BOXES: dict[str, Box] = {
    "parp1": (26.413, 11.282, 27.238, 18.521, 17.479, 19.995),
    "jak2": (114.758, 65.496, 11.345, 19.033, 17.929, 20.283),
    "braf": (84.194, 6.949, -7.081, 22.032, 19.211, 14.106),
    "fa7": (10.131, 41.879, 32.097, 20.673, 20.198, 21.362),
    "5ht1b": (-26.602, 5.277, 17.898, 22.5, 22.5, 22.5),
}


LONGEST = 100.0  # angstrom of a box's side: its maps take 3.4 GB, and more would end the process


def pocket(receptor: str, box: str) -> tuple[str, Box]:
    """The receptor's PDBQT text and its box.

    Raises:
        GuidedError: There is no such receptor, it is no PDBQT, or the box misses it.
    """
    path, own = _located(str(receptor))
    numbers = _numbers(box) if box else own or BOXES.get(path.name.split(".")[0].lower())
    if numbers is None:
        raise GuidedError(f"receptor {str(path)!r} needs a box: centre and size in angstrom, as box=1,2,3,20,20,20")
    stat = path.stat()
    text, atoms = _read(path, stat.st_mtime_ns, stat.st_size)
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
    if max(numbers[3:]) > LONGEST:
        raise GuidedError(f"box is {box!r}; a side may be {LONGEST:g} angstrom long at most")
    return numbers


def _written(numbers: Box) -> str:
    return ",".join(f"{number:g}" for number in numbers)


@lru_cache(maxsize=32)
def _read(path: Path, changed: int, size: int) -> tuple[str, list[tuple[float, ...]]]:
    """The text of a receptor's file and the coordinates of its atoms, once for each change of the file."""
    text = _text(path)
    return text, _atoms(text, path)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise GuidedError(f"cannot read the receptor {str(path)!r}: {str(error) or type(error).__name__}") from error


def _atoms(text: str, path: Path) -> list[tuple[float, ...]]:
    """The coordinates of a PDBQT's atoms: columns 31 to 54; the atom type follows the charge in column 71."""
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    try:
        atoms = [tuple(float(line[at : at + 8]) for at in (30, 38, 46)) for line in lines]
        charges = [float(line[66:76]) for line in lines]
    except ValueError:
        atoms, charges = [], []
    typed = all(line[77:79].strip() for line in lines) and all(
        map(math.isfinite, [*charges, *(number for atom in atoms for number in atom)])
    )
    if not atoms or not typed:
        raise GuidedError(f"receptor {str(path)!r} is no PDBQT file: no atoms with charges and AutoDock's types")
    return atoms
