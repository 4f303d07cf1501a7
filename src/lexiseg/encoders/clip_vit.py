"""CLIP's image tower as a vision transformer: patch features, and chosen layers on request.

Letters: B images, H W pixels, h w patches, L tokens (one class token, then h * w patches row by
row), C channels of the tower, D channels of the joint space.
"""

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures, check_intermediates
from lexiseg.layers.blocks import Activation, TransformerBlock
from lexiseg.layers.positions import patch_grid, resize_positions

Dense = Literal["final", "value", "catseg"]


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al., 2021) with CLIP's norm before the blocks and projection behind.

    ``dense`` says how the last block makes patch features; ``q_proj_weight`` and ``k_proj_weight``
    of that block exist in every mode, since checkpoints hold them:

    - "final": as trained. ``pooled`` is the image feature of CLIP.
    - "value": in the last block a patch attends to itself alone, ``out_proj(v_proj(norm1(x)))``,
      then residual and MLP (MaskCLIP, Zhou et al., ECCV 2022, section 3.2, and the authors' code).
      ``pooled`` is still the image feature of CLIP: the class token alone goes through the whole
      last block, which costs little.
    - "catseg": as "value", but the residual of every token is the class token that enters the block
      (the authors' code of CAT-Seg, CVPR 2024). ``pooled`` is the class token of that same path,
      not the image feature of CLIP.

    Parameters that fine-tunings pick: ``blocks[i].attention.q_proj_weight``, ``.k_proj_weight``,
    ``.v_proj_weight``, ``.in_proj_bias``, ``.out_proj``; ``blocks[i].norm1``, ``.norm2``, ``.mlp``;
    ``patch_embedding``, ``class_embedding``, ``position_embedding``, ``norm_pre``, ``norm_post``,
    ``projection``.

    Args:
        image_size: side of the square images of pre-training, which fixes the position grid;
            images of any other size get that grid resized.
        patch_size: side of a patch in pixels.
        width: channels of a token.
        layers: number of blocks.
        heads: of each attention.
        dim: channels of the joint space.
        activation: of the MLPs.
        dense: see above.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        dim: int,
        activation: Activation = "quick_gelu",
        dense: Dense = "final",
    ) -> None:
        super().__init__()
        if dense not in get_args(Dense):
            raise ValueError(f"dense={dense!r} is not known; choose one of {get_args(Dense)}")
        self.patch_size = patch_size
        self.dense: Dense = dense
        scale = width**-0.5
        grid = image_size // patch_size
        self.patch_embedding = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.position_embedding = nn.Parameter(scale * torch.randn(1 + grid * grid, width))
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, activation) for _ in range(layers)
        )
        self.norm_post = nn.LayerNorm(width)
        self.projection = nn.Parameter(scale * torch.randn(width, dim))

    def forward(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images whose sides are multiples of the patch.

        ``intermediates`` numbers blocks from 0; their outputs come without the class token and
        before ``norm_post``.

        Raises:
            ValueError: a side is no multiple of the patch, or there is no such block.
        """
        grid = patch_grid(images, self.patch_size)
        check_intermediates(intermediates, len(self.blocks))
        tokens = self._embed(images, grid)
        wanted: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            is_last = number == len(self.blocks) - 1
            tokens = self._last_block(tokens) if is_last else block(tokens)
            if number in intermediates:
                wanted[number] = tokens
        features = self.norm_post(tokens) @ self.projection
        return ImageFeatures(
            pooled=features[:, 0],
            patch_features=_as_map(features, grid),
            intermediates=tuple(_as_map(wanted[number], grid) for number in intermediates),
        )

    def _embed(
        self, images: Float[Tensor, "B 3 H W"], grid: tuple[int, int]
    ) -> Float[Tensor, "B L C"]:
        patches = rearrange(self.patch_embedding(images), "B C h w -> B (h w) C")
        class_token = self.class_embedding.expand(len(images), 1, -1)
        class_position, patch_positions = self.position_embedding.split(
            [1, len(self.position_embedding) - 1]
        )
        positions = torch.cat([class_position, resize_positions(patch_positions, grid)])
        return self.norm_pre(torch.cat([class_token, patches], dim=1) + positions)

    def _last_block(self, tokens: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        block = cast(TransformerBlock, self.blocks[-1])
        if self.dense == "final":
            return block(tokens)
        normed = block.norm1(tokens)
        values = block.attention.values(normed)
        class_token = tokens[:, :1]
        values = values + (class_token if self.dense == "catseg" else tokens)
        values = values + block.mlp(block.norm2(values))
        if self.dense == "catseg":
            return values
        class_token = class_token + block.attention(normed[:, :1], normed)
        class_token = class_token + block.mlp(block.norm2(class_token))
        return torch.cat([class_token, values[:, 1:]], dim=1)


def _as_map(tokens: Float[Tensor, "B L C"], grid: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    return rearrange(tokens[:, 1:], "B (h w) C -> B C h w", h=grid[0])
