"""Properties of absorption, distribution, metabolism, excretion and toxicity (ADMET), by the networks of ADMET-AI.

Each is the mean of an ensemble of message-passing networks (Chemprop), trained on one collection of the Therapeutics
Data Commons. Classes are probabilities, 0 to 1; other properties have the units of their data, for instance the log of
mol/l for `Solubility_AqSolDB`. What is good is not the same for all: `hERG` is a risk, so take `linear=1,0` of it.

References:
    | ADMET-AI: a machine learning ADMET platform for evaluation of large-scale chemical libraries
    | (Swanson et al., 2024)
    | https://doi.org/10.1093/bioinformatics/btae416
"""

__all__ = ["admet"]

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from guided.errors import GuidedError, nearest
from guided.rewards.molecules.properties import needs_rdkit, parse
from guided.scoring.registry import register_reward


def _check(name: str) -> None:
    _ensemble(name)


@register_reward("admet", modality="molecules", check=_check)
def admet(samples: Sequence[str | None], name: str) -> list[float]:
    """A property by ADMET-AI, such as hERG or BBB_Martins; -inf for an invalid SMILES.

    Args:
        samples: n SMILES.
        name: The property, by ADMET-AI's own name.

    Raises:
        ImportError: admet-ai is not installed.
        ValueError: There is no such property.
    """
    place, models = _ensemble(name)
    needs_rdkit()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        molecules = [parse(smiles) for smiles in samples]
    scores = [-float("inf")] * len(molecules)
    valid = [i for i, molecule in enumerate(molecules) if molecule is not None]
    if valid:
        for i, score in zip(valid, _predicted(models, [molecules[i] for i in valid], place), strict=True):
            scores[i] = score
    return scores


def _predicted(models: Sequence[Any], molecules: Sequence[Any], place: int) -> list[float]:
    """The means of the networks' outputs at a place."""
    import torch
    from chemprop.data import MoleculeDatapoint, MoleculeDataset
    from chemprop.data.dataloader import build_dataloader

    data = MoleculeDataset([MoleculeDatapoint(mol=molecule) for molecule in molecules])
    found = []
    with torch.inference_mode():
        for batch in build_dataloader(data, num_workers=0, shuffle=False):
            outputs = torch.stack([model.predict_step(batch, 0) for model in models])
            found.append(outputs.mean(0)[:, place].double())
    return torch.cat(found).tolist()


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        from admet_ai import ADMETModel
    except ImportError as error:
        raise ImportError(f"the reward 'admet' needs ADMET-AI: pip install guided[admet] ({error})") from error
    return ADMETModel(include_physchem=False, drugbank_path=None, num_workers=0)


def _ensemble(name: str) -> tuple[int, Sequence[Any]]:
    """The place of a property among the outputs of its networks, and these."""
    model = _model()
    for tasks, models in zip(model.task_lists, model.model_lists, strict=True):
        if name in tasks:
            return tasks.index(name), [network.eval() for network in models]
    known = sorted(task for tasks in model.task_lists for task in tasks)
    raise GuidedError(f"name is {name!r}{nearest(name, known)}; it is one of {', '.join(known)}")
