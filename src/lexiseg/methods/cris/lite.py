"""CRIS on the bundled encoder: the same boxes, small, with what a training of minutes needs.

image ─ Lite ─┬─ strides 4, 8 ────────────┬─────────────────── details ──┐
              └─ patches, pooled ─ Neck ──┼─ Decoder ─ FineProjector ────┴─ logits ─ + cost
sentence ─ MiniLM ─┬─ state ──────────────┴── kernel ─┘
                   └─ words ─ projected ─ Decoder

Ours, and not the paper's: the cosine of patches and sentence (``cost``) enters the decoder and is
added to the logits, so that the head begins where the encoder is; fine maps of the image are added
on the way up, because the decoder's cells are 16 pixels wide; the sentence's state is its vector in
the joint space, which knows names, beside the mean of its words, which knows the rest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lexiseg.encoders.base import Encoder, ImageFeatures, TextFeatures, mean_directions
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import complete
from lexiseg.layers.cost import CostSkip
from lexiseg.methods.base import Protocol
from lexiseg.methods.cris.fine_projector import FineProjector, relative_places
from lexiseg.methods.cris.model import CRIS, CRISConfig
from lexiseg.methods.cris.neck import ImageMaps, resized
from lexiseg.methods.cris.sentences import Sentences
from lexiseg.registry import register_model
from lexiseg.weights import metadata_of

SIZE = 320  # pixels of the longer side
SENTENCES_AT_ONCE = 8


@dataclass(frozen=True)
class CRISLiteConfig(CRISConfig):
    """Sizes of the small model; what it shares with the published one is told there.

    Attributes:
        word_width: channels of the encoder's words.
        pooling: side of the square of patches that make one cell of the decoder.
        contrastive: False puts a plain 1x1 convolution in place of the sentence's kernel, to
            measure what text-to-pixel contrast is worth.
    """

    intermediates: tuple[int, int] = (1, 0)
    image_widths: tuple[int, int, int] = (24, 192, 256)
    neck_widths: tuple[int, int, int] = (48, 96, 96)
    state_width: int = 256 + 384
    layers: int = 2
    heads: int = 4
    hidden: int = 256
    encoder_norms: Any = "frozen"
    word_width: int = 384
    pooling: int = 2
    contrastive: bool = True


@dataclass(frozen=True)
class FineMaps(ImageMaps):
    """What is made of an image before a sentence is known.

    Attributes:
        patches: directions in the joint space.
        details: of strides 8 and 4, brought to the projector's width.
    """

    patches: Float[Tensor, "B _ _ _"]
    details: tuple[Float[Tensor, "B _ _ _"], ...]

    def repeated(self, times: int) -> "FineMaps":
        """Each image so many times in a row."""
        return FineMaps(
            self.fine.repeat_interleave(times, dim=0),
            self.middle.repeat_interleave(times, dim=0),
            self.coarse.repeat_interleave(times, dim=0),
            patches=self.patches.repeat_interleave(times, dim=0),
            details=tuple(each.repeat_interleave(times, dim=0) for each in self.details),
        )


class CRISLite(CRIS):
    """CRIS on an encoder whose patches and sentences share one space.

    Args:
        encoder: its intermediates are a map at stride 4 and one on the grid of its patches.
        config: sizes and choices.
        protocols: ways to prepare an image.
        class_chunk: sentences worked on at a time outside training.
    """

    projector: FineProjector
    state_mean: Tensor
    state_scale: Tensor

    def __init__(
        self,
        encoder: Encoder,
        config: CRISLiteConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        class_chunk: int | None = None,
    ) -> None:
        config = config or CRISLiteConfig()
        super().__init__(encoder, config, protocols=protocols, class_chunk=class_chunk)
        dim = config.neck_widths[1]
        self.dim = encoder.dim
        self.pooling = config.pooling
        self.word_projection = nn.Linear(config.word_width, dim)
        self.cost_embedding = nn.Conv2d(1, dim, 1)
        self.projector = FineProjector(
            dim=dim,
            state_width=config.state_width,
            detail_widths=(config.image_widths[1], config.image_widths[0]),
            contrastive=config.contrastive,
        )
        self.skip = CostSkip()
        self.register_buffer("state_mean", torch.zeros(config.state_width))
        self.register_buffer("state_scale", torch.ones(config.state_width))

    @torch.no_grad()
    def standardise(self, sentences: Sequence[str]) -> None:
        """Let each number of a state have mean 0 and variance 1 over some sentences.

        "left" and "right" are nearly the same sentence; so the difference is heard at once.
        """
        states = torch.cat(
            [self._read(sentences[i : i + 64]).pooled for i in range(0, len(sentences), 64)]
        )
        self.state_mean.copy_(states.mean(dim=0))
        self.state_scale.copy_(states.std(dim=0).clamp(min=1e-4))

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Sentences:
        """States and words of every sentence; an expression's feature is of the joint space."""
        read = super().encode_texts(prompts)
        joint = read.states[:, : self.dim]
        return replace(read, features=mean_directions(joint, read.counts))

    def look(self, images: Float[Tensor, "B 3 H W"]) -> FineMaps:
        """All that no sentence takes part in."""
        return self.arrange(
            self.encoder.encode_images(images, intermediates=self.config.intermediates)
        )

    def arrange(self, features: ImageFeatures) -> FineMaps:
        """The same from what the encoder sees, for a training that looks once."""
        fine, middle = features.intermediates
        patches = features.patch_features
        pooled = (F.avg_pool2d(each, self.pooling, ceil_mode=True) for each in (middle, patches))
        maps = self.neck.of_images([fine, *pooled])
        return FineMaps(
            maps.fine,
            maps.middle,
            maps.coarse,
            patches=F.normalize(patches, dim=1),
            details=self.projector.of_images([middle, fine]),
        )

    def pairs(
        self,
        maps: ImageMaps,
        states: Float[Tensor, "B S"],
        words: Float[Tensor, "B L C"],
        is_word: Bool[Tensor, "B L"],
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits of each image that was looked at, for the sentence of its row."""
        assert isinstance(maps, FineMaps)  # what ``look`` gives
        cost = torch.einsum("bdhw,bd->bhw", maps.patches, states[:, : self.dim])[:, None]
        states = (states - self.state_mean) / self.state_scale / math.sqrt(states.shape[1])
        merged = self.neck(maps, states)
        grid = (merged.shape[2], merged.shape[3])
        merged = merged + self.cost_embedding(resized(cost, grid))
        cells = self.decoder(
            merged.flatten(2).transpose(1, 2), self.word_projection(words), is_word, grid=grid
        )
        cells = cells.transpose(1, 2).unflatten(2, grid)
        places = relative_places(cost, gain=self.skip.gain, offset=self.skip.offset)
        logits = self.projector.with_details(cells, states, maps.details, places)
        return self.skip(logits, cost)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a file, which may hold the head alone: the bundled encoder is added."""
        return complete(state, self.encoder, metadata_of(state))

    def _read(self, prompts: Sequence[str]) -> TextFeatures:
        """The direction of the pooled feature, and behind it that of the mean of the words."""
        read = self.encoder.encode_prompts(prompts)
        weight = read.is_word[..., None].to(read.words.dtype)
        mean = (read.words * weight).sum(dim=1) / weight.sum(dim=1)
        directions = [F.normalize(part, dim=1) for part in (read.pooled, mean)]
        return replace(read, pooled=torch.cat(directions, dim=1))


@register_model
def cris_lite(**changes: Any) -> CRISLite:
    """CRIS on the bundled encoder; ``changes`` go to :class:`CRISLiteConfig`."""
    preprocess = replace(LITE_PREPROCESS, shorter=SIZE, longest=SIZE)
    return CRISLite(
        Lite(),
        replace(CRISLiteConfig(), **changes),
        protocols={"default": Protocol(preprocess)},
        class_chunk=SENTENCES_AT_ONCE,
    )
