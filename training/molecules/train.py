r"""How the molecule models are made: masked diffusion over tokens of molecules, trained on MOSES.

    python -m training.molecules.train prepare                     # download by pip, learn the tokens, encode
    python -m training.molecules.train train --minutes 9 --of 90   # a slice of nine minutes, to be repeated
    python -m training.molecules.train export                      # the averaged weights, into work/molecules_export

Tokens are fragments of trees (`guided.adapters.fragments`), or pieces of SELFIES with `prepare --kind selfies`.

The loss is the any-order negative log-likelihood: the number of masked tokens is uniform in 1..L, and the cross
entropy is averaged over them. That is the absorbing-state ELBO with the sum over times done in another order.

References:
    | Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models (Polykovskiy et al., 2020)
    | https://arxiv.org/abs/1811.12823
"""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from multiprocessing import Pool
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import selfies
import torch
import typer
from numpy.typing import NDArray

from guided.adapters.fragments.fragment import Fragment, Node
from guided.adapters.fragments.tree import Trees
from guided.adapters.selfies.tokens import SelfiesTokens
from guided.checkpoints.weights import read_weights
from guided.errors import GuidedError
from guided.nets.transformer import TokenTransformer
from guided.storage import write_tensors, write_whole
from training.molecules.pieces import Tokens, learn_fragments, learn_selfies, read_tokens, write_tokens
from training.trainer import Trainer, any_order_loss, averaged_weights, processes_on

HERE = Path(__file__).parents[1]
BATCHES = {"cpu": (256, 3e-3), "gpu": (4096, 4e-3)}  # rows of a batch, and the learning rate
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


def read_smiles(split: str, work: Path) -> list[str]:
    """The SMILES of a MOSES split (train, test, test_scaffolds), out of the wheel that PyPI serves."""
    wheel = work / "molsets-0.3.1-py3-none-any.whl"
    if not wheel.exists():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, "molsets==0.3.1"], check=True
        )
    rows = gzip.decompress(zipfile.ZipFile(wheel).read(f"moses/dataset/data/{split}.csv.gz")).decode().split("\n")
    return [row.split(",")[0] for row in rows[1:] if row]


@app.command()
def prepare(
    work: Path = HERE / "work",
    kind: str = "fragments",
    length: int = 12,
    vocabulary: int = 512,
    fragments: int = 1500,
    share: float = 8e-4,
    molecules: int | None = None,
    processes: int = os.cpu_count() or 1,
) -> None:
    """Learns the tokens from 200,000 molecules, and encodes the training split as `(molecules, L)` in `tokens.npy`.

    `kind` is fragments, for which `fragments` and `share` say which nodes and pieces get a token of their own, or
    selfies, with `vocabulary` pieces. Molecules that are longer, or hold a rare fragment, are left out and counted.
    """
    if kind not in WRITERS:
        raise GuidedError(f"kind is {kind!r}; it is one of {', '.join(WRITERS)}")
    smiles = read_smiles("train", work)
    chosen = np.random.default_rng(0).permutation(len(smiles))[:molecules]
    with Pool(processes) as pool:
        texts = pool.map(WRITERS[kind], [smiles[i] for i in chosen], chunksize=1000)
        usable = [text for text in texts if text is not None]
        if kind == "selfies":
            tokens: Tokens = learn_selfies(usable[:200_000], vocabulary, length)
        else:
            tokens = learn_fragments(usable[:200_000], fragments, share, length)
        encoded = pool.map(partial(encode, tokens), usable, chunksize=1000)
    write_tokens(work / "tokens.json", tokens)
    rows = [ids for ids in encoded if ids is not None and len(ids) <= length]
    np.save(work / "tokens.npy", padded(rows, length))
    mean, unknown = np.mean([len(ids) for ids in rows]), len(texts) - len([ids for ids in encoded if ids is not None])
    print(
        f"{len(rows)} molecules of {mean:.2f} tokens out of {tokens.vocabulary}; {unknown} of {len(texts)} cannot be "
        f"written, {len(texts) - unknown - len(rows)} are longer than {length}"
    )


def tree(smiles: str) -> list[Node] | None:
    """The tree of a molecule; None if there is none."""
    try:
        return TREES.nodes(smiles)
    except GuidedError:
        return None


#: How the molecules of each kind of tokens are written before the tokens are known.
WRITERS = {"fragments": tree, "selfies": selfies.encoder}
TREES = Trees(lru_cache(maxsize=None)(Fragment))


def encode(tokens: Tokens, text: Any) -> list[int] | None:
    """The tokens of a molecule that is written as SELFIES or as a tree; None if one of its parts is not known."""
    try:
        return tokens.pieces(text) if isinstance(tokens, SelfiesTokens) else tokens.tokens(text)
    except (GuidedError, KeyError):
        return None


def padded(rows: Sequence[Sequence[int]], length: int) -> NDArray[np.int16]:
    """Rows of tokens, padded with zeros, with shape `(n, L)`."""
    table = np.zeros((len(rows), length), dtype=np.int16)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return table


@app.command()
def train(
    work: Path = HERE / "work",
    minutes: float = 120.0,
    of: Annotated[float | None, typer.Option("--of")] = None,
    batch: int | None = None,
    lr: float | None = None,
    width: int = 256,
    depth: int = 4,
    heads: int = 4,
    activation: str = "relu2",
    compiled: bool | None = None,
    crop: int = 8,
    full_from: float = 0.7,
    start: Path | None = None,
    device: str = "auto",
    accumulate: int = 1,
    threads: int = os.cpu_count() or 1,
) -> None:
    """Trains for a number of minutes, or until those of all sessions are `of`; the state is saved every minute.

    Half of a row is padding. For the first part of the time, `full_from`, rows are the molecules of at most `crop`
    tokens (nine in ten), cut to that length, which saves a third of the time; then all molecules at full length.
    Batch and learning rate follow the device where they are not given, and so does whether the network is compiled,
    which gains nothing on a CPU at this size. If there is no state in `molecules/`, training starts from an exported
    model of the same size in the folder `start`.
    """
    torch.set_num_threads(threads)
    tokens, folder, processes = read_tokens(work / "tokens.json"), work / "molecules", processes_on(device)
    cpu = processes.device.type == "cpu"
    most, rate = BATCHES["cpu" if cpu else "gpu"]
    batch, lr, compiled = batch or most, lr or rate, not cpu if compiled is None else compiled
    data = torch.from_numpy(np.load(work / "tokens.npy")).to(processes.device)
    short = data[(data[:, crop:] == 0).all(1), :crop]
    torch.manual_seed(0)
    net = TokenTransformer(tokens.vocabulary, tokens.length, width, depth, heads, activation).to(processes.device)
    trainer = Trainer(net, lr, processes=processes, compiled=compiled)
    if trainer.load(folder):
        torch.manual_seed(trainer.step)
    elif start is not None:
        for module in (trainer.net, trainer.average):
            read_weights(module, start / "model.safetensors")
    (work / "network.json").write_text(json.dumps({"heads": heads, "activation": activation}))

    def losses(dataset: torch.Tensor) -> Iterator[torch.Tensor]:
        part = batch // accumulate // dataset.shape[1] * dataset.shape[1]  # as many rows of every number of masks
        for _ in range(accumulate):
            rows = dataset[torch.randint(len(dataset), (part,), device=dataset.device)].long()
            yield any_order_loss(trainer.forward, rows, tokens.vocabulary, partial=True) / accumulate

    for progress in trainer.run(of or minutes, folder, minutes):
        trainer.update(losses(data if progress >= full_from else short), progress)


@app.command()
def export(
    work: Path = HERE / "work",
    out: Path = HERE / "work" / "molecules_export",
    temperature: float = 1.0,
    steps: int = 64,
) -> None:
    """Writes the averaged weights, in half precision, and the configuration, with how to sample by default."""
    average, step, _ = averaged_weights(work / "molecules")
    weights = {name: w.half() for name, w in average.items()}
    config = json.loads((work / "tokens.json").read_text()) | json.loads((work / "network.json").read_text())
    width = weights["token.weight"].shape[1]
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    config |= {"width": width, "depth": depth, "temperature": temperature, "steps": steps}
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", weights, {"step": str(step)})
    write_whole(out / "config.json", json.dumps(config) + "\n")


if __name__ == "__main__":
    app()
