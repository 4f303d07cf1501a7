"""SAM's prompt encoder: points, boxes and masks become tokens and one dense map.

Letters: B prompts of one image, P points, L tokens, D channels, F waves, h w cells of the image
embedding.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.blocks import LayerNorm2d

BACKGROUND, FOREGROUND = 0, 1  # labels of points, and rows of ``kinds``; 2 and 3 are box corners
NO_POINT = -1
MASK_STRIDE = 4  # a mask prompt and a low-resolution mask are so many times finer than the cells


class PromptEncoder(nn.Module):
    """Turns points, boxes and masks into tokens and one dense map (SAM, section 3).

    Args:
        dim: channels.
        mask_channels: of the mask's convolutions before the last.

    Attributes:
        frequencies: directions and lengths of the waves of the position code; a buffer that belongs
            to the weights.
    """

    frequencies: Float[Tensor, "2 F"]

    def __init__(self, dim: int = 256, *, mask_channels: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, dim // 2))
        self.kinds = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point = nn.Embedding(1, dim)
        self.no_mask = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )

    def forward(
        self,
        *,
        points: Float[Tensor, "B P 2"] | None = None,
        labels: Float[Tensor, "B P"] | None = None,
        boxes: Float[Tensor, "B 4"] | None = None,
        masks: Float[Tensor, "B 1 _ _"] | None = None,
        input_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B D h w"]]:
        """Sparse tokens (points, then box corners) and the dense prompt.

        Args:
            points: x and y in pixels of the image that SAM sees.
            labels: of the points: 1 on the object, 0 beside it, -1 no point at all.
            boxes: x0, y0, x1, y1 in the same pixels.
            masks: logits, four times as fine as ``grid``.
            input_size: of the image that SAM sees.
            grid: of the image embedding.

        Raises:
            ValueError: there is no prompt, or points and labels do not come together.
        """
        given = [part for part in (points, boxes, masks) if part is not None]
        if not given or (points is None) != (labels is None):
            raise ValueError("give points with labels, boxes, masks, or several of them")
        tokens = [self.no_mask.weight.new_zeros(len(given[0]), 0, self.no_mask.embedding_dim)]
        if points is not None and labels is not None:
            if boxes is None:  # as SAM was trained: a box's place is taken by a point that is none
                points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=NO_POINT)
            tokens.append(self.encode_points(points, labels, input_size))
        if boxes is not None:
            tokens.append(self.encode_boxes(boxes, input_size))
        dense = self.without_mask(grid) if masks is None else self.mask_downscaling(masks)
        return torch.cat(tokens, dim=1), dense.expand(len(given[0]), -1, -1, -1)

    def encode_points(
        self,
        points: Float[Tensor, "B P 2"],
        labels: Float[Tensor, "B P"],
        input_size: tuple[int, int],
    ) -> Float[Tensor, "B P D"]:
        """A token a point; the position of a point that is none is erased."""
        is_none = (labels == NO_POINT)[..., None]
        codes = torch.where(
            is_none, self.not_a_point.weight, self.encode_positions(points, input_size)
        )
        for label in (BACKGROUND, FOREGROUND):
            codes = codes + (labels == label)[..., None] * self._kind(label)
        return codes

    def encode_boxes(
        self, boxes: Float[Tensor, "B 4"], input_size: tuple[int, int]
    ) -> Float[Tensor, "B 2 D"]:
        """A token for each of the corners, upper left and lower right."""
        corners = self.encode_positions(
            rearrange(boxes, "B (corner xy) -> B corner xy", xy=2), input_size
        )
        return corners + torch.cat([self._kind(2), self._kind(3)])

    def encode_positions(
        self, points: Float[Tensor, "*B 2"], input_size: tuple[int, int]
    ) -> Float[Tensor, "*B D"]:
        """The position code of the centres of pixels x, y."""
        height, width = input_size
        extent = torch.tensor([width, height], dtype=points.dtype, device=points.device)
        return self._waves((points + 0.5) / extent)

    def dense_positions(self, grid: tuple[int, int]) -> Float[Tensor, "D h w"]:
        """The position code of every cell's centre."""
        height, width = grid
        y = (torch.arange(height).to(self.frequencies) + 0.5) / height
        x = (torch.arange(width).to(self.frequencies) + 0.5) / width
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return rearrange(self._waves(places), "h w D -> D h w")

    def without_mask(self, grid: tuple[int, int]) -> Float[Tensor, "1 D h w"]:
        """The dense prompt of no mask."""
        return repeat(self.no_mask.weight, "1 D -> 1 D h w", h=grid[0], w=grid[1])

    def _kind(self, index: int) -> Float[Tensor, "1 D"]:
        return cast(nn.Embedding, self.kinds[index]).weight

    def _waves(self, places: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B D"]:
        """Random Fourier features (Tancik et al., NeurIPS 2020) of places between 0 and 1."""
        phases = 2 * math.pi * ((2 * places - 1) @ self.frequencies)
        return torch.cat([phases.sin(), phases.cos()], dim=-1)
