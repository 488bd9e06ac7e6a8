r"""How likely samples are under a masked model: it separates good samples from those that only please the reward.

References:
    | Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024), for the bound
    | https://arxiv.org/abs/2406.07524
"""

__all__ = ["log_likelihood"]

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.random import Streams
from guided.errors import GuidedError, check_number


@torch.no_grad()
def log_likelihood(model: Diffusion, x: Tensor, draws: int = 32, seed: int = 0) -> Tensor:
    r"""An unbiased estimate of the evidence lower bound of the K-step chain, in nats, with shape `(n,)`.

    .. math:: \log p(x) \ge \sum_{k=0}^{K-1} \frac{m_k - m_{k+1}}{m_k}
        \, \mathbb{E}_{x_k \mid x} \sum_{l\,:\,x_k^l = \mathrm{mask}} \log p_\theta(x^l \mid x_k)

    Each draw takes one step k, so that a row costs `draws` network rows. The steps are spread evenly, and are the same
    for all rows; row i is masked by a stream of its own, which no run draws samples from.

    Args:
        model: A masked model; a conditional one must be prompted, with a prompt for each row.
        x: Clean token rows, with shape `(n, L)`.
        draws: The number of draws for each row, at least 1.
        seed: The seed of the masks, at least 0.

    Raises:
        GuidedError: The model is not a masked one, `draws` is below 1, or rows and prompts differ in number.
    """
    process = model.process
    if not isinstance(process, Masked):
        raise GuidedError(f"{model.name} is a continuous model; the bound is one of masked models")
    draws, seed = check_number("draws", draws, int, least=1), check_number("seed", seed, int, least=0)
    wrong = next((len(c) for c in model.requests.conditions.positive.values() if len(c) != len(x)), None)
    if wrong is not None:
        raise GuidedError(f"the model has conditions for {wrong} requests, and there are {len(x)} rows")
    streams = Streams(seed, range(len(x)), model.device, "likelihood")
    x = x.to(model.device)[:, None]  # (n, 1, L)
    start = torch.rand((), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32, device="cpu").item()
    total = torch.zeros(len(x), dtype=torch.float64, device="cpu")
    for draw in range(draws):
        k = int((draw + start) / draws * process.steps)
        masked = process.noise(x, k, streams)
        outputs = model.evaluate(masked, k)
        logits = outputs.y[outputs.index] / process.temperature
        log_p = logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]  # (n, 1, L); guidance leaves y unnormalised
        hidden = (masked == process.mask) & (x != process.mask)
        step = torch.where(hidden, log_p, 0.0).sum((1, 2)).double().cpu()
        total += process.steps * (1 - process.rate(k + 1) / process.rate(k)) * step
    return total / draws
