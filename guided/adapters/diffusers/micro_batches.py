"""How many rows of latents the networks of a pipeline take at a time.

Small rows come in batches of one size on a CPU, filled up where they are fewer, so that no output depends on the number
of rows. On a GPU a few small rows take as long to be launched as many take to be computed, and outputs depend on the
number of rows in any case, so there they come in large batches. A compiled network takes one size everywhere.
"""

__all__ = ["decoder_batches", "network_batches"]

import math

import torch

from guided.core.batching import Evaluator
from guided.errors import check_number

ROWS = 16  # of a network, and of large latents in a decoder
DECODED = 8  # of small latents in a decoder
SMALL = 4 * 32 * 32  # the most numbers in a row of latents that counts as small
ELSEWHERE = {ROWS: 256, DECODED: 128}  # the same of small rows on other devices than a CPU


def network_batches(
    event: tuple[int, ...], micro_batch: int | None, device: torch.device, compilation: str | None = None
) -> Evaluator:
    """The micro-batches of a network that denoises.

    Args:
        event: The shape of a row.
        micro_batch: How many rows the user wants at a time; None for a number that fits the row and the device.
        device: Where the network runs.
        compilation: How it is compiled; None for not at all.

    Raises:
        GuidedError: `micro_batch` is not a whole number of at least 1.
    """
    return _batches(event, micro_batch, device, ROWS, compilation is not None)


def decoder_batches(event: tuple[int, ...], micro_batch: int | None, device: torch.device) -> Evaluator:
    """The micro-batches of a decoder; arguments and errors as of `network_batches`."""
    return _batches(event, micro_batch, device, DECODED, one_size=False)


def _batches(
    event: tuple[int, ...], micro_batch: int | None, device: torch.device, rows: int, one_size: bool
) -> Evaluator:
    small, on_cpu = math.prod(event) <= SMALL, device.type == "cpu"
    if micro_batch is not None:
        size = check_number("micro_batch", micro_batch, int)
    elif small:
        size, one_size = rows if on_cpu else ELSEWHERE[rows], one_size or on_cpu
    else:
        size = ROWS
    return Evaluator(size, device, least=size if one_size else 1)
