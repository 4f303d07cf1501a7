"""CRIS as a whole: the towers, the neck, the decoder, the projector, and the registered variants.

Letters beyond the library's: S width of a sentence's state, C width of a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.base import Encoder, TextFeatures, flatten_prompts, mean_directions
from lexiseg.encoders.clip import CLIP, MEAN, STD, clip_rn50, clip_rn101
from lexiseg.images import Preprocess
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts
from lexiseg.methods.cris.checkpoints import from_published, is_clip
from lexiseg.methods.cris.decoder import Decoder
from lexiseg.methods.cris.letterbox import Letterbox
from lexiseg.methods.cris.neck import ImageMaps, Neck
from lexiseg.methods.cris.projector import Projector
from lexiseg.methods.cris.sentences import Sentences, read_words
from lexiseg.registry import register_model

BatchNorm = Literal["trained", "frozen"]

CLASS_CHUNK = 4  # bounds the memory: about 60 MB a sentence at 416 pixels


@dataclass(frozen=True)
class CRISConfig:
    """Sizes and choices of the model; the defaults are those published for R50.

    Attributes:
        intermediates: layers of the encoder that are C3 and C4; C5 is its patch features.
        image_widths: channels of C3, C4 and C5.
        neck_widths: channels to which the neck brings them; the second is the decoder's.
        state_width: channels of a sentence's state.
        layers: of the decoder.
        heads: of its attentions.
        hidden: width of its feed-forward networks.
        dropout: in the decoder, in training.
        encoder_norms: "trained", as published: in training, batch norms of the image tower use and
            update the statistics of the batch. "frozen" keeps those they were loaded with, which
            is better for batches of a few images.
        word_length: so many tokens of a sentence are read, published 17, and 22 for RefCOCOg; None
            reads all, up to the 77 that CLIP has positions for.
        hide_id_zero: True hides every token of id 0 from the decoder, as published: padding, but
            also the symbol of a "!" before more punctuation. False hides what comes after the end.
    """

    intermediates: tuple[int, int] = (1, 2)
    image_widths: tuple[int, int, int] = (512, 1024, 1024)
    neck_widths: tuple[int, int, int] = (256, 512, 1024)
    state_width: int = 1024
    layers: int = 3
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.1
    encoder_norms: BatchNorm = "trained"
    word_length: int | None = None
    hide_id_zero: bool = False

    def __post_init__(self) -> None:
        dim = self.neck_widths[1]
        if dim % (4 * self.heads):
            raise ValueError(
                f"the decoder is {dim} wide (neck_widths[1]) with {self.heads} heads; "
                f"give a multiple of {4 * self.heads}"
            )
        if self.encoder_norms not in get_args(BatchNorm):
            raise ValueError(
                f"encoder_norms {self.encoder_norms!r} came; choose one of {get_args(BatchNorm)}"
            )
        if self.word_length is not None and self.word_length < 3:
            raise ValueError(
                f"word_length {self.word_length} came; 3 is the least: start, a word, end"
            )


class CRIS(SegmentationModel):
    """Referring segmentation by text-to-pixel contrast (Wang et al., CVPR 2022).

    The image tower runs once for an image, whatever the number of sentences; neck, decoder and
    projector run once for each pair of an image and a sentence.

    Args:
        encoder: image and text tower; a module. Its words are as wide as the decoder.
        config: sizes and choices.
        protocols: ways to prepare an image.
        class_chunk: sentences worked on at a time outside training; None for all. The result is
            the same.

    Attributes:
        word_length: as in the config; set it before sentences are encoded.
        hide_id_zero: likewise.
    """

    activation: ClassVar[Activation] = "sigmoid"
    exclusive: ClassVar[bool] = False
    threshold: ClassVar[float] = 0.35  # published

    def __init__(
        self,
        encoder: Encoder,
        config: CRISConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        class_chunk: int | None = None,
    ) -> None:
        super().__init__()
        config = config or CRISConfig()
        dim = config.neck_widths[1]
        self.config = config
        self.protocols = protocols
        self.class_chunk = class_chunk
        self.word_length = config.word_length
        self.hide_id_zero = config.hide_id_zero
        self.encoder = encoder
        self.neck = Neck(
            image_widths=config.image_widths,
            widths=config.neck_widths,
            state_width=config.state_width,
        )
        self.decoder = Decoder(
            dim=dim,
            heads=config.heads,
            layers=config.layers,
            hidden=config.hidden,
            dropout=config.dropout,
        )
        self.projector = Projector(dim=dim, state_width=config.state_width)

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Sentences:
        """States and words of every sentence, with gradients into the text tower.

        Raises:
            ValueError: there is no expression, or one has no sentence or too long a one.
        """
        flat, counts = flatten_prompts(prompts)
        read = self._read(flat)
        return Sentences(
            mean_directions(read.pooled, counts),
            states=read.pooled,
            words=read.words,
            is_word=read.is_word,
            counts=tuple(counts),
        )

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits of each expression in each image, at a quarter of the image's size.

        Where an expression is said in several sentences, the mean of their logits.
        """
        sentences = Sentences.of(texts)
        maps = self.look(images)
        step = len(sentences.states)
        if self.class_chunk is not None and not self.training:  # batch norms want all at once
            step = self.class_chunk
        logits = torch.cat(
            [
                self._all_pairs(maps, sentences, slice(start, start + step))
                for start in range(0, len(sentences.states), step)
            ],
            dim=1,
        )
        if len(sentences) == len(sentences.states):
            return logits
        of_each = logits.split(sentences.counts, dim=1)
        return torch.cat([part.mean(dim=1, keepdim=True) for part in of_each], dim=1)

    def look(self, images: Float[Tensor, "B 3 H W"]) -> ImageMaps:
        """All that no sentence takes part in."""
        features = self.encoder.encode_images(images, intermediates=self.config.intermediates)
        return self.neck.of_images([*features.intermediates, features.patch_features])

    def train(self, mode: bool = True) -> "CRIS":
        """As for any module, but for batch norms of the image tower that are to stay frozen."""
        super().train(mode)
        if self.config.encoder_norms == "frozen":
            for part in cast(nn.Module, self.encoder).modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for the ``state_dict`` of an official ``.pth``; our own stay as they are.

        A CLIP alone, such as OpenAI's RN50, starts a new model: all else keeps the values that it
        was built with.
        """
        if not is_clip(state):
            return from_published(state)
        clip = clip_checkpoints.from_published(state)
        own = {
            key: value
            for key, value in self.state_dict().items()
            if not key.startswith("encoder.") or ".connect." in key
        }
        return own | {f"encoder.{key}": value for key, value in clip.items()}

    def _read(self, prompts: Sequence[str]) -> TextFeatures:
        if not isinstance(self.encoder, CLIP):
            return self.encoder.encode_prompts(prompts)
        return read_words(
            self.encoder.text, prompts, length=self.word_length, hide_id_zero=self.hide_id_zero
        )

    def _all_pairs(
        self, maps: ImageMaps, sentences: Sentences, part: slice
    ) -> Float[Tensor, "B P h w"]:
        """Every image with each of some sentences."""
        images = len(maps.middle)
        states, words = sentences.states[part], sentences.words[part]
        logits = self.pairs(
            maps.repeated(len(states)),
            states.repeat(images, 1),
            words.repeat(images, 1, 1),
            sentences.is_word[part].repeat(images, 1),
        )
        return rearrange(logits, "(B P) 1 h w -> B P h w", B=images)

    def pairs(
        self,
        maps: ImageMaps,
        states: Float[Tensor, "B S"],
        words: Float[Tensor, "B L C"],
        is_word: Bool[Tensor, "B L"],
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits of each image that was looked at, for the sentence of its row."""
        merged = self.neck(maps, states)
        grid = (merged.shape[2], merged.shape[3])
        cells = rearrange(merged, "B D h w -> B (h w) D")
        cells = self.decoder(cells, words, is_word, grid=grid)
        return self.projector(rearrange(cells, "B (h w) D -> B D h w", h=grid[0]), states)


def cris_protocols(size: int = 416) -> dict[str, Protocol]:
    """How images reach a CRIS.

    * "default": the whole image at its own aspect ratio, without a border, its longer side
      ``size``.
    * "published": as the authors train and evaluate, centred in a square of ``size``.
    """
    whole = Preprocess(
        mean=MEAN, std=STD, shorter=size, longest=size, filter="bicubic", multiple=32
    )
    return {
        "default": Protocol(whole),
        "published": Protocol(Letterbox(mean=MEAN, std=STD, side=size)),
    }


@register_model
def cris_r50(**changes: Any) -> CRIS:
    """CRIS on CLIP RN50, untrained; ``changes`` go to :class:`CRISConfig`."""
    return CRIS(
        clip_rn50(dense="spatial"),
        replace(CRISConfig(), **changes),
        protocols=cris_protocols(),
        class_chunk=CLASS_CHUNK,
    )


@register_model
def cris_r101(**changes: Any) -> CRIS:
    """CRIS on CLIP RN101, untrained; ``changes`` go to :class:`CRISConfig`."""
    deep = replace(CRISConfig(), image_widths=(512, 1024, 512), state_width=512)
    return CRIS(
        clip_rn101(dense="spatial"),
        replace(deep, **changes),
        protocols=cris_protocols(),
        class_chunk=CLASS_CHUNK,
    )
