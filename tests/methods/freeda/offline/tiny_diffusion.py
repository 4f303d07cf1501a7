"""A Stable Diffusion of a few thousand random weights, whole with tokenizer and scheduler."""

import gzip
from importlib.resources import files
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lexiseg.encoders.byte_pairs import SPECIAL, WORD_END, vocabulary

WIDTH = 32


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, from the merges that lexiseg bundles."""
    packed = files("lexiseg").joinpath("assets", "clip_bpe", "merges.txt.gz").read_bytes()
    merges = [line.split() for line in gzip.decompress(packed).decode("utf-8").splitlines()]
    shown = _byte_characters()
    spelled = sorted((number, shown[byte]) for byte, number in enumerate(vocabulary().byte_ids))
    symbols = [character for _, character in spelled]
    symbols += [character + WORD_END for character in symbols]
    symbols += [left + right for left, right in merges]
    ids = {symbol: number for number, symbol in enumerate([*symbols, *SPECIAL])}
    return CLIPTokenizer(
        vocab=ids, merges=[(left, right) for left, right in merges], model_max_length=77
    )


def tiny_pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """Images of 32 pixels; guidance, cross-attention in down, middle and up blocks."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            bos_token_id=SPECIAL["<|startoftext|>"],
            eos_token_id=SPECIAL["<|endoftext|>"],
        )
    )
    pipeline = StableDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny(folder: Path) -> Path:
    """The same as a folder that ``from_pretrained`` reads."""
    tiny_pipeline().save_pretrained(folder)
    return folder


def _byte_characters() -> list[str]:
    """The visible character that merges and vocabulary write for each byte (GPT-2's table)."""
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(b) if b in visible else chr(256 + hidden.index(b)) for b in range(256)]
