"""How well places fit texts: cosines with prototypes, squeezed, painted on pixels and regions.

Letters beyond the library's: D channels of a place, P prototypes a text.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from lexiseg.methods.freeda.regions import Regions

Mixing = Literal["weighted", "geometric"]
NoneRule = Literal["only_dino", "after_ensemble"]


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
    directions: Float[Tensor, "D h w"],
    prototypes: Float[Tensor, "T P D"],
    size: tuple[int, int],
    regions: Regions | None,
    *,
    max_weight: float = 1.0,
    mixing: Mixing = "weighted",
    gain: float = 1.0,
) -> Float[Tensor, "T H W"]:
    """Scores of pixels between 0 and 1: sigmoid of the cosine of their region, or of their place.

    Args:
        directions: of places, of length one.
        prototypes: of some texts, of any length.
        size: (height, width) of the view in pixels.
        regions: of the view; None where pixels stand for themselves.
        max_weight: as for :func:`prototype_cosines`.
        mixing: of regions, likewise; pixels by themselves are "weighted", as published.
        gain: factor of a cosine; published is none.
    """
    if regions is None:
        return _pixel_scores(directions, prototypes, size, max_weight, gain)
    cosines = prototype_cosines(
        regions.directions, prototypes, max_weight=max_weight, mixing=mixing
    )
    painted = (gain * cosines).sigmoid()[:, regions.numbers]
    if not regions.vanished.any():
        return painted
    own = _pixel_scores(directions, prototypes, size, max_weight, gain)
    return torch.where(regions.vanished[regions.numbers], own, painted)


def _pixel_scores(
    directions: Float[Tensor, "D h w"],
    prototypes: Float[Tensor, "T P D"],
    size: tuple[int, int],
    max_weight: float,
    gain: float,
) -> Float[Tensor, "T H W"]:
    places = rearrange(directions, "D h w -> (h w) D")
    on_grid = prototype_cosines(places, prototypes, max_weight=max_weight)
    on_grid = rearrange(on_grid, "T (h w) -> 1 T h w", h=directions.shape[1])
    scores = (gain * on_grid).sigmoid()  # squeezed first and resized then, as published
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=True)[0]


def is_none_of_them(
    local: Float[Tensor, "T H W"],
    scores: Float[Tensor, "T H W"],
    background: float,
    rule: NoneRule,
) -> Bool[Tensor, "H W"]:
    """The pixels that are none of the texts, by one of the authors' two rules.

    Args:
        local: scores of places alone.
        scores: those with the view as a whole.
        background: the local score that a pixel must reach.
        rule: "only_dino" looks at the best local score, "after_ensemble" at the local score of the
            text that wins in the end.
    """
    if rule == "only_dino":
        return local.amax(dim=0) < background
    return local.gather(0, scores.argmax(dim=0, keepdim=True))[0] < background
