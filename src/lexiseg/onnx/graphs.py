"""A model as three graphs whose sizes are open: image encoder, text encoder, head."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim

from lexiseg.encoders.base import ImageFeatures
from lexiseg.encoders.clip import CLIP
from lexiseg.encoders.clip_vit import VisionTransformer
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.minilm import mean_of_words
from lexiseg.encoders.wordpiece import bert_wordpiece
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.maskclip import MaskCLIP
from lexiseg.onnx.opened import opened

MOST_CELLS, MOST_TEXTS = 256, 4096  # of the sizes that torch.export is told


@dataclass(frozen=True)
class OpenGraph:
    """A graph, and what its export takes.

    Attributes:
        name: of its file.
        module: what it computes.
        example: what goes in.
        sizes: the axes of each input that stay open, as torch.export takes them.
        inputs: their names.
        outputs: their names.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    sizes: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def open_graphs(model: CATSeg | MaskCLIP, context_length: int) -> Iterator[OpenGraph]:
    """The graphs of a model; ``context_length`` is the most tokens of a prompt."""
    # Every side of a prepared picture is a multiple of this.
    unit = math.lcm(model.preprocess.multiple, model.preprocess.pad_multiple)
    rows, columns = (Dim(side, min=1, max=MOST_CELLS) for side in ("rows", "columns"))
    layers = model.config.intermediates if isinstance(model, CATSeg) else ()
    encoder = cast(Lite | CLIP, model.encoder)
    image = ImageGraph(encoder, layers)
    images = torch.randn(1, 3, 5 * unit, 7 * unit, generator=torch.Generator().manual_seed(0))
    maps = image(images)
    seen = ("patch_features", *(f"layer_{number}" for number in layers))
    open_sides = ({2: unit * rows, 3: unit * columns},)
    yield OpenGraph("image", image, (images,), open_sides, ("images",), seen)

    prompts = Dim("prompts", min=1, max=MOST_TEXTS)
    tokens = Dim("tokens", min=3, max=context_length)
    ids = torch.tensor([[5, 7, 9, 2, 0], [5, 8, 9, 3, 1], [5, 6, 2, 0, 0]])
    text = TextGraph(encoder)
    yield OpenGraph("text", text, (ids,), ({0: prompts, 1: tokens},), ("ids",), ("features",))

    labels = {0: Dim("labels", min=1, max=MOST_TEXTS)}
    texts = F.normalize(torch.ones(4, encoder.dim) + torch.eye(4, encoder.dim))
    first, *others = ({2: m.shape[2] // 5 * rows, 3: m.shape[3] // 7 * columns} for m in maps)
    head = CATSegHead(model) if isinstance(model, CATSeg) else MaskCLIPHead(model)
    # What a variadic forward takes is one argument of torch.export, a tuple.
    sizes = (labels, first, tuple(others)) if layers else (labels, first)
    inputs = ("text_features", *seen)
    yield OpenGraph("head", head, (texts, *maps), sizes, inputs, ("logits",))


class ImageGraph(nn.Module):
    """Normalised images to patch features and the layers that the head reads."""

    def __init__(self, encoder: Lite | CLIP, intermediates: Sequence[int]) -> None:
        super().__init__()
        self.intermediates = tuple(intermediates)
        is_clip = isinstance(encoder, CLIP)
        self.tower = OpenViT(cast(VisionTransformer, encoder.visual)) if is_clip else encoder

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Patch features, then the intermediates in their order."""
        if isinstance(self.tower, OpenViT):
            return self.tower(images, self.intermediates)
        features = cast(Lite, self.tower).encode_images(images, intermediates=self.intermediates)
        return (features.patch_features, *features.intermediates)


class OpenViT(nn.Module):
    """A vision transformer that resizes its positions at every size, the trained one included."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    def forward(
        self, images: Float[Tensor, "B 3 H W"], intermediates: Sequence[int]
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Patch features, then the intermediates in their order."""
        visual = self.visual
        maps = visual.patch_embedding(images)
        grid = maps.shape[-2:]
        positions = visual.position_embedding
        side = round((len(positions) - 1) ** 0.5)
        square = rearrange(positions[1:], "(h w) C -> 1 C h w", h=side)
        # At the trained size the bicubic filter meets the cells themselves and changes nothing.
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
        patches = (maps + resized).flatten(2).transpose(1, 2)
        class_token = (visual.class_embedding + positions[0]).expand(len(images), 1, -1)
        tokens = visual.norm_pre(torch.cat([class_token, patches], dim=1))
        wanted: dict[int, Tensor] = {}
        for number, block in enumerate(visual.blocks):
            is_last = number == len(visual.blocks) - 1
            tokens = visual._last_block(tokens) if is_last else block(tokens)
            if number in intermediates:
                wanted[number] = tokens
        features = visual.norm_post(tokens) @ visual.projection
        kept = [features, *(wanted[number] for number in intermediates)]
        return tuple(each[:, 1:].transpose(1, 2).unflatten(2, tuple(grid)) for each in kept)


class TextGraph(nn.Module):
    """Token ids to one vector for each prompt, of any length."""

    def __init__(self, encoder: Lite | CLIP) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad = bert_wordpiece().pad if isinstance(encoder, Lite) else 0

    def forward(self, ids: Int[Tensor, "P L"]) -> Float[Tensor, "P D"]:
        """Pooled features, as ``encode_prompts`` gives them."""
        if isinstance(self.encoder, CLIP):
            return self._clip(self.encoder, ids)
        text = self.encoder.text
        is_word = ids.ne(self.pad)
        words = text.encode_tokens(ids, is_word)
        return self.encoder.text_projection(mean_of_words(words, is_word))

    def _clip(self, encoder: CLIP, ids: Int[Tensor, "P L"]) -> Float[Tensor, "P D"]:
        text = encoder.text
        tokens = text.token_embedding(ids) + text.position_embedding[: ids.shape[1]]
        for block in text.blocks:
            tokens = block(tokens, causal=True)
        # The end has the largest id; what stands behind it, zeros, does not reach back to it.
        is_end = (ids == ids.amax(dim=1, keepdim=True)).to(tokens.dtype)
        pooled = torch.einsum("pl,plc->pc", is_end, text.norm_final(tokens))
        return pooled @ text.projection


class MaskCLIPHead(nn.Module):
    """Patch and text features to logits."""

    def __init__(self, model: MaskCLIP) -> None:
        super().__init__()
        self.scale = model.encoder.logit_scale

    def forward(
        self, text_features: Float[Tensor, "T D"], patch_features: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B T h w"]:
        """Logits on the grid of the patches."""
        return self.scale.exp() * cosine_cost(patch_features, text_features)


class CATSegHead(nn.Module):
    """Features to logits, all texts at once and windows at any grid."""

    def __init__(self, model: CATSeg) -> None:
        super().__init__()
        self.model = opened(model)

    def forward(
        self,
        text_features: Float[Tensor, "T D"],
        patch_features: Float[Tensor, "B D h w"],
        *intermediates: Float[Tensor, "B _ _ _"],
    ) -> Float[Tensor, "B T H W"]:
        """Logits on the grid of the decoder."""
        pooled = patch_features.mean(dim=(-2, -1))  # no part of the head reads it
        features = ImageFeatures(pooled, patch_features, intermediates)
        cost = cosine_cost(patch_features, text_features)
        return self.model.refine(cost, features, text_features)
