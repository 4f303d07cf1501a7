"""From regions and texts to a map for each text.

Letters: B images, T texts, G groups, D channels of the joint space, h w patches, H W pixels.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from lexiseg.methods.segclip.tower import RegionFeatures

MOST_TEXTS = 5  # of a window, published


def soft_logits(
    seen: RegionFeatures, texts: Float[Tensor, "T D"], scale: Tensor
) -> Float[Tensor, "B T h w"]:
    """A patch's likeness to each text: that of its regions, by their shares in it.

    Args:
        seen: of some images.
        texts: of length one.
        scale: factor of the cosines.
    """
    maps = torch.einsum("bgn,bgt->btn", seen.groups.soft, region_likeness(seen, texts, scale))
    return rearrange(maps, "B T (h w) -> B T h w", h=seen.grid[0])


def published_logits(
    seen: RegionFeatures,
    texts: Float[Tensor, "T D"],
    scale: Tensor,
    size: tuple[int, int],
    background: float | None = None,
) -> Float[Tensor, "B _ H W"]:
    """The authors' scores of the pixels of a window, which they average as logits.

    Args:
        seen: of some windows.
        texts: of length one.
        scale: factor of the cosines.
        size: (height, width) of the windows in pixels.
        background: the score below which a pixel's best text is not good enough; what follows is
            one more map, the last, 1 at such a pixel and 0 elsewhere. The bar is never higher than
            the best score of a region, which so stays with its text. None: no such map.
    """
    groups = pixel_groups(seen, size)
    scores = region_scores(seen, texts, scale)
    rows = torch.arange(len(scores), device=scores.device)[:, None, None]
    maps = rearrange(scores[rows, groups], "B H W T -> B T H W")
    if background is None:
        return maps
    is_none = maps.amax(dim=1) < thresholds(scores, background)[:, None, None]
    return torch.cat([maps, is_none[:, None].to(maps)], dim=1)


def thresholds(scores: Float[Tensor, "B G T"], background: float) -> Float[Tensor, " B"]:
    """The score that a pixel's best text must reach in each window."""
    return scores.amax(dim=(1, 2)).clamp(max=background)


def pixel_groups(seen: RegionFeatures, size: tuple[int, int]) -> Int[Tensor, "B H W"]:
    """The group of each pixel: the largest share, after shares are resized."""
    shares = rearrange(seen.groups.soft, "B G (h w) -> B G h w", h=seen.grid[0])
    return F.interpolate(shares, size=size, mode="bilinear", align_corners=False).argmax(dim=1)


def region_scores(
    seen: RegionFeatures, texts: Float[Tensor, "T D"], scale: Tensor
) -> Float[Tensor, "B G T"]:
    """The product of two probabilities: of a text among all, and among those that fit the image.

    These are the five with the largest cosine to the image's own feature.
    """
    likeness = region_likeness(seen, texts, scale)
    fitting = F.normalize(seen.image, dim=-1) @ texts.T
    best = fitting.topk(min(MOST_TEXTS, len(texts)), dim=1).indices
    left_out = torch.ones_like(fitting, dtype=torch.bool).scatter(1, best, value=False)
    few = likeness.masked_fill(left_out[:, None], -torch.inf)
    return likeness.softmax(dim=-1) * few.softmax(dim=-1)


def region_likeness(
    seen: RegionFeatures, texts: Float[Tensor, "T D"], scale: Tensor
) -> Float[Tensor, "B G T"]:
    """Scaled cosines of regions and texts."""
    return scale * F.normalize(seen.regions, dim=-1) @ texts.T
