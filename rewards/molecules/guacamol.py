"""Tasks of molecular optimisation by their published names: similarities, rediscoveries, medians, isomers, profiles.

A task is the mean, geometric but for the two hops, of parts: a measure of the molecule, made a score between 0 and 1.
Similarities are Tanimoto's, of counts: of atoms within radius 2 or 3 (ECFP4, ECFP6), of features within radius 2
(FCFP4), of pairs of atoms (AP), or of pharmacophores in the plane (PHCO, of bits).

References:
    | GuacaMol: Benchmarking Models for De Novo Molecular Design (Brown et al., 2019)
    | https://arxiv.org/abs/1811.09621

    | Sample Efficiency Matters: A Benchmark for Practical Molecular Optimization (Gao et al., 2022)
    | https://arxiv.org/abs/2206.12411
"""

__all__ = ["TASKS", "guacamol"]

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from guided.errors import GuidedError, nearest, shown
from guided.rewards.molecules.properties import needs_rdkit, parse, pattern_of, scored
from guided.scoring.registry import register_reward

Smiles = Sequence[str | None]
Part = Callable[[Any], float]


@dataclass(frozen=True)
class Task:
    """The parts of a task, and whether their mean is the geometric one."""

    parts: tuple[Part, ...]
    geometric: bool = True

    def __call__(self, molecule: Any) -> float:
        scores = [part(molecule) for part in self.parts]
        return geometric_mean(scores) if self.geometric else sum(scores) / len(scores)


def geometric_mean(scores: Sequence[float]) -> float:
    """The geometric mean of numbers of which some may be 0."""
    return math.exp(sum(map(math.log, scores)) / len(scores)) if all(scores) else 0.0


def near(mu: float, sigma: float) -> Callable[[float], float]:
    """1 at mu, falling as a Gaussian on both sides."""
    return lambda x: math.exp(-0.5 * ((x - mu) / sigma) ** 2)


def above(mu: float, sigma: float) -> Callable[[float], float]:
    """1 from mu up, falling as a Gaussian below."""
    return lambda x: near(mu, sigma)(min(x, mu))


def below(mu: float, sigma: float) -> Callable[[float], float]:
    """1 up to mu, falling as a Gaussian above."""
    return lambda x: near(mu, sigma)(max(x, mu))


def clipped(most: float) -> Callable[[float], float]:
    """The share of `most`, 1 at the most."""
    return lambda x: min(1.0, x / most)


def similar(kind: str, smiles: str, score: Callable[[float], float] = lambda x: x) -> Part:
    """A score of the similarity to a molecule, by fingerprints of a kind."""

    def part(molecule: Any) -> float:
        from rdkit.DataStructs import TanimotoSimilarity

        return score(TanimotoSimilarity(_print_of(kind, smiles), _fingerprint(kind)(molecule)))

    return part


def descriptor(name: str, score: Callable[[float], float]) -> Part:
    """A score of a descriptor of RDKit by its name."""

    def part(molecule: Any) -> float:
        return score(_descriptor(name, molecule))

    return part


def as_descriptor_of(name: str, smiles: str, sigma: float) -> Part:
    """A score of a descriptor, 1 where it is that of a molecule."""
    return descriptor(name, lambda x: near(_described(name, smiles), sigma)(x))


def pattern(smarts: str, there: bool = True) -> Part:
    """1 where a SMARTS pattern is there, or not there, else 0."""
    return lambda molecule: float(molecule.HasSubstructMatch(pattern_of(smarts)) == there)


def fluorines(score: Callable[[float], float]) -> Part:
    """A score of the number of fluorine atoms."""
    return lambda molecule: score(sum(atom.GetSymbol() == "F" for atom in molecule.GetAtoms()))


def isomer(formula: str) -> Part:
    """The geometric mean of scores of the number of atoms of each element, and of all atoms, hydrogen counted."""
    wanted = {element: int(count or 1) for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}
    total = sum(wanted.values())

    def part(molecule: Any) -> float:
        from rdkit.Chem import AddHs

        found = Counter(atom.GetSymbol() for atom in AddHs(molecule).GetAtoms())
        scores = [near(count, 1.0)(found[element]) for element, count in wanted.items()]
        scores.append(near(total, 2.0)(sum(found.values())))
        return geometric_mean(scores)

    return part


SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
HOP = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"
SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"

TASKS = {
    "albuterol_similarity": Task((similar("FCFP4", "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1", clipped(0.75)),)),
    "amlodipine_mpo": Task(
        (
            similar("ECFP4", r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"),
            descriptor("RingCount", near(3, 0.5)),
        )
    ),
    "celecoxib_rediscovery": Task(
        (similar("ECFP4", "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"),),
    ),
    "deco_hop": Task(
        (
            similar("PHCO", HOP, clipped(0.85)),
            pattern("CS([#6])(=O)=O", there=False),
            pattern("[#7]-c1ccc2ncsc2c1", there=False),
            pattern(SCAFFOLD),
        ),
        geometric=False,
    ),
    "fexofenadine_mpo": Task(
        (
            similar("AP", "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4", clipped(0.8)),
            descriptor("TPSA", above(90, 10)),
            descriptor("MolLogP", below(4, 1)),
        )
    ),
    "isomers_c7h8n2o2": Task((isomer("C7H8N2O2"),)),
    "isomers_c9h10n2o2pf2cl": Task((isomer("C9H10N2O2PF2Cl"),)),
    "median1": Task((similar("ECFP4", "CC1(C)C2CCC1(C)C(=O)C2"), similar("ECFP4", "CC(C)C1CCC(C)CC1O"))),
    "median2": Task(
        (
            similar("ECFP6", "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"),
            similar("ECFP6", "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"),
        )
    ),
    "mestranol_similarity": Task(
        (similar("AP", "COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1", clipped(0.75)),)
    ),
    "osimertinib_mpo": Task(
        (
            similar("FCFP4", OSIMERTINIB, clipped(0.8)),
            similar("ECFP6", OSIMERTINIB, below(0.85, 0.1)),
            descriptor("TPSA", above(100, 10)),
            descriptor("MolLogP", below(1, 1)),
        )
    ),
    "perindopril_mpo": Task(
        (
            similar("ECFP4", "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"),
            descriptor("NumAromaticRings", near(2, 0.5)),
        )
    ),
    "ranolazine_mpo": Task(
        (
            similar("AP", "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2", clipped(0.7)),
            descriptor("MolLogP", above(7, 1)),
            descriptor("TPSA", above(95, 20)),
            fluorines(near(1, 1)),
        )
    ),
    "scaffold_hop": Task(
        (
            similar("PHCO", HOP, clipped(0.75)),
            pattern("[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1"),
            pattern(SCAFFOLD, there=False),
        ),
        geometric=False,
    ),
    "sitagliptin_mpo": Task(
        (
            similar("ECFP4", SITAGLIPTIN, near(0, 0.1)),
            as_descriptor_of("MolLogP", SITAGLIPTIN, 0.2),
            as_descriptor_of("TPSA", SITAGLIPTIN, 5),
            isomer("C16H15F6N5O"),
        )
    ),
    "thiothixene_rediscovery": Task((similar("ECFP4", "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1"),)),
    "troglitazone_rediscovery": Task((similar("ECFP4", "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O"),)),
    "valsartan_smarts": Task(
        (
            pattern("CN(C=O)Cc1ccc(c2ccccc2)cc1"),
            as_descriptor_of("MolLogP", SITAGLIPTIN, 0.2),
            as_descriptor_of("TPSA", SITAGLIPTIN, 5),
            as_descriptor_of("BertzCT", SITAGLIPTIN, 30),
        )
    ),
    "zaleplon_mpo": Task(
        (similar("ECFP4", "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"), isomer("C19H17N3O2")),
    ),
}


def _check(task: str) -> None:
    needs_rdkit()
    if task not in TASKS:
        raise GuidedError(f"task is {shown(task)}{nearest(str(task), TASKS)}; it is one of {', '.join(TASKS)}")


@register_reward("guacamol", modality="molecules", check=_check)
def guacamol(samples: Smiles, task: str) -> list[float]:
    """The score of a published optimisation task, 0 to 1; 0 for an invalid SMILES.

    Args:
        samples: n SMILES.
        task: Its name, as `osimertinib_mpo` or `median1`.

    Raises:
        ValueError: There is no such task.
    """
    _check(task)
    return scored(samples, TASKS[task], worst=0.0)


def _descriptor(name: str, molecule: Any) -> float:
    from rdkit.Chem import Descriptors

    return float(vars(Descriptors)[name](molecule))


@lru_cache(maxsize=16)
def _described(name: str, smiles: str) -> float:
    return _descriptor(name, parse(smiles))


@lru_cache(maxsize=8)
def _fingerprint(kind: str) -> Callable[[Any], Any]:
    from rdkit.Chem import rdFingerprintGenerator as fingerprints
    from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

    if kind == "PHCO":
        pharmacophores: Any = Generate.Gen2DFingerprint
        return lambda molecule: pharmacophores(molecule, Gobbi_Pharm2D.factory)
    if kind == "AP":
        generator = fingerprints.GetAtomPairGenerator(maxDistance=10)
    else:
        features = fingerprints.GetMorganFeatureAtomInvGen() if kind.startswith("F") else None
        generator = fingerprints.GetMorganGenerator(radius=int(kind[-1]) // 2, atomInvariantsGenerator=features)
    counts: Callable[[Any], Any] = generator.GetSparseCountFingerprint
    return counts


@lru_cache(maxsize=64)
def _print_of(kind: str, smiles: str) -> Any:
    return _fingerprint(kind)(parse(smiles))
