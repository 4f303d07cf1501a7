"""Captions to images by Stable Diffusion, with the cross-attention of their words (diffusers).

caption, seed ─ pipeline ─▶ image
                 └ attn2 of down and up blocks, each step ─ AttentionSums ─▶ one map a token

Letters: B images of a step, with guidance the unconditional first; A heads, N pixels, L tokens.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lexiseg._extras import need
from lexiseg.methods.freeda.offline.attribution import (
    AttentionSums,
    conditional_half,
    latent_pixels,
)
from lexiseg.weights import state_sha256


@dataclass(frozen=True)
class Generated:
    """An image made from a caption.

    Attributes:
        image: RGB.
        token_maps: what each token of the caption caused, start first.
        tokens: of the caption, marked at a word's end.
        flagged: the checkpoint's own safety checker blackened the image.
    """

    image: UInt8[np.ndarray, "H W 3"]
    token_maps: Float[Tensor, "L h w"]
    tokens: tuple[str, ...]
    flagged: bool = False


@runtime_checkable
class ImageGenerator(Protocol):
    """All that the offline stage knows of what makes its images."""

    name: str

    def generate(self, caption: str, seed: int) -> Generated:
        """The image of a caption, and where its words went."""
        ...

    def word_tokens(self, word: str) -> list[str]:
        """The tokens of a word, marked at its end."""
        ...

    def identity(self) -> dict[str, Any]:
        """What decides the images, apart from caption and seed."""
        ...


class Diffusion:
    """A Stable Diffusion pipeline of diffusers that also says where its words went.

    One call at a time: the attention processors of the UNet are others while it runs.

    Args:
        pipeline: with a UNet, such as ``StableDiffusionPipeline``.
        name: what records call it.
        steps: of denoising.
        guidance: scale of the classifier-free guidance; up to 1 there is none.

    Raises:
        ValueError: the pipeline has no UNet, or a number is out of its range.
    """

    def __init__(self, pipeline: Any, *, name: str, steps: int = 50, guidance: float = 7.5) -> None:
        unet = getattr(pipeline, "unet", None)
        if unet is None or getattr(pipeline, "tokenizer", None) is None:
            raise ValueError(
                f"{name} is a {type(pipeline).__name__} without a UNet or a tokenizer; the words' "
                "pixels are read from the cross-attention of Stable Diffusion 1, 2 or XL"
            )
        if steps < 1 or guidance < 0:
            raise ValueError(f"steps {steps}, guidance {guidance}; at least 1 step, 0 of guidance")
        self.pipeline, self.name = pipeline, name
        self.steps, self.guidance = steps, guidance
        side = unet.config.sample_size
        side = side if isinstance(side, int) else side[0]
        self.image_side = int(side) * int(pipeline.vae_scale_factor)
        self._is_guided = guidance > 1 and unet.config.time_cond_proj_dim is None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        steps: int = 50,
        guidance: float = 7.5,
        device: str | torch.device = "cpu",
    ) -> "Diffusion":
        """A checkpoint from a folder, or from the Hugging Face hub by its name.

        Only safetensors are read. On a GPU it runs in half precision.

        Raises:
            ImportError: diffusers or transformers is not installed.
            ValueError: there is no such checkpoint, or it has no safetensors.
        """
        diffusers = need("diffusers", extra="collection", purpose="building prototypes")
        need("transformers", extra="collection", purpose="building prototypes")
        device = torch.device(device)
        name = os.fspath(source)
        try:
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                name,
                use_safetensors=True,
                local_files_only=Path(name).is_dir(),
                dtype=torch.float32 if device.type == "cpu" else torch.float16,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"{name!r} is no Stable Diffusion that can be read ({first}); give a folder as "
                "diffusers saves it, with safetensors, or a name on the Hugging Face hub"
            ) from error
        pipeline.to(device)
        pipeline.set_progress_bar_config(disable=True)
        label = Path(name).resolve().name if Path(name).is_dir() else name
        return cls(pipeline, name=label, steps=steps, guidance=guidance)

    def generate(self, caption: str, seed: int) -> Generated:
        """The image of a caption; the same seed gives the same image on the same machine."""
        unet, tokenizer = self.pipeline.unet, self.pipeline.tokenizer
        sums = AttentionSums(latent_pixels(self.image_side))
        with recorded_attention(unet, sums, is_guided=self._is_guided), torch.no_grad():
            output = self.pipeline(
                prompt=caption,
                height=self.image_side,
                width=self.image_side,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="pil",
            )
        longest = tokenizer.model_max_length - 2  # the pipeline cuts longer captions
        tokens = tokenizer.tokenize(caption.lower())[:longest]
        flags = getattr(output, "nsfw_content_detected", None)
        return Generated(
            image=np.array(output.images[0].convert("RGB")),
            token_maps=sums.token_maps(len(tokens)).cpu(),
            tokens=tuple(tokens),
            flagged=bool(flags and flags[0]),
        )

    def word_tokens(self, word: str) -> list[str]:
        """The tokens of a word, marked at its end."""
        return self.pipeline.tokenizer.tokenize(word.lower())

    def identity(self) -> dict[str, Any]:
        """What decides the images, apart from caption and seed."""
        parts = self.pipeline.components
        modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        scheduler = self.pipeline.scheduler
        schedule = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
        written = json.dumps(schedule, sort_keys=True, default=str)
        checksums = {name: state_sha256(each.state_dict()) for name, each in modules.items()}
        return {
            "diffusion": checksums,
            "scheduler": [type(scheduler).__name__, written],
            "steps": self.steps,
            "guidance": self.guidance,
            "image_side": self.image_side,
        }


@contextmanager
def recorded_attention(unet: Any, sums: AttentionSums, *, is_guided: bool) -> Iterator[None]:
    """While entered, the cross-attention of a UNet is counted; afterwards all is as it was.

    DAAM counts ``attn2`` in the down and up blocks, not in the middle one.
    """
    before = dict(unet.attn_processors)
    recording = {}
    for layer, (name, processor) in enumerate(before.items()):
        counted = ".attn2." in name and not name.startswith("mid_block")
        recording[name] = (
            RecordingProcessor(processor, sums, layer, is_guided=is_guided)
            if counted
            else processor
        )
    unet.set_attn_processor(recording)
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class RecordingProcessor:
    """An attention processor that counts the probabilities, and lets another do the work.

    The image is bit for bit that of the other: the probabilities are computed beside it.
    """

    def __init__(self, processor: Any, sums: AttentionSums, layer: int, *, is_guided: bool) -> None:
        self.processor, self.sums, self.layer = processor, sums, layer
        self.is_guided = is_guided

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "B N _"],
        encoder_hidden_states: Float[Tensor, "B L _"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """The layer's output, as the other processor gives it."""
        if encoder_hidden_states is not None:
            self.sums.add(
                self.layer, self._probabilities(attn, hidden_states, encoder_hidden_states)
            )
        return self.processor(
            attn,
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            attention_mask=attention_mask,
            temb=temb,
            **options,
        )

    def _probabilities(
        self, attn: Any, pixels: Float[Tensor, "B N _"], words: Float[Tensor, "B L _"]
    ) -> Float[Tensor, "A N L"]:
        if self.is_guided:
            pixels, words = conditional_half(pixels), conditional_half(words)
        if attn.norm_cross:
            words = attn.norm_encoder_hidden_states(words)
        query = attn.head_to_batch_dim(attn.to_q(pixels))
        key = attn.head_to_batch_dim(attn.to_k(words))
        return attn.get_attention_scores(query, key)
