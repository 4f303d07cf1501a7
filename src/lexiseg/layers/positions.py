"""Learned position embeddings, and their use at sizes they were not trained for."""

import math

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def patch_grid(
    images: Float[Tensor, "B 3 H W"], patch: int, *, called: str = "the patch, "
) -> tuple[int, int]:
    """Rows and columns of patches.

    Args:
        images: of any size.
        patch: side of a patch in pixels.
        called: what stands before that number in the message.

    Raises:
        ValueError: a side is no multiple of the patch.
    """
    height, width = images.shape[-2:]
    if height % patch or width % patch or not height or not width:
        padded = tuple(max(1, -(-side // patch)) * patch for side in (height, width))
        raise ValueError(
            f"images are {height} x {width} pixels, but both sides must be multiples of "
            f"{called}{patch}; resize or pad them to {padded[0]} x {padded[1]}"
        )
    return height // patch, width // patch


def resize_positions(
    positions: Float[Tensor, "N D"], grid: tuple[int, int]
) -> Float[Tensor, "M D"]:
    """The embeddings of a square grid, resized to ``grid`` (height, width) and row by row again.

    Bicubic, ``align_corners=False``, no antialiasing, as CAT-Seg and most others do; a grid of the
    trained size is returned untouched.

    Raises:
        ValueError: the embeddings do not form a square.
    """
    side = math.isqrt(len(positions))
    if side * side != len(positions):
        raise ValueError(
            f"{len(positions)} position embeddings are not a square grid; "
            "take the class token's row off first"
        )
    if grid == (side, side):
        return positions
    square = rearrange(positions, "(h w) D -> 1 D h w", h=side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return rearrange(resized, "1 D h w -> (h w) D")
