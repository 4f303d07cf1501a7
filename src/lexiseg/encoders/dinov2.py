"""DINOv2 (Oquab et al., TMLR 2024): a vision transformer trained without text or labels.

images ─ patches + positions ─ [class, registers, patches] ─ blocks ─ norm ─ class, patch features

Registers (Darcet et al., ICLR 2024) are tokens that no output is read from.

Letters: B images, H W pixels, h w patches, L tokens (class, registers, then h * w patches row by
row), C channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import check_intermediates
from lexiseg.layers.attention import SelfAttention
from lexiseg.layers.blocks import MLP
from lexiseg.layers.linear import Linear
from lexiseg.layers.positions import patch_grid

# Mean and deviation of each colour in ImageNet, on the scale 0 to 255.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

CHANNELS_A_HEAD = 64
# The authors enlarge every grid by a tenth of a patch, against the rounding of floats.
GRID_OFFSET = 0.1


@dataclass(frozen=True)
class DINOv2Config:
    """Architecture; the defaults are ViT-B/14.

    Attributes:
        width: channels; a head has 64 of them.
        layers: number of blocks.
        registers: number of register tokens; the published models have none or four.
        gated: feed-forward networks with a gate (SwiGLU), as ViT-g has.
        image_size: side of the square images that the position grid belongs to.
        patch_size: side of a patch in pixels.
    """

    width: int = 768
    layers: int = 12
    registers: int = 0
    gated: bool = False
    image_size: int = 518
    patch_size: int = 14


@dataclass(frozen=True)
class DINOv2Features:
    """What the network sees.

    Attributes:
        class_feature: of the whole image, after the final norm.
        patch_features: one vector for each patch, after the final norm.
        keys: of the last block's attention, all heads side by side, one vector for each patch.
        intermediates: all tokens behind the blocks that were asked for, before the final norm.
    """

    class_feature: Float[Tensor, "B C"]
    patch_features: Float[Tensor, "B C h w"]
    keys: Float[Tensor, "B C h w"]
    intermediates: tuple[Float[Tensor, "B L C"], ...] = ()


class DINOv2(nn.Module):
    """The network of a :class:`DINOv2Config`, untrained.

    ``mask_token`` is part of every checkpoint and used in its training alone.
    """

    def __init__(self, config: DINOv2Config | None = None) -> None:
        super().__init__()
        config = config or DINOv2Config()
        self.config = config
        self.width = config.width
        self.patch_size = config.patch_size
        grid = config.image_size // config.patch_size
        self.patch_embedding = nn.Conv2d(
            3, config.width, config.patch_size, stride=config.patch_size
        )
        self.class_embedding = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, 1 + grid**2, config.width))
        self.registers = (
            nn.Parameter(0.02 * torch.randn(1, config.registers, config.width))
            if config.registers
            else None
        )
        self.blocks = nn.ModuleList(
            Block(config.width, gated=config.gated) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> DINOv2Features:
        """Features of normalised images whose sides are multiples of the patch.

        ``intermediates`` numbers blocks from 0.

        Raises:
            ValueError: a side is no multiple of the patch, or there is no such block.
        """
        grid = patch_grid(images, self.patch_size)
        check_intermediates(intermediates, len(self.blocks))
        tokens = self._embed(images, grid)
        wanted: dict[int, Tensor] = {}
        last = tokens
        for number, block in enumerate(self.blocks):
            last = tokens
            tokens = block(tokens)
            if number in intermediates:
                wanted[number] = tokens
        normed = self.norm(tokens)
        last_block = cast(Block, self.blocks[-1])
        keys = last_block.attention.keys(last_block.norm1(last))
        return DINOv2Features(
            class_feature=normed[:, 0],
            patch_features=self._as_map(normed, grid),
            keys=self._as_map(keys, grid),
            intermediates=tuple(wanted[number] for number in intermediates),
        )

    def positions(self, grid: tuple[int, int]) -> Float[Tensor, "1 L C"]:
        """The class token's position and those of a grid (height, width), row by row.

        As the authors resize them: bicubic without antialiasing, by the factor (n + 0.1) / N along
        each axis; for the models with registers, antialiased and to the size itself.
        """
        patches = self.position_embedding[:, 1:]
        side = math.isqrt(patches.shape[1])
        if grid == (side, side):
            return self.position_embedding
        square = rearrange(patches, "1 (h w) C -> 1 C h w", h=side)
        target: dict[str, Any] = {"size": grid, "antialias": True}
        if self.registers is None:
            target = {"scale_factor": tuple((length + GRID_OFFSET) / side for length in grid)}
        resized = F.interpolate(square, mode="bicubic", align_corners=False, **target)
        assert tuple(resized.shape[-2:]) == grid
        return torch.cat(
            [self.position_embedding[:, :1], rearrange(resized, "1 C h w -> 1 (h w) C")], dim=1
        )

    def _embed(
        self, images: Float[Tensor, "B 3 H W"], grid: tuple[int, int]
    ) -> Float[Tensor, "B L C"]:
        patches = rearrange(self.patch_embedding(images), "B C h w -> B (h w) C")
        class_token = self.class_embedding.expand(len(images), -1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + self.positions(grid)
        if self.registers is None:
            return tokens
        registers = self.registers.expand(len(images), -1, -1)
        return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)

    def _as_map(
        self, tokens: Float[Tensor, "B L C"], grid: tuple[int, int]
    ) -> Float[Tensor, "B C h w"]:
        first = 1 + self.config.registers
        return rearrange(tokens[:, first:], "B (h w) C -> B C h w", h=grid[0])


class Block(nn.Module):
    """Attention and a feed-forward network, each scaled by channel and added.

    Args:
        width: channels of a token.
        gated: SwiGLU in the place of an MLP.
    """

    def __init__(self, width: int, *, gated: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, width // CHANNELS_A_HEAD)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = SwiGLU(width) if gated else MLP(width, 4 * width)
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """The tokens behind the block."""
        tokens = tokens + self.scale1 * self.attention(self.norm1(tokens))
        return tokens + self.scale2 * self.mlp(self.norm2(tokens))


class SwiGLU(nn.Module):
    """A feed-forward network whose hidden channels are gated (Shazeer, 2020, eq. 6).

    Args:
        width: channels of a token; there are 8/3 as many hidden ones, a multiple of 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.expand = Linear(width, 2 * hidden)
        self.contract = Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """Each token transformed by itself."""
        gate, values = self.expand(tokens).chunk(2, dim=-1)
        return self.contract(F.silu(gate) * values)


VITS14 = DINOv2Config(width=384)
VITB14 = DINOv2Config()
VITL14 = DINOv2Config(width=1024, layers=24)
VITG14 = DINOv2Config(width=1536, layers=40, gated=True)
