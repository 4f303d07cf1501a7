"""CLIP's image tower with the group module between its blocks.

Letters: B images, H W pixels, h w patches, N patches in a row, G groups, C channels of the tower,
D channels of the joint space.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lexiseg.encoders.clip_vit import VisionTransformer
from lexiseg.layers.positions import patch_grid
from lexiseg.methods.segclip.grouping import GroupingModule, Groups


@dataclass(frozen=True)
class RegionFeatures:
    """What the image tower sees; nothing of it is normalised.

    Attributes:
        image: one vector for the whole image, in the joint space.
        regions: one vector for each group, in the joint space.
        groups: which patches they are of.
        grid: rows and columns of the patches.
    """

    image: Float[Tensor, "B D"]
    regions: Float[Tensor, "B G D"]
    groups: Groups
    grid: tuple[int, int]


class GroupingTower(VisionTransformer):
    """The first blocks see patches, the last ones see regions; there is no class token.

    Args:
        place: number of blocks before the group module; published are 10 of 12.
        groups: number of centres.
        cross_layers: of the group module.
        heads: of each attention.
        tower: the other arguments of ``VisionTransformer``.
    """

    def __init__(
        self, *, place: int, groups: int, cross_layers: int, heads: int, **tower: Any
    ) -> None:
        super().__init__(heads=heads, **tower)
        if not 0 <= place < len(self.blocks):
            raise ValueError(
                f"the group module came at {place}; it stands before one of the "
                f"{len(self.blocks)} blocks: give 0 to {len(self.blocks) - 1}"
            )
        self.place = place
        width = len(self.class_embedding)
        self.grouping = GroupingModule(groups=groups, dim=width, heads=heads, layers=cross_layers)

    def embed(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B N C"], tuple[int, int]]:
        """Patches as they enter the blocks, and their rows and columns.

        Raises:
            ValueError: a side is no multiple of the patch.
        """
        grid = patch_grid(images, self.patch_size)
        return self._embed(images, grid)[:, 1:], grid

    def patches(
        self, embedded: Float[Tensor, "B N C"], kept: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B _ C"]:
        """Patches as they enter the group module; only the ``kept`` ones where they are named."""
        if kept is not None:
            rows = torch.arange(len(embedded), device=embedded.device)[:, None]
            embedded = embedded[rows, kept]
        for block in self.blocks[: self.place]:
            embedded = block(embedded)
        return embedded

    def join(self, groups: Groups) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B G D"]]:
        """Image and regions in the joint space; the image is the largest value of each channel."""
        tokens = groups.regions
        for block in self.blocks[self.place :]:
            tokens = block(tokens)
        tokens = torch.cat([tokens.amax(dim=1, keepdim=True), tokens], dim=1)
        features = self.norm_post(tokens) @ self.projection
        return features[:, 0], features[:, 1:]

    def look(
        self,
        images: Float[Tensor, "B 3 H W"],
        *,
        noise: Float[Tensor, "B G N"] | None = None,
        mix_batch: bool = False,
    ) -> RegionFeatures:
        """All of it; ``noise`` and ``mix_batch`` go to the group module."""
        embedded, grid = self.embed(images)
        groups = self.grouping(self.patches(embedded), noise=noise, mix_batch=mix_batch)
        image, regions = self.join(groups)
        return RegionFeatures(image, regions, groups, grid)
