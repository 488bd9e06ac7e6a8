"""The parts of the shipped image model, before training: networks, tokens, noise schedule."""

__all__ = [
    "LATENTS",
    "LENGTH",
    "TextToImage",
    "centre",
    "diffusers",
    "make_scheduler",
    "make_tiny",
    "make_tokenizer",
    "make_vae",
]

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

LATENTS = 12
LENGTH = 16


def diffusers() -> Any:
    """The library diffusers, without type checks."""
    import diffusers as library

    return library


def make_vae() -> Any:
    """An autoencoder of `(B, 3, 64, 64)` in [-1, 1] into `(B, LATENTS, 8, 8)`."""
    return diffusers().AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def make_tiny() -> Any:
    """A small autoencoder of the same images and scaled latents, as for previews in diffusers."""
    return diffusers().AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(24, 24, 24, 24),
        latent_channels=LATENTS,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(3, 3, 2, 1),
        scaling_factor=1.0,
    )


class TextToImage(nn.Module):
    """The text encoder and the UNet, trained together."""

    def __init__(self) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=2048,
                hidden_size=192,
                intermediate_size=768,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=192,
                bos_token_id=2046,
                eos_token_id=2047,
                pad_token_id=2047,
            )
        )
        self.unet = diffusers().UNet2DConditionModel(
            sample_size=8,
            in_channels=LATENTS,
            out_channels=LATENTS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(128, 160),
            layers_per_block=1,
            cross_attention_dim=192,
            attention_head_dim=4,
            norm_num_groups=16,
        )

    def forward(self, z: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.unet(z, t, self.text(ids).last_hidden_state).sample


def make_scheduler() -> Any:
    """Stable Diffusion's 1,000 times, with v-prediction and no signal at the last time."""
    return diffusers().DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


@torch.no_grad()
def centre(vae: Any, middle: torch.Tensor) -> None:
    """Moves an autoencoder's latents by `-middle`, `(LATENTS,)`, by its 1 x 1 convolutions; images stay the same."""
    vae.quant_conv.bias[: len(middle)] -= middle
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ middle


def make_tokenizer(texts: list[str], folder: Path) -> None:
    """Learns 2,048 pieces by byte-pair encoding, in the order of CLIP's vocabulary, and writes CLIP's four files."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.Whitespace()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=2046, show_progress=False, end_of_word_suffix="</w>", min_frequency=2),
    )
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]][: 2046 - 2 * len(characters)]
    pieces = [*characters, *(c + "</w>" for c in characters), *(a + b for a, b in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    assert len(pieces) == len(set(pieces)) == 2048
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        bos_token="<|startoftext|>",
        model_max_length=LENGTH,
        **special,
    ).save_pretrained(folder)
