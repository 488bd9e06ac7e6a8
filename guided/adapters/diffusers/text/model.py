"""A pipeline of text as a `Diffusion`: its network, its tokenizer, and its scheduler's rule as a process."""

__all__ = ["wrap_text"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided.adapters.diffusers.frozen import freeze
from guided.adapters.diffusers.identity import digest_of_values, fingerprint
from guided.adapters.diffusers.text.call import TextCall
from guided.adapters.diffusers.text.codec import Texts
from guided.adapters.diffusers.text.denoiser import BlockDenoiser
from guided.adapters.diffusers.text.prompts import Table
from guided.core.batching import Evaluator
from guided.core.blocks import Blocks
from guided.core.codec import Codec
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.errors import GuidedError, check_number, shown
from guided.storage import digest_of

SCHEDULER = "BlockRefinementScheduler"
LOOKAHEADS = ("block", "all")
ROWS, HELD = 16, 2**28  # rows of the network at a time, and the most numbers that it puts out for them


@dataclass(frozen=True)
class TextDiffusion(Diffusion):
    """A model whose blocks are counted from the beginning of the prompt."""

    def start(self, streams: Streams, N: int = 1) -> Particles:
        particles = super().start(streams, N)
        process, denoiser = self.process, self.denoiser
        assert isinstance(process, Blocks) and isinstance(denoiser, BlockDenoiser)
        prompts = denoiser.table.lengths(self.requests.conditions.positive, len(streams))
        return Particles(self, process.placed(particles.x, prompts), particles.k, streams)


def wrap_text(
    pipeline: Any,
    *,
    steps: int | None = None,
    lookahead: Any = "block",
    micro_batch: int | None = None,
    pipe_args: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    identity: str | None = None,
) -> Diffusion:
    """A pipeline as a model. Its network is shared, frozen and put into evaluation mode.

    Args:
        pipeline: A `DiffusionPipeline` of text, on its device.
        steps: The number of steps `K` of all blocks together; None for as many as the pipeline can take.
        lookahead: What look-aheads fill: the present "block", or "all", which takes a second row of the network.
        micro_batch: Rows that the network takes at a time; halved when memory runs out. None for at most 16.
        pipe_args: Arguments of the pipeline's call besides prompts, by name.
        folder: Where the pipeline was loaded from.
        identity: The digest of the pipeline's weights; None to compute it.

    Raises:
        GuidedError: The pipeline has another scheduler, or no mask; or an option is out of range.
    """
    if type(pipeline.scheduler).__name__ != SCHEDULER:
        raise GuidedError(f"{type(pipeline.scheduler).__name__} is not a scheduler of masked blocks; take {SCHEDULER}")
    whole = _whole(lookahead)
    call, device = TextCall(pipeline, pipe_args or {}), torch.device(pipeline._execution_device)
    network = pipeline.model
    if isinstance(network, nn.Module):
        freeze(network, False)
    vocabulary = _vocabulary(network, call, device)
    process = call.process(vocabulary, steps, whole)
    table = Table(call, device)
    denoiser = BlockDenoiser(network, table, process, call.mask)
    texts = Texts(pipeline.tokenizer, process, call["eos_token_id"])
    size = ROWS if micro_batch is None else check_number("micro_batch", micro_batch, int, least=1)
    if micro_batch is None:
        size = max(1, min(size, HELD // (vocabulary * process.most_blocks * process.block)))
    return TextDiffusion(
        denoiser,
        process,
        Codec(texts, modality="text"),
        Prompting(table, unconditional=None),
        Network(network, denoiser.around, "model") if isinstance(network, nn.Module) else None,
        timed=False,
        name=type(pipeline).__name__,
        identity=_identity(identity or fingerprint(pipeline.components), call),
        evaluator=Evaluator(size, device),
    )


def _whole(lookahead: Any) -> bool:
    """Whether look-aheads are filled to the end."""
    lookahead = "block" if lookahead == "full" else lookahead  # what pipelines of images have
    if lookahead not in LOOKAHEADS:
        raise GuidedError(f"lookahead is {shown(lookahead)}; of text it is one of {', '.join(LOOKAHEADS)}")
    return bool(lookahead == "all")


def _vocabulary(network: Any, call: TextCall, device: torch.device) -> int:
    """The number of tokens that the network predicts, the mask among them.

    Raises:
        GuidedError: It does not take what the pipeline gives it, or the mask or the end is not among its tokens.
    """
    block = int(call["block_length"])
    x = torch.full((1, block), call.mask, dtype=torch.long, device=device)
    try:
        with torch.no_grad():
            logits = network(
                x, attention_mask=torch.ones_like(x), position_ids=torch.arange(block, device=device)[None]
            )
    except (TypeError, IndexError) as error:
        asked = f"cannot be asked for mask_token_id {call.mask} as its pipeline does"
        raise GuidedError(f"the network {type(network).__name__} {asked}: {error}") from error
    found = getattr(logits, "logits", None)
    if not isinstance(found, Tensor) or found.shape[:2] != x.shape:
        raise GuidedError(f"the network {type(network).__name__} does not return logits of its tokens")
    for name in ("mask_token_id", "eos_token_id"):
        if call[name] is not None:
            check_number(name, call[name], int, least=0, most=found.shape[-1] - 1)
    return int(found.shape[-1])


def _identity(identity: str, call: TextCall) -> str:
    """The digest of the weights, with that of what depends on the tokenizer and on the given arguments."""
    tokenizer, known = call.pipeline.tokenizer, {}
    if tokenizer is not None:
        known = {"tokens": tokenizer.get_vocab(), "template": getattr(tokenizer, "chat_template", None)}
    prompts = {name: call[name] for name in ("use_chat_template", "add_generation_prompt", "mask_token_id")}
    return digest_of(f"{identity} {digest_of_values(known)} {digest_of_values(prompts)}")
