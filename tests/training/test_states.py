"""The state of each training is small enough to carry about, in files that anything takes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guided.nets.transformer import TokenTransformer
from guided.storage import read_json, read_tensors
from training import nucleotides, optimizers
from training.dna import train as dna
from training.images import train as images
from training.images.nets import make_vae
from training.rna import train as rna
from training.trainer import Trainer, processes_on

CPU = processes_on("cpu")
SHIPPED = images.CHECKPOINT.parent


def molecules(folder: Path) -> Trainer:
    weights = read_tensors(SHIPPED / "molecules" / "model.safetensors")
    vocabulary = len(weights["head.bias"])
    config = read_json(SHIPPED / "molecules" / "config.json")
    sizes = (config[name] for name in ("length", "width", "depth", "heads", "activation"))
    net = TokenTransformer(vocabulary, *sizes)
    net.load_state_dict(weights)  # of the same shapes
    return Trainer(net, 1e-3)


TRAININGS: dict[str, Callable[[Path], Trainer]] = {
    "molecules": molecules,
    "dna": lambda folder: Trainer(nucleotides.network(dna.CONFIG), 1e-3),
    "rna": lambda folder: Trainer(nucleotides.network(rna.CONFIG), 1e-3),
    "images": lambda folder: images.text_trainer(folder, 1e-3, CPU),
    "vae": lambda folder: images.resume(make_vae(), 1e-3, ("block",), folder / "vae", CPU),
}
MOST = {"molecules": 59e6, "dna": 10e6, "rna": 4e6, "images": 56e6, "vae": 33e6}  # as training/README.md says


@pytest.mark.parametrize("name", TRAININGS)
def test_a_state_after_an_update_is_small_and_so_are_its_files(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "orthogonal", lambda matrix: matrix)  # which takes most of the time
    trainer = TRAININGS[name](tmp_path)
    for p in trainer.loop.weights.values():
        p.grad = torch.zeros_like(p)  # so that every optimizer has all of its moments
    trainer.update(torch.zeros((), requires_grad=True), 0.0)
    trainer.save(tmp_path / "state")
    sizes = [file.stat().st_size for file in (tmp_path / "state").iterdir()]
    assert sum(sizes) <= MOST[name] <= 60e6
    assert max(sizes) <= 15e6
    assert len(sizes) > 1  # with its tensors
