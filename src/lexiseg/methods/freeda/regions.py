"""Superpixels of a view, and one feature for each of them, pooled from the grid of patches.

Letters beyond the library's: R regions, N cells of the grid, h * w, row by row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8, UInt16
from torch import Tensor

from lexiseg.superpixels import SuperpixelCache, superpixels

Pooling = Literal["area", "published"]

PUBLISHED_EPSILON = 1.19e-7  # added to the sum of a mask, as published
MOST_WEIGHTS = 2**24  # bounds the memory of a block of masks on the grid: 64 MB


@dataclass(frozen=True)
class Superpixels:
    """How a view is cut into regions (Felzenszwalb and Huttenlocher, IJCV 2004).

    Attributes:
        scale: larger gives larger regions.
        sigma: of the Gaussian that smooths the view first, in pixels.
        min_size: of a region, in pixels.
        pooling: how a region's mask reaches the grid of patches. "area": each cell counts by the
            part of it that the region covers, so no region is lost. "published": the mask is
            sampled at the grid's points (bilinear, corners aligned), where about half of the
            regions vanish: they keep the scores of their pixels.
    """

    scale: float = 100.0
    sigma: float = 1.0
    min_size: int = 20
    pooling: str = "area"

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling {self.pooling!r}; choose 'area' or 'published'")

    def of(
        self, image: UInt8[np.ndarray, "H W 3"], *, cache: str | Path | None = None
    ) -> UInt16[np.ndarray, "H W"]:
        """The region of each pixel of an RGB image; kept in the folder ``cache`` where given."""
        scale, sigma, min_size = self.scale, self.sigma, self.min_size
        if cache is None:
            return superpixels(image, scale=scale, sigma=sigma, min_size=min_size)
        return SuperpixelCache(cache, scale=scale, sigma=sigma, min_size=min_size)(image)


@dataclass(frozen=True)
class Regions:
    """The regions of a view.

    Attributes:
        numbers: the region of each pixel, from 0.
        directions: their features, of length one; zeros for a region that vanished.
        vanished: regions without a feature, which keep the scores of their pixels.
    """

    numbers: Int64[Tensor, "H W"]
    directions: Float[Tensor, "R D"]
    vanished: Bool[Tensor, " R"]

    @classmethod
    def of_view(
        cls,
        view: Float[Tensor, "3 H W"],
        places: Float[Tensor, "D h w"],
        cut: Superpixels,
        *,
        cache: str | Path | None = None,
    ) -> "Regions":
        """Cut a view, RGB from 0 to 255, and pool the features of its places."""
        pixels = view.detach().round().clamp(0, 255).byte().cpu()
        image = rearrange(pixels, "C H W -> H W C").contiguous().numpy()
        ids = cut.of(image, cache=cache).astype(np.int64)
        numbers = torch.from_numpy(ids).to(places.device)
        features = region_features(places, numbers, cut.pooling)
        vanished = features.isnan().any(dim=1)
        kept = torch.where(vanished[:, None], torch.zeros_like(features), features)
        return cls(numbers, F.normalize(kept, dim=1), vanished)


def region_features(
    patch_features: Float[Tensor, "D h w"],
    regions: Int64[Tensor, "H W"],
    pooling: str = "area",
) -> Float[Tensor, "R D"]:
    """The mean feature of each region; NaN for one whose mask vanishes on the grid.

    Args:
        patch_features: as they are, not normalised.
        regions: number of each pixel, from 0.
        pooling: explained at :class:`Superpixels`.
    """
    grid = (patch_features.shape[1], patch_features.shape[2])
    cells = rearrange(patch_features, "D h w -> (h w) D")
    epsilon = PUBLISHED_EPSILON if pooling == "published" else 0.0
    pooled = []
    for masks in grid_masks(regions, grid, pooling):
        masks = masks.to(cells)
        mass = masks.sum(dim=1, keepdim=True)
        # mass + epsilon, and 0 / 0 where nothing of the mask is left
        pooled.append(masks @ cells / torch.where(mass > 0, mass + epsilon, mass))
    return torch.cat(pooled)


def grid_masks(
    regions: Int64[Tensor, "H W"], grid: tuple[int, int], pooling: str
) -> Iterator[Float[Tensor, "R N"]]:
    """Every region's mask on the grid, some regions at a time: no region has a mask of pixels.

    Both rules are separable, so a cell takes a few rows and a few columns of pixels by weight, and
    the weight of each such pixel is added to its region.
    """
    along = _shares if pooling == "area" else _samples
    rows, ys, row_weights = along(regions.shape[0], grid[0])
    columns, xs, column_weights = along(regions.shape[1], grid[1])
    places = regions[ys.to(regions.device)][:, xs.to(regions.device)].flatten()
    cells = (rows[:, None] * grid[1] + columns).flatten().to(places.device)
    weights = (row_weights[:, None] * column_weights).flatten().to(places.device)
    count, size = int(regions.max()) + 1, grid[0] * grid[1]
    step = max(1, MOST_WEIGHTS // size)
    for first in range(0, count, step):
        held = min(step, count - first)
        of_block, of_cells, values = places - first, cells, weights
        if held < count:
            inside = (of_block >= 0) & (of_block < held)
            of_block, of_cells, values = of_block[inside], cells[inside], weights[inside]
        masks = weights.new_zeros(held * size)
        masks.index_add_(0, of_block * size + of_cells, values)
        yield masks.view(held, size)


Axis = tuple[Int64[Tensor, " S"], Int64[Tensor, " S"], Float[Tensor, " S"]]


def _samples(length: int, cells: int) -> Axis:
    """Cell, pixel and weight of bilinear sampling with aligned corners, in float32 as published."""
    step = torch.tensor((length - 1) / (cells - 1) if cells > 1 else 0.0, dtype=torch.float32)
    position = torch.arange(cells, dtype=torch.float32) * step
    before = position.long().clamp(max=length - 1)
    after = (before + 1).clamp(max=length - 1)
    part = (position - before).clamp(0, 1)
    cell = torch.arange(cells)
    return cell.repeat(2), torch.cat([before, after]), torch.cat([1 - part, part])


def _shares(length: int, cells: int) -> Axis:
    """Cell, pixel and the part of the cell that the pixel covers."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (length / cells)
    first, last = edges[:-1, None], edges[1:, None]
    # A cell covers the pixels from its first edge on; so many of them at most.
    pixel = first.floor() + torch.arange(int(-(-length // cells)) + 1, dtype=torch.float64)
    overlap = (torch.minimum(pixel + 1, last) - torch.maximum(pixel, first)).clamp(min=0)
    there = (overlap > 1e-9) & (pixel < length)
    share = overlap * (cells / length)
    cell = torch.arange(cells)[:, None].expand_as(pixel)
    return cell[there], pixel[there].long(), share[there].float()
