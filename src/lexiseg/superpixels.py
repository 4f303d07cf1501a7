"""Superpixels: computed, kept on disk, cropped with their photograph, and taken down to patches.

image ─ superpixels ─▶ H x W ids ─ crop_superpixels ─▶ training crop ─ patch_ids ─▶ one id a patch

They are those of Felzenszwalb and Huttenlocher (IJCV 2004) as scikit-image computes them; the
defaults are SegCLIP's (ICML 2023), for photographs whose shorter side is 224.
"""

import hashlib
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int64, UInt8, UInt16

from lexiseg.id_maps import read_ids, write_ids

LARGEST_ID = 65535
_VERSION = 1  # of the algorithm and of the files; another one leaves older files unread


def superpixels(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    scale: float = 224.0,
    sigma: float = 0.9,
    min_size: int = 224,
) -> UInt16[np.ndarray, "H W"]:
    """The superpixel of each pixel, numbered from 0.

    Args:
        image: RGB.
        scale: larger gives larger superpixels.
        sigma: width of the Gaussian that smooths the image first, in pixels.
        min_size: smaller superpixels are merged with a neighbour, in pixels.

    Raises:
        ValueError: a parameter is out of its range, or there are too many superpixels to number.
    """
    _check_parameters(scale, sigma, min_size)
    from skimage.segmentation import felzenszwalb  # takes a while to import

    ids = felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size)
    if ids.max() > LARGEST_ID:
        raise ValueError(
            f"the image of {ids.shape} has {ids.max() + 1} superpixels; at most {LARGEST_ID + 1} "
            f"can be numbered: raise scale ({scale}) or min_size ({min_size})"
        )
    return ids.astype(np.uint16)


class SuperpixelCache:
    """Superpixels that are computed once for the same pixels and parameters, then read from disk.

    FOLDER/ab/abcdef....npz, one file an image, of 3.0 kB on average at SegCLIP's setting: 4.5 MB
    of disk for 1,000 photographs in blocks of 4 kB. Nothing is ever removed: to free the disk,
    delete the folder. Any number of processes may share it; each file appears at once and whole,
    and one that is damaged is computed again.
    """

    def __init__(
        self, folder: str | Path, *, scale: float = 224.0, sigma: float = 0.9, min_size: int = 224
    ) -> None:
        """The parameters are those of ``superpixels``; ``folder`` is made when it is needed."""
        _check_parameters(scale, sigma, min_size)
        self.folder = Path(folder)
        self.scale, self.sigma, self.min_size = float(scale), float(sigma), int(min_size)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt16[np.ndarray, "H W"]:
        """The superpixels of an image, as ``superpixels`` gives them."""
        path = self.path(image)
        ids = read_ids(path, image.shape[:2])
        if ids is None:
            ids = superpixels(image, scale=self.scale, sigma=self.sigma, min_size=self.min_size)
            write_ids(path, ids)
        return ids

    def path(self, image: UInt8[np.ndarray, "H W 3"]) -> Path:
        """The file of an image, there or not."""
        digest = hashlib.sha256(f"{self.fingerprint()} {image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        name = digest.hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.npz"

    def fingerprint(self) -> str:
        """What decides the ids, apart from the image."""
        return f"felzenszwalb {_VERSION} {self.scale!r} {self.sigma!r} {self.min_size}"


def crop_superpixels(
    ids: UInt16[np.ndarray, "H W"],
    box: tuple[float, float, float, float],
    size: tuple[int, int],
) -> UInt16[np.ndarray, "h w"]:
    """The superpixels of a crop, as SegCLIP's training takes it.

    Args:
        ids: of the whole photograph.
        box: x0, y0, x1, y1 of the crop as parts of the photograph's width and height, 0 to 1. The
            crop reaches outwards to whole pixels; where it has fewer than two pixels in a
            direction, all of the photograph is taken.
        size: (height, width) to which it is resized, by the nearest pixel.

    Raises:
        ValueError: the box is no part of the photograph.
    """
    x0, y0, x1, y1 = map(float, box)
    if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
        raise ValueError(
            f"crop box {(x0, y0, x1, y1)}; it is x0, y0, x1, y1 with 0 <= x0 <= x1 <= 1 and "
            "0 <= y0 <= y1 <= 1, as parts of the photograph's width and height"
        )
    height, width = ids.shape
    left, right = math.floor(x0 * width), math.ceil(x1 * width)
    top, bottom = math.floor(y0 * height), math.ceil(y1 * height)
    if right - left >= 2 and bottom - top >= 2:
        ids = ids[top:bottom, left:right]
    # float32 holds every id exactly, and torch resizes no 16-bit integers.
    pixels = torch.from_numpy(ids.astype(np.float32))[None, None]
    return F.interpolate(pixels, size=size, mode="nearest")[0, 0].numpy().astype(np.uint16)


def patch_ids(
    ids: UInt16[np.ndarray, "H W"],
    grid: tuple[int, int],
    rule: Literal["majority", "published"] = "majority",
) -> Int64[np.ndarray, "h w"]:
    """One superpixel for each patch.

    Args:
        ids: of the pixels.
        grid: patches in a column and in a row; they divide the height and the width.
        rule: "majority", the superpixel with most of the patch's pixels, the lowest id among
            equals; or "published", the mean of the pixels' ids without its fraction: SegCLIP's
            rule, which gives a patch on a border the id of an unrelated superpixel.

    Raises:
        ValueError: the grid does not divide the map, or there is no such rule.
    """
    (height, width), (rows, columns) = ids.shape, grid
    if rows < 1 or columns < 1 or height % rows or width % columns:
        raise ValueError(
            f"superpixels of {(height, width)} with a grid of {grid}; the grid must divide them: "
            "resize them first (crop_superpixels)"
        )
    pixels = rearrange(ids, "(h p) (w q) -> (h w) (p q)", h=rows, w=columns)
    if rule == "published":
        return pixels.mean(axis=1).astype(np.int64).reshape(grid)
    if rule != "majority":
        raise ValueError(f"rule {rule!r}; the rules are 'majority' and 'published'")
    names, positions = np.unique(pixels, return_inverse=True)
    patches = np.arange(len(pixels))[:, None]
    cells = (patches * len(names) + positions.reshape(pixels.shape)).ravel()
    counts = np.bincount(cells, minlength=len(pixels) * len(names)).reshape(len(pixels), -1)
    return names[counts.argmax(axis=1)].astype(np.int64).reshape(grid)


def _check_parameters(scale: float, sigma: float, min_size: int) -> None:
    if not (0 < scale < math.inf and 0 <= sigma < math.inf and min_size >= 0):
        raise ValueError(
            f"superpixels with scale {scale}, sigma {sigma}, min_size {min_size}; scale is above "
            "0, sigma and min_size are 0 or above"
        )
