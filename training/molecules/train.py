r"""How the shipped molecule model was made: masked diffusion over pieces of SELFIES, trained on MOSES.

    python -m training.molecules.train prepare            # download by pip, encode, learn the pieces
    python -m training.molecules.train train --minutes 120 # resumes where it was stopped
    python -m training.molecules.train export              # the averaged weights, into guided/checkpoints/molecules

The loss is the any-order negative log-likelihood: the number of masked tokens is uniform in 1..L, and the cross
entropy is averaged over them. That is the absorbing-state ELBO with the sum over times done in another order.

References:
    | Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models (Polykovskiy et al., 2020)
    | https://arxiv.org/abs/1811.12823
"""

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import selfies
import torch
import typer

from guided.adapters.selfies.tokens import SelfiesTokens
from guided.checkpoints.weights import read_weights
from guided.nets.transformer import TokenTransformer
from guided.storage import write_tensors, write_whole
from training.trainer import Trainer, any_order_loss, averaged_weights, processes_on

HERE = Path(__file__).parents[1]
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "molecules"
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


def learn_tokens(strings: list[str], vocabulary: int, length: int) -> SelfiesTokens:
    """Byte-pair encoding over SELFIES symbols, each written as one character, as the library needs it."""
    from tokenizers import Tokenizer, models, trainers

    symbols = sorted({symbol for string in strings for symbol in selfies.split_selfies(string)})
    letter = {symbol: chr(0x4E00 + i) for i, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1, show_progress=False, initial_alphabet=list(letter.values())
    )
    words = ("".join(letter[symbol] for symbol in selfies.split_selfies(string)) for string in strings)
    tokenizer.train_from_iterator(words, trainer)
    ids = {c: i for i, c in enumerate(letter.values(), 1)}
    merges = []
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.append((ids[left], ids[right]))
        ids[left + right] = len(symbols) + len(merges)
    return SelfiesTokens(tuple(symbols), tuple(merges), length)


@app.command()
def prepare(work: Path = HERE / "work", vocabulary: int = 512, length: int = 20) -> None:
    """Encodes the training split as `(molecules, L)` tokens in `tokens.npy`; writes `tokens.json`."""
    smiles = read_smiles("train", work)
    with Pool() as pool:
        strings = pool.map(selfies.encoder, smiles, chunksize=5000)
        tokens = learn_tokens(strings[:200_000], vocabulary, length)
        config = {"symbols": tokens.symbols, "merges": tokens.merges, "length": length}
        (work / "tokens.json").write_text(json.dumps(config))
        encoded = pool.map(tokens.encode, smiles, chunksize=5000)
    kept = [ids for ids in encoded if len(ids) <= length]
    rows = np.zeros((len(kept), length), dtype=np.int16)
    for row, ids in zip(rows, kept, strict=True):
        row[: len(ids)] = ids
    np.save(work / "tokens.npy", rows)
    mean = np.mean([len(ids) for ids in kept])
    print(f"{len(kept)} molecules of {mean:.2f} tokens; {len(smiles) - len(kept)} are longer than {length}")


def load_tokens(work: Path) -> SelfiesTokens:
    """The tokens that `prepare` learned."""
    config = json.loads((work / "tokens.json").read_text())
    merges = tuple((left, right) for left, right in config["merges"])
    return SelfiesTokens(tuple(config["symbols"]), merges, config["length"])


@app.command()
def train(
    work: Path = HERE / "work",
    minutes: float = 120.0,
    batch: int = 512,
    lr: float = 2e-3,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    compiled: bool = True,
    crop: int = 12,
    full_from: float = 0.7,
    start: Path | None = None,
    device: str = "cpu",
    accumulate: int = 1,
) -> None:
    """Trains for a number of minutes, over all sessions; the state is saved every minute into `molecules/`.

    Half of a row is padding. For the first part of the time, `full_from`, rows are the molecules of at most `crop`
    tokens (nine in ten), cut to that length, which saves two thirds of the time; then all molecules at full length.
    If there is no state, training starts from an exported model of the same size in the folder `start`.
    """
    tokens, folder, processes = load_tokens(work), work / "molecules", processes_on(device)
    data = torch.from_numpy(np.load(work / "tokens.npy")).to(processes.device)
    short = data[(data[:, crop:] == 0).all(1), :crop]
    torch.manual_seed(0)
    net = TokenTransformer(tokens.vocabulary, tokens.length, width, depth, heads).to(processes.device)
    trainer = Trainer(net, lr, processes=processes, compiled=compiled)
    if trainer.load(folder):
        torch.manual_seed(trainer.step)
    elif start is not None:
        for module in (trainer.net, trainer.average):
            read_weights(module, start / "model.safetensors")

    def losses(dataset: torch.Tensor) -> Iterator[torch.Tensor]:
        for _ in range(accumulate):
            rows = dataset[torch.randint(len(dataset), (batch // accumulate,)).to(dataset.device)].long()
            yield any_order_loss(trainer.forward, rows, tokens.vocabulary) / accumulate

    for progress in trainer.run(minutes, folder):
        trainer.update(losses(data if progress >= full_from else short), progress)


@app.command()
def export(work: Path = HERE / "work", out: Path = CHECKPOINT, temperature: float = 1.0) -> None:
    """Writes the averaged weights, in half precision, and the configuration with the temperature to sample at."""
    average, step, _ = averaged_weights(work / "molecules")
    weights = {name: w.half() for name, w in average.items()}
    config = json.loads((work / "tokens.json").read_text())
    width = weights["token.weight"].shape[1]
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    heads = width // len(weights["blocks.0.norm_q.weight"])
    config |= {"kind": "molecules", "width": width, "depth": depth, "heads": heads, "temperature": temperature}
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", weights, {"step": str(step)})
    write_whole(out / "config.json", json.dumps(config) + "\n")


if __name__ == "__main__":
    app()
