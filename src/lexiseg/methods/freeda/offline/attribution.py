"""DAAM: the pixels of a generated image that a word of its caption caused (Tang et al., ACL 2023).

cross-attention of each step, layer, head ─ AttentionSums ─▶ one map a token ─ word_map ─▶ one map
                              expand ─▶ image size, 0 to 1 ─ threshold ─▶ mask ─ pool ─▶ prototype

Letters: L tokens, N pixels of a layer, h w the latent grid, H W the image, D channels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from lexiseg.methods.freeda.regions import PUBLISHED_EPSILON, Pooling, grid_masks

SKIPPED_FACTOR = 8  # DAAM leaves out maps an eighth of the latent's side: too coarse to localise
WORD_END = "</w>"  # what CLIP's tokenizer writes behind the last piece of a word
_EXPANSION_EPSILON = 1e-8  # of DAAM's expansion


def latent_pixels(image_side: int) -> int:
    """Pixels of the latent that DAAM counts with, by the side that the diffusion model is made for.

    64 x 64 for models of 512 and 1,024 pixels, else 96 x 96, as DAAM has it.
    """
    return 64 * 64 if image_side in (512, 1024) else 96 * 96


def conditional_half(probabilities: Float[Tensor, "B N L"]) -> Float[Tensor, "C N L"]:
    """What the caption caused, of a batch whose first half is the unconditional guidance."""
    return probabilities[len(probabilities) // 2 :]


class AttentionSums:
    """Cross-attention probabilities, summed over the steps of one image.

    Args:
        pixels: of the latent; its square root is the side of the maps that come out.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._sums: dict[tuple[int, int], Float[Tensor, "A N L"]] = {}

    def add(self, layer: int, probabilities: Float[Tensor, "A N L"]) -> None:
        """Count one layer's probabilities at one step; each head has a sum of its own.

        Args:
            layer: its number; any, but the same at every step.
            probabilities: of the conditional half, heads first.

        Raises:
            ValueError: the layer's pixels are no square.
        """
        count = probabilities.shape[1]
        if math.isqrt(count) ** 2 != count:
            raise ValueError(
                f"a layer with {count} pixels came; maps are read of square images only: generate "
                "images whose height and width are equal"
            )
        factor = int(math.sqrt(self.pixels // count))
        if factor == SKIPPED_FACTOR:
            return
        key, values = (factor, layer), probabilities.float()
        self._sums[key] = self._sums[key] + values if key in self._sums else values

    def token_maps(self, tokens: int) -> Float[Tensor, "L h w"]:
        """The mean over factors, layers and heads, one map a token: DAAM's global heat map.

        Args:
            tokens: of the caption, without start and end; their two rows are kept too, the start
                first. A caption that was cut has no more rows than the text tower has positions.

        Raises:
            ValueError: nothing was counted.
        """
        if not self._sums:
            raise ValueError(
                "no cross-attention was recorded; the model needs cross-attention layers that are "
                f"not all {SKIPPED_FACTOR} times smaller than the latent"
            )
        side = math.isqrt(self.pixels)
        total, heads = torch.zeros(()), 0
        for probabilities in self._sums.values():
            rows = math.isqrt(probabilities.shape[1])
            counted = probabilities[:, :, : tokens + 2]
            maps = rearrange(counted, "a (h w) l -> a l h w", h=rows)
            # Bicubic interpolation falls below 0 beside an edge.
            maps = F.interpolate(maps, size=(side, side), mode="bicubic").clamp(min=0)
            total = total.to(maps.device) + maps.sum(dim=0)
            heads += len(maps)
        return total / heads


def word_positions(
    tokens: Sequence[str], word: Sequence[str], *, whole_words: bool = False
) -> list[int]:
    """Rows of the token maps that belong to a word: all its pieces at all its occurrences.

    Args:
        tokens: of the lower-cased caption, without start and end, marked at a word's end.
        word: the tokens of the lower-cased word.
        whole_words: False lets a word match inside a longer one, as DAAM does, which compares
            tokens without their marks; True does not.

    Raises:
        ValueError: the word is not in the caption.
    """
    marked = list(tokens)
    bare, sought = [_bare(token) for token in marked], [_bare(token) for token in word]
    found = []
    for start in range(len(bare) - len(sought) + 1):
        stop = start + len(sought)
        begins = start == 0 or marked[start - 1].endswith(WORD_END)
        is_whole = begins and marked[stop - 1].endswith(WORD_END)
        if sought and bare[start:stop] == sought and (is_whole or not whole_words):
            found += [index + 1 for index in range(start, stop)]  # row 0 is the start
    if not found:
        raise ValueError(
            f"the word {''.join(sought)!r} is not in the caption {' '.join(bare)!r}; give a word "
            "of the caption, in the form in which it stands there"
        )
    return found


def word_map(maps: Float[Tensor, "L h w"], positions: Sequence[int]) -> Float[Tensor, "h w"]:
    """The mean of a word's token maps.

    Raises:
        ValueError: the caption was cut before the word ended.
    """
    if not positions or max(positions) >= len(maps):
        raise ValueError(
            f"positions {list(positions)} came with {len(maps)} token maps; the word must lie in "
            "the part of the caption that the text tower reads"
        )
    return maps[list(positions)].mean(dim=0)


def expand(heat: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """A word's map at the image's ``size`` (height, width), its lowest pixel 0, its highest 1."""
    large = F.interpolate(heat[None, None], size=size, mode="bicubic")[0, 0]
    low, high = large.min(), large.max()
    return (large - low) / (high - low + _EXPANSION_EPSILON)


def attribution_mask(expanded: Float[Tensor, "H W"], threshold: float) -> Bool[Tensor, "H W"]:
    """The pixels that answer for a word: above a threshold from 0 to 1."""
    return expanded > threshold


def pool_mask(
    features: Float[Tensor, "D h w"], mask: Bool[Tensor, "H W"], pooling: Pooling = "area"
) -> tuple[Float[Tensor, " D"], float]:
    """The mean feature under a mask, and how many patches it covers.

    Args:
        features: of a grid over the whole image, not normalised.
        mask: of the image.
        pooling: how the mask reaches the grid, explained at ``Superpixels``. The online stage pools
            regions by "published", which may find a small mask nowhere: its mean is zero then.
    """
    if not mask.any():
        return torch.zeros_like(features[:, 0, 0]), 0.0
    grid = (features.shape[1], features.shape[2])
    weights = next(grid_masks(mask.long(), grid, pooling))[-1].to(features)
    covered = weights.sum()
    pooled = rearrange(features, "d h w -> d (h w)") @ weights
    return pooled / (covered + PUBLISHED_EPSILON), float(covered)


def _bare(token: str) -> str:
    return token.removesuffix(WORD_END)
