r"""Orders of unmasking, compared at equal numbers of network rows.

    python -m training.unmasking molecules random@64 counted@12 half@12 confident@12 rescale=0.1@11 --n 2000
    python -m training.unmasking dna random@64 confident@64 cap=0.02@64 conf=0.1@64 --label K562 --n 500

An order is written `name@steps`, those that mask again `name=eta@steps`. With :math:`m_k` the share of masked tokens:

`random`
    The process of the shipped models: each masked token is shown with probability :math:`(m_k - m_{k+1}) / m_k`.
`counted`, `half`, `confident`
    A fixed number of tokens in each step, at random; half at random, half those whose drawn token is the most probable;
    all the most probable (MaskGIT).
`cap`, `rescale`, `conf`
    ReMDM: a shown token is masked again with probability :math:`\sigma_k`, which is at most
    :math:`\sigma^{\max} = \min(1, m_{k+1} / (1 - m_k))`, and a masked one is shown with probability
    :math:`1 - (m_{k+1} - (1 - m_k) \sigma_k) / m_k`: then a share :math:`m_{k+1}` is masked after the step, whatever
    :math:`\sigma_k` is. `cap` has :math:`\min(\eta, \sigma^{\max})`, `rescale` :math:`\eta \sigma^{\max}`, and `conf`
    shares the latter out among the shown tokens by softmax(-p) of the probabilities p with which they were drawn.

References:
    | MaskGIT: Masked Generative Image Transformer (Chang et al., 2022)
    | https://arxiv.org/abs/2202.04200

    | Remasking Discrete Diffusion Models with Inference-Time Scaling (Wang et al., 2025)
    | https://arxiv.org/abs/2503.00307
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import typer
from torch import Tensor

import guided
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.rewards.sequences.activity import CELLS
from training.dna import evaluate as nucleotides
from training.dna import train as dna
from training.molecules import evaluate as molecules

HERE = Path(__file__).parent
BATCH = 250

#: Bonds that fragments can have where two of them meet, and molecules of the test split do not.
ODD_BONDS = ("[F,Cl,Br,I][N,O,S]", "[OX2][OX2]", "[SX2][SX2]")

#: Maps rows of tokens, with shape `(n, L)`, to log-probabilities of the clean ones, with shape `(n, L, V)`.
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class State:
    """Rows of tokens, with shape `(n, L)`, and with what probability each of them was drawn."""

    x: Tensor
    p: Tensor

    def show(self, where: Tensor, other: "State") -> "State":
        """The other's tokens where `where`, with shape `(n, L)`."""
        return State(torch.where(where, other.x, self.x), torch.where(where, other.p, self.p))


class Order(Protocol):
    """Which tokens are shown and masked in a step."""

    def __call__(
        self, now: State, masked: Tensor, new: State, rates: tuple[float, float], draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Which tokens are shown, and which are masked again, both with shape `(n, L)`.

        Args:
            now: The rows.
            masked: Where they are masked.
            new: A token that was drawn for each position.
            rates: The shares of masked tokens before and after the step.
            draw: The random numbers.
        """
        ...


@dataclass(frozen=True)
class Counted:
    """A fixed number of tokens in each step: a share of `chance` at random, the others by confidence."""

    chance: float

    def __call__(
        self, now: State, masked: Tensor, new: State, rates: tuple[float, float], draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        left = math.ceil(masked.shape[1] * rates[1] - 1e-9)
        n = int(masked[0].sum()) - left
        lots = torch.rand(masked.shape, generator=draw)
        first = _most(lots.masked_fill(~masked, -1), math.ceil(n * self.chance) if self.chance < 1 else n)
        rest = _most(new.p.masked_fill(~masked | first, -1), n - int(first[0].sum()))
        return first | rest, torch.zeros_like(masked)


@dataclass(frozen=True)
class Remasked:
    """ReMDM's kernel; with `eta = 0` that of the shipped models."""

    rule: str
    eta: float

    def kernel(self, rates: tuple[float, float]) -> tuple[float, float]:
        """The probabilities with which a shown token is masked again, on average, and a masked one is shown."""
        now, then = rates
        most = min(1.0, then / (1 - now)) if now < 1 else 1.0
        sigma = min(self.eta, most) if self.rule == "cap" else self.eta * most
        return sigma, 1 - (then - (1 - now) * sigma) / now

    def __call__(
        self, now: State, masked: Tensor, new: State, rates: tuple[float, float], draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        (sigma, shown), u = self.kernel(rates), torch.rand(masked.shape, generator=draw)
        each = torch.full_like(now.p, sigma)
        if self.rule == "conf":
            weight = (-now.p).masked_fill(masked, -math.inf).softmax(-1).nan_to_num(0.0)
            each = sigma * weight * (~masked).sum(1, keepdim=True)
        return masked & (u < shown), ~masked & (u < each)


ORDERS: dict[str, Callable[[float], Order]] = {
    "random": lambda eta: Remasked("cap", 0.0),
    "counted": lambda eta: Counted(1.0),
    "half": lambda eta: Counted(0.5),
    "confident": lambda eta: Counted(0.0),
    "cap": lambda eta: Remasked("cap", eta),
    "rescale": lambda eta: Remasked("rescale", eta),
    "conf": lambda eta: Remasked("conf", eta),
}


def read_order(text: str) -> tuple[Order, int]:
    """`"cap=0.02@64"` to the order and the number of steps.

    Raises:
        GuidedError: It is not written so, or the order is unknown.
    """
    name, _, steps = text.partition("@")
    name, _, eta = name.partition("=")
    try:
        order, K = ORDERS[name](float(eta or 0)), int(steps)
    except (KeyError, ValueError) as error:
        raise GuidedError(f"the order is {text!r}; write name@steps or name=eta@steps: {', '.join(ORDERS)}") from error
    if K < 1 or float(eta or 0) < 0:
        raise GuidedError(f"the order is {text!r}; steps are at least 1, and eta at least 0")
    return order, K


def unmask(network: Network, order: Order, shape: tuple[int, int], mask: int, K: int, seed: int) -> tuple[Tensor, int]:
    """Draws rows of tokens, with shape `(n, L)`; a row that a step left as it was keeps its output.

    Returns:
        The rows, and how many rows the network has seen; the first, of masks alone, is one.
    """
    draw = torch.Generator().manual_seed(seed)
    state = State(torch.full(shape, mask), torch.zeros(shape))
    y, rows = network(state.x[:1]).expand(shape[0], -1, -1).clone(), 1
    for k in range(K):
        masked = state.x == mask
        new = _drawn(y, masked, draw)
        shown, again = order(state, masked, new, (1 - k / K, 1 - (k + 1) / K), draw)
        state = state.show(shown, new).show(again, State(torch.tensor(mask), torch.tensor(0.0)))
        changed = (shown | again).any(1).nonzero()[:, 0]
        if k + 1 < K and len(changed):
            y[changed] = network(state.x[changed])
            rows += len(changed)
    return state.x, rows


def _drawn(y: Tensor, masked: Tensor, draw: torch.Generator) -> State:
    """A token for each masked position, and its probability."""
    x, p = torch.zeros(masked.shape, dtype=torch.long), torch.zeros(masked.shape)
    probabilities = y[masked].softmax(-1)
    token = (probabilities / torch.empty_like(probabilities).exponential_(generator=draw)).argmax(-1)
    x[masked], p[masked] = token, probabilities.gather(-1, token[:, None])[:, 0]
    return State(x, p)


def _most(score: Tensor, n: int) -> Tensor:
    """Where each row of scores has its `n` largest, with shape `(n, L)`."""
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(n).indices, True)


def network_of(model: Diffusion, label: str | None, guidance: float) -> tuple[Network, int]:
    """The model's network for a prompt, and how many rows one takes: 2 with guidance."""
    if label is None:
        return lambda x: model.denoiser(x, torch.ones(len(x))), 1

    def asked(x: Tensor, prompt: str) -> Tensor:
        return model.denoiser(x, torch.ones(len(x)), **model.prompting.conditions([prompt] * len(x)))

    if guidance == 1:
        return lambda x: asked(x, label), 1
    return lambda x: torch.lerp(asked(x, "none"), asked(x, label), guidance), 2


def sample(model: Diffusion, text: str, n: int, label: str | None, guidance: float) -> tuple[list[Any], float]:
    """Decoded samples, and network rows a sample."""
    process: Any = model.process
    (order, K), (network, cost) = read_order(text), network_of(model, label, guidance)
    samples, rows = [], 0
    with torch.no_grad():
        for seed, size in enumerate(_sizes(n)):
            x, seen = unmask(network, order, (size, process.length), process.mask, K, seed)
            samples += list(model.codec.decode(x))
            rows += seen
    return samples, cost * rows / n


def _sizes(n: int) -> Iterator[int]:
    while n > 0:
        yield min(n, BATCH)
        n -= BATCH


def odd_bonds(smiles: list[str]) -> float:
    """The share of molecules with a bond that the test split does not have."""
    from rdkit import Chem

    patterns = [Chem.MolFromSmarts(smarts) for smarts in ODD_BONDS]
    found = [Chem.MolFromSmiles(s) for s in smiles]
    return float(np.mean([any(m is None or m.HasSubstructMatch(p) for p in patterns) for m in found]))


def judge_molecules(samples: list[str], work: Path, reference: int) -> dict[str, float]:
    """Fréchet distance, novelty and more, by the definitions of `training.molecules.evaluate`."""
    metrics: Any = molecules.evaluate(samples, work, reference)[0]
    kept = {name: metrics[name] for name in ("fcd", "novelty", "unique@10k", "ring_sizes_distance")}
    distances = {name: metrics[name]["wasserstein_1"] for name in ("QED", "SA")}
    return {**kept, **distances, "odd_bonds": odd_bonds(samples)}


def judge_dna(samples: list[str], label: str, work: Path) -> dict[str, Any]:
    """The measures of `training.dna.evaluate` of one label."""
    data, chromosomes = dna.read(work)
    held_out = np.array([c in dna.HELD_OUT for c in chromosomes])
    mine = held_out & (data.labels == CELLS.index(label) + 1)
    real = data.select(mine).sequences
    return nucleotides.judge(samples, list(real), data.select(~held_out).tokens, nucleotides.FACTORS[label])


def main(
    model: str,
    orders: list[str],
    n: int = 2000,
    label: str = "K562",
    guidance: float = 1.0,
    temperature: float = 1.0,
    reference: int = 10_000,
    path: Path | None = None,
    work: Path = HERE / "work",
) -> None:
    """Draws n samples in each order, and prints their measures as a line of JSON."""
    of_dna = model == "dna"
    dtype = "bfloat16" if of_dna else "float32"
    loaded = guided.load(path or model, device="cpu", dtype=dtype, temperature=temperature)
    for text in orders:
        started = time.process_time()
        samples, rows = sample(loaded, text, n, label if of_dna else None, guidance)
        found: dict[str, Any] = {"order": text, "n": n, "rows": round(rows, 1)}
        found["seconds"] = round(time.process_time() - started, 1)
        found |= judge_dna(samples, label, work) if of_dna else judge_molecules(samples, work, reference)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    typer.run(main)
