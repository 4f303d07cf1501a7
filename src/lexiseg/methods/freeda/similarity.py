"""How well places fit texts: cosines with prototypes, squeezed, painted on pixels and regions.

Letters beyond the library's: P prototypes a text, R regions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Mixing = Literal["weighted", "geometric"]
Cosines = Callable[[Float[Tensor, "N D"]], Float[Tensor, "T N"]]


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
    def of(cls, numbers: Int64[Tensor, "H W"], features: Float[Tensor, "R D"]) -> "Regions":
        """From features, in which a vanished region has NaN."""
        vanished = features.isnan().any(dim=1)
        kept = torch.where(vanished[:, None], torch.zeros_like(features), features)
        return cls(numbers, F.normalize(kept, dim=1), vanished)


def prototype_cosines(
    directions: Float[Tensor, "N D"],
    prototypes: Float[Tensor, "T P D"],
    *,
    max_weight: float = 1.0,
    mixing: Mixing = "weighted",
) -> Float[Tensor, "T N"]:
    """Cosine of each place with each text; of several prototypes the largest and the mean count.

    Args:
        directions: features of length one.
        prototypes: of any length.
        max_weight: w, 0 to 1, in w x max + (1 - w) x mean.
        mixing: "geometric" is max^w x mean^(1 - w) instead, NaN where a cosine is negative.
    """
    flat = rearrange(F.normalize(prototypes, dim=-1), "T P D -> (T P) D")
    cosines = rearrange(flat @ directions.T, "(T P) N -> T P N", P=prototypes.shape[1])
    if prototypes.shape[1] == 1:
        return cosines[:, 0]
    largest = cosines.amax(dim=1)
    if mixing == "geometric":
        return largest**max_weight * cosines.mean(dim=1) ** (1 - max_weight)
    if max_weight == 1:
        return largest
    return max_weight * largest + (1 - max_weight) * cosines.mean(dim=1)


def local_scores(
    cosines: Cosines,
    patch_directions: Float[Tensor, "D h w"],
    size: tuple[int, int],
    regions: Regions | None,
    *,
    gain: float = 1.0,
    region_cosines: Cosines | None = None,
) -> Float[Tensor, "T H W"]:
    """Scores of pixels between 0 and 1: sigmoid of the cosine of their region, or of their place.

    Args:
        cosines: of directions with some texts.
        patch_directions: of length one.
        size: (height, width) of the view in pixels.
        regions: of the view; None where pixels stand for themselves.
        gain: factor of a cosine; published is none.
        region_cosines: another rule for directions of regions; None for the same.
    """
    if regions is None:
        return _pixel_scores(cosines, patch_directions, size, gain)
    of_regions = (gain * (region_cosines or cosines)(regions.directions)).sigmoid()
    painted = of_regions[:, regions.numbers]
    if not regions.vanished.any():
        return painted
    own = _pixel_scores(cosines, patch_directions, size, gain)
    return torch.where(regions.vanished[regions.numbers], own, painted)


def _pixel_scores(
    cosines: Cosines,
    patch_directions: Float[Tensor, "D h w"],
    size: tuple[int, int],
    gain: float,
) -> Float[Tensor, "T H W"]:
    on_grid = cosines(rearrange(patch_directions, "D h w -> (h w) D"))
    on_grid = rearrange(on_grid, "T (h w) -> 1 T h w", h=patch_directions.shape[1])
    scores = (gain * on_grid).sigmoid()  # squeezed first and resized then, as published
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=True)[0]
