"""Checkpoints of GDSS: the published file, or a folder that `guided convert` made of it.

The networks' raw outputs become clean means here. With the factor `m` and the standard deviation `s` of the noise at
the time, the score is `-net / s` where variance is preserved and `net` where it explodes; the mean is
`(x + s^2 score) / m`. The networks take no time.
"""

__all__ = ["convert", "load", "reads"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.adapters.gdss.molecules import KINDS, Molecules
from guided.adapters.gdss.sizes import SIZES
from guided.checkpoints.schemas import Gdss, GdssNetwork, GdssNoise, validated
from guided.checkpoints.torch_files import entry, read_torch
from guided.checkpoints.weights import check_finite, check_shapes, plain_names, read_tensors, sketched
from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.graphs import Graphs, Noise
from guided.errors import GuidedError, check_flag, check_number
from guided.nets.gdss import GraphScores, ScoreNetworkA, ScoreNetworkX, ScoreNetworkXAttention
from guided.storage import digest, digest_of, make_folder, write_tensors, write_whole

#: The factor of the corrector's noise in the published settings, by data and by the nodes' network.
DAMPING = {("QM9", False): 0.7, ("ZINC250k", False): 0.9, ("ZINC250k", True): 0.8}


class Scores:
    """The denoiser: rows `(n, *event)` at times `(n,)` to the clean adjacency, features and mask."""

    cost = 2  # networks that a row runs through

    def __init__(self, net: GraphScores, process: Graphs, dtype: torch.dtype) -> None:
        self.net, self.process, self.dtype = net, process, dtype

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        parts, mask = self.process.split(x), x[..., -1]
        nodes, edges = (part.float() for part in self.net(*(part.to(self.dtype) for part in (*parts, mask))))
        noises = (self.process.nodes, self.process.edges)
        nodes, edges = (_mean(*each, t) for each in zip(noises, parts, (nodes, edges), strict=True))
        return self.process.join(nodes, edges, mask)


def _mean(noise: Noise, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
    """The clean mean of one part, by Tweedie's formula."""
    mean, std = (part[:, None, None] for part in noise.marginal(t))
    return (x - std * output) / mean if noise.kind == "VP" else x + std**2 * output


def reads(content: Any) -> bool:
    """Whether the content of a file is a checkpoint of GDSS."""
    return isinstance(content, Mapping) and {"params_x", "params_adj", "x_state_dict", "adj_state_dict"} <= {*content}


def load(
    path: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    atoms: int | None = None,
    correct: bool = True,
    whole: bool = False,
    snr: float = 0.2,
    damping: float | None = None,
    by_batch: bool = False,
) -> Diffusion:
    """The model in a file or in a folder; samples are SMILES.

    Args:
        path: The published file, or a converted folder.
        config: The content of the folder's `config.json`; empty for a file.
        device: Where the networks go.
        dtype: The precision of the networks.
        atoms: The number of atoms of every graph; None to draw it as often as it occurs in the training data.
        correct: Whether bonds are lowered until no atom has too many.
        whole: Whether samples have all fragments of a graph; if not, the one with the most atoms.
        snr: The ratio of signal and noise in a corrector's step.
        damping: The factor of the corrector's noise; None for the published one.
        by_batch: Whether the corrector's step has one size for a batch, as in the published code; then a sample depends
            on those that are drawn with it.

    Raises:
        GuidedError: The file cannot be read, is of another architecture, or does not say how many atoms graphs have.
    """
    for name, flag in (("correct", correct), ("whole", whole), ("by_batch", by_batch)):
        check_flag(name, flag)
    entries, weights = _folder(path, config) if path.is_dir() else _file(path)
    where = path / "config.json" if path.is_dir() else path
    kinds = _kinds(entries, where)
    net = _filled(entries, weights, path).to(device, dtype)
    attention = entries.x.model_type != "ScoreNetworkX"
    process = Graphs(
        _sizes(entries, atoms, where),
        len(kinds),
        _noise(entries.nodes),
        _noise(entries.edges),
        steps=2 * entries.edges.num_scales,
        snr=snr,
        damping=DAMPING.get((entries.data, attention), 0.9) if damping is None else damping,
        by_batch=by_batch,
    )
    molecules = Molecules(process, kinds, correct, whole)
    return Diffusion(
        Scores(net, process, dtype),
        process,
        Codec(molecules.smiles, encode=molecules.row, modality="molecules", measures=molecules.measures),
        identity=_identity(path, entries, atoms, correct, whole),
        evaluator=Evaluator(device=device),
    )


def convert(path: Path, folder: Path) -> None:
    """Writes a folder with `config.json` and `model.safetensors` of a published file.

    Raises:
        GuidedError: The file cannot be read, is of another architecture, or the folder cannot be written.
    """
    entries, weights = _file(path)
    _filled(entries, weights, path)
    make_folder(folder)
    write_tensors(folder / "model.safetensors", {key: weight.contiguous() for key, weight in weights.items()})
    config = {"kind": "gdss", **entries.model_dump()}
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")


def _identity(path: Path, entries: Gdss, atoms: int | None, correct: bool, whole: bool) -> str:
    """The weights' digest, and what samples depend on besides the process."""
    weights = digest(path / "model.safetensors" if path.is_dir() else path)
    networks = digest_of(entries.x.model_dump_json() + entries.adj.model_dump_json())[:8]  # as of heads
    return f"{weights}-{networks}" + "".join(
        part for part, given in ((f"-{atoms}", atoms is not None), ("-raw", not correct), ("-whole", whole)) if given
    )


def _file(path: Path) -> tuple[Gdss, dict[str, Tensor]]:
    """The configuration and the weights of a published file."""
    content = read_torch(path)
    if not reads(content):
        raise GuidedError(f"{path} is no checkpoint of GDSS: it has no params_x, params_adj and their weights")
    sde = entry(content, "model_config", "sde")
    config = {
        "data": entry(content, "model_config", "data", "data"),
        "nodes": entry(sde, "x"),
        "edges": entry(sde, "adj"),
        "x": content["params_x"],
        "adj": content["params_adj"],
    }
    weights: dict[str, Tensor] = {}
    for part in ("x", "adj"):
        state = content[f"{part}_state_dict"]
        state = state if isinstance(state, Mapping) else {}
        weights |= {f"{part}.{name}": state[key] for name, key in plain_names(map(str, state)).items()}
    if not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise GuidedError(f"{path} has weights that are no tensors")
    return validated(Gdss, config, path), weights


def _folder(path: Path, config: Mapping[str, Any]) -> tuple[Gdss, dict[str, Tensor]]:
    """The same of a converted folder."""
    return validated(Gdss, config, path / "config.json"), read_tensors(path / "model.safetensors")


def _kinds(entries: Gdss, path: Path) -> tuple[int, ...]:
    if entries.x.max_feat_num not in KINDS:
        known = " or ".join(map(str, KINDS))
        raise GuidedError(f"{path} has {entries.x.max_feat_num} kinds of atoms; {known} are known")
    return KINDS[entries.x.max_feat_num]


def _noise(noise: GdssNoise) -> Noise:
    return Noise(noise.type, noise.beta_min, noise.beta_max)


def _filled(entries: Gdss, weights: dict[str, Tensor], path: Path) -> GraphScores:
    """The networks with their weights."""

    def make() -> GraphScores:
        return GraphScores(_nodes(entries.x), ScoreNetworkA(*_sizes_of(entries.adj, entries.adj.num_layers)))

    wanted = sketched(make, path).state_dict()
    found = {key: tuple(weight.shape) for key, weight in weights.items()}
    check_shapes(wanted, found, path, (*wanted, *(key for key in weights if key not in wanted)))
    check_finite(weights, path)
    net = make()
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def _nodes(x: GdssNetwork) -> ScoreNetworkX | ScoreNetworkXAttention:
    if x.model_type == "ScoreNetworkX":
        return ScoreNetworkX(x.max_feat_num, x.depth, x.nhid)
    return ScoreNetworkXAttention(*_sizes_of(x, x.depth))


def _sizes_of(net: GdssNetwork, depth: int) -> tuple[Any, ...]:
    channels = (net.c_init, net.c_hid, net.c_final)
    return net.max_feat_num, depth, net.nhid, channels, net.adim, net.num_heads, net.num_linears


def _sizes(entries: Gdss, atoms: int | None, path: Path) -> tuple[float, ...]:
    """How often a graph has 0, 1, ... atoms."""
    places = entries.adj.max_node_num
    if atoms is not None:
        number = check_number("atoms", atoms, int, least=1, most=places)
        return tuple(float(n == number) for n in range(places + 1))
    known = SIZES.get(entries.data)
    if known is None or len(known) != places + 1:
        place = path.parent if path.name == "config.json" else path
        raise GuidedError(
            f"{path} does not say how many atoms its graphs have, and only those of {', '.join(SIZES)} are known; "
            f'write "{place}?atoms={places}", or load(..., atoms={places})'
        )
    return known
