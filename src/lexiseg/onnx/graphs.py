"""A model as three graphs whose sizes are open: image encoder, text encoder, head."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures
from lexiseg.encoders.clip import CLIP
from lexiseg.encoders.clip_vit import VisionTransformer
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.wordpiece import bert_wordpiece
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.maskclip import MaskCLIP
from lexiseg.onnx.opened import opened


class ImageGraph(nn.Module):
    """Normalised images to patch features and the layers that the head reads."""

    def __init__(self, encoder: Lite | CLIP, intermediates: Sequence[int]) -> None:
        super().__init__()
        self.intermediates = tuple(intermediates)
        if isinstance(encoder, CLIP):
            self.tower: nn.Module = OpenViT(cast(VisionTransformer, encoder.visual))
        else:
            self.tower = _LiteTower(encoder)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Patch features, then the intermediates in their order."""
        return self.tower(images, self.intermediates)


class _LiteTower(nn.Module):
    def __init__(self, encoder: Lite) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, images: Float[Tensor, "B 3 H W"], intermediates: Sequence[int]
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        features = self.encoder.encode_images(images, intermediates=intermediates)
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
        weight = is_word[..., None].to(words.dtype)
        pooled = (words * weight).sum(dim=1) / weight.sum(dim=1)
        return self.encoder.text_projection(F.normalize(pooled, dim=-1))

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
