"""Rewards of molecules: batched functions from SMILES to numbers, computed with RDKit.

An invalid SMILES (None, "", one that does not parse or sanitise, one without atoms) has a defined score, the worst of
its reward: 0 for QED, similarity, substructure, alerts and connectedness, 10 for SA, -inf for logP and the molecular
weight.

References:
    QED: Bickerton et al., Nature Chemistry 4, 90 (2012). SA: Ertl and Schuffenhauer, J. Cheminf. 1, 8 (2009).
    logP: Wildman and Crippen, J. Chem. Inf. Comput. Sci. 39, 868 (1999). PAINS: Baell and Holloway, J. Med. Chem. 53,
    2719 (2010). Brenk: Brenk et al., ChemMedChem 3, 435 (2008).
"""

__all__ = [
    "alerts",
    "connected",
    "logp",
    "molwt",
    "parse",
    "pattern_of",
    "qed",
    "sa",
    "scored",
    "similarity",
    "substructure",
]

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from guided.errors import GuidedError
from guided.scoring.registry import register_reward

Smiles = Sequence[str | None]
INF = float("inf")


def needs_rdkit(**parameters: object) -> None:
    """Check of the rewards below: RDKit can be imported.

    Raises:
        ImportError: it cannot; the message says what to install.
    """
    try:
        import rdkit.Chem  # noqa: F401
    except ImportError as error:
        raise ImportError(f"rewards of molecules need RDKit: pip install rdkit ({error})") from error


# The rewards of one objective see the same batch in turn, so a few batches are enough to parse each molecule once.
@lru_cache(maxsize=8192)
def parse(smiles: str | None) -> Any:
    """The RDKit molecule of a SMILES, None where it is invalid. Shared between rewards: do not change it."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles) if isinstance(smiles, str) and smiles else None
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


def scored(samples: Smiles, score: Callable[[Any], float], worst: float) -> list[float]:
    """The scores of the molecules of n SMILES; the worst one for an invalid SMILES."""
    needs_rdkit()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        return [worst if molecule is None else float(score(molecule)) for molecule in map(parse, samples)]


@register_reward("qed", modality="molecules", check=needs_rdkit)
def qed(samples: Smiles, largest: bool = False) -> list[float]:
    """Quantitative estimate of drug-likeness, 0 to 1; 0 for an invalid SMILES.

    Args:
        samples: n SMILES.
        largest: Whether it is that of the fragment with the most atoms, the first of several, and not of all.
    """
    needs_rdkit()
    from rdkit.Chem import QED

    whole: Callable[[Any], float] = QED.qed
    return scored(samples, (lambda molecule: whole(_largest(molecule))) if largest else whole, worst=0.0)


def _largest(molecule: Any) -> Any:
    """The fragment with the most atoms."""
    from rdkit.Chem.rdmolops import GetMolFrags

    fragments = GetMolFrags(molecule, asMols=True)
    return max(fragments, key=lambda fragment: fragment.GetNumAtoms()) if len(fragments) > 1 else molecule


@register_reward("sa", transform="linear=10,1", modality="molecules", check=needs_rdkit)
def sa(samples: Smiles) -> list[float]:
    """Synthetic accessibility, 1 (easy) to 10 (hard); 10 for an invalid SMILES. Transformed: 10 -> 0, 1 -> 1."""
    needs_rdkit()
    return scored(samples, _sascorer().calculateScore, worst=10.0)


@register_reward("logp", transform="window=1,4,1", modality="molecules", check=needs_rdkit)
def logp(samples: Smiles) -> list[float]:
    """Crippen's log of the octanol-water partition; -inf for an invalid SMILES. Transformed: 1 between 1 and 4."""
    needs_rdkit()
    from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors

    return scored(samples, lambda molecule: CalcCrippenDescriptors(molecule)[0], worst=-INF)


@register_reward("molwt", transform="window=200,500,50", modality="molecules", check=needs_rdkit)
def molwt(samples: Smiles) -> list[float]:
    """Molecular weight in Da; -inf for an invalid SMILES. Transformed: 1 between 200 and 500."""
    needs_rdkit()
    from rdkit.Chem import Descriptors

    weight: Callable[[Any], float] = vars(Descriptors)["MolWt"]  # RDKit's type stubs do not know it
    return scored(samples, weight, worst=-INF)


@register_reward("connected", modality="molecules", check=needs_rdkit)
def connected(samples: Smiles) -> list[float]:
    """Share of the atoms that are in the largest fragment, 1 for a single molecule; 0 for an invalid SMILES."""
    needs_rdkit()
    from rdkit.Chem.rdmolops import GetMolFrags

    return scored(samples, lambda one: max(map(len, GetMolFrags(one))) / one.GetNumAtoms(), worst=0.0)


def _check_target(target: str, chirality: bool = False) -> None:
    _fingerprint_of_target(target, chirality)


@register_reward("similarity", modality="molecules", check=_check_target)
def similarity(samples: Smiles, target: str, chirality: bool = False) -> list[float]:
    """Tanimoto similarity to the SMILES `target` (Morgan, radius 2, 2048 bits), 0 to 1; 0 for an invalid SMILES.

    Args:
        samples: n SMILES.
        target: The SMILES to be similar to.
        chirality: Whether stereo counts, of tetrahedral centres (@, @@) and of double bonds (/, \\).
    """
    reference = _fingerprint_of_target(target, chirality)
    from rdkit.DataStructs import TanimotoSimilarity

    fingerprint = _morgan(chirality).GetFingerprint
    return scored(samples, lambda molecule: TanimotoSimilarity(reference, fingerprint(molecule)), worst=0.0)


def _check_smarts(smarts: str, chirality: bool = False) -> None:
    pattern_of(smarts)


@register_reward("substructure", modality="molecules", check=_check_smarts)
def substructure(samples: Smiles, smarts: str, chirality: bool = False) -> list[float]:
    """1 where the SMARTS pattern `smarts` is in the molecule, otherwise 0; 0 for an invalid SMILES.

    Args:
        samples: n SMILES.
        smarts: The pattern.
        chirality: Whether its stereo counts, of tetrahedral centres (@, @@) and of double bonds (/, \\); a pattern
            without stereo fits both.
    """
    pattern = pattern_of(smarts)
    return scored(samples, lambda molecule: molecule.HasSubstructMatch(pattern, useChirality=chirality), worst=0.0)


def _check_catalogs(catalogs: str = "PAINS,BRENK") -> None:
    _filters(catalogs)


@register_reward("alerts", modality="molecules", check=_check_catalogs)
def alerts(samples: Smiles, catalogs: str = "PAINS,BRENK") -> list[float]:
    """1 where no structural alert of the RDKit `catalogs` is in the molecule, otherwise 0; 0 for an invalid SMILES."""
    filters = _filters(catalogs)
    return scored(samples, lambda molecule: not filters.HasMatch(molecule), worst=0.0)


@lru_cache(maxsize=1)
def _sascorer() -> Any:
    # RDKit ships it as a script among its contributions, not as a module of the package.
    from rdkit import RDConfig

    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("guided_sascorer", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError("the reward 'sa' needs the Contrib folder of RDKit: pip install rdkit")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=2)
def _morgan(chirality: bool = False) -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048, includeChirality=chirality)


@lru_cache(maxsize=64)
def _fingerprint_of_target(target: str, chirality: bool = False) -> Any:
    needs_rdkit()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        molecule = parse(target)
    if molecule is None:
        raise GuidedError(f"target is not a valid SMILES: {target!r}")
    return _morgan(chirality).GetFingerprint(molecule)


@lru_cache(maxsize=64)
def pattern_of(smarts: str) -> Any:
    """The pattern of a SMARTS.

    Raises:
        GuidedError: It is not valid.
    """
    needs_rdkit()
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts) if smarts else None
    if pattern is None or pattern.GetNumAtoms() == 0:
        raise GuidedError(f"smarts is not a valid SMARTS pattern: {smarts!r}")
    return pattern


@lru_cache(maxsize=64)
def _filters(catalogs: str) -> Any:
    needs_rdkit()
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    known = FilterCatalogParams.FilterCatalogs.names
    parameters = FilterCatalogParams()
    for name in catalogs.split(","):
        if name.strip().upper() not in known:
            raise GuidedError(f"unknown catalog {name!r} of alerts; it is one of {', '.join(sorted(known))}")
        parameters.AddCatalog(known[name.strip().upper()])
    return FilterCatalog(parameters)
