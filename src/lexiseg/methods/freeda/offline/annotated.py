"""Prototypes from one's own pictures: a mask, or a box or a click that becomes one.

picture ─ BankEncoder.image_features ─┐
mask, box or click ─ mask ─────────── pool_mask ─▶ prototype;   its name ─ word_key ─▶ key
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8, UInt16

from lexiseg.methods.freeda.bank import PrototypeBank, Record, append
from lexiseg.methods.freeda.offline.attribution import pool_mask
from lexiseg.methods.freeda.offline.encoding import BankEncoder
from lexiseg.methods.freeda.regions import Superpixels

# Measured on 312 masks of photographs: IoU of a box 0.61, of the superpixels in it 0.69; nine
# tenths of the superpixel under a click are the thing that was clicked.
PIECES = Superpixels(scale=100.0, sigma=1.0, min_size=100)
LEAST_INSIDE = 0.7  # part of a superpixel that lies in the box


@dataclass(frozen=True, eq=False)
class Region:
    """A thing in a picture.

    Attributes:
        names: what it is called; each becomes a row.
        mask: its pixels.
    """

    names: tuple[str, ...]
    mask: Bool[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the things in it that are named.

    Attributes:
        image: RGB.
        regions: the things.
        source: what records call it, such as its file.
    """

    image: UInt8[np.ndarray, "H W 3"]
    regions: tuple[Region, ...]
    source: str


def mask_of_box(
    pieces: UInt16[np.ndarray, "H W"], box: tuple[float, float, float, float]
) -> Bool[np.ndarray, "H W"]:
    """The part of a box that the superpixels inside cover; all of it where there are none.

    Args:
        pieces: the superpixels of the picture.
        box: x0, y0, x1, y1 in pixels; what lies outside of the picture does not count.

    Raises:
        ValueError: the box has no pixel of the picture.
    """
    height, width = pieces.shape
    x0, y0 = (max(0, int(np.floor(value))) for value in box[:2])
    x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"the box {tuple(box)} has no pixel of a picture of {height} x {width} (height x "
            "width); a box is x0, y0, x1, y1 in pixels, the corner at the right below behind the "
            "other"
        )
    inside = np.zeros(pieces.shape, dtype=bool)
    inside[y0:y1, x0:x1] = True
    sizes = np.bincount(pieces.ravel())
    parts = np.bincount(pieces[inside], minlength=len(sizes)) / np.maximum(sizes, 1)
    mask = (parts >= LEAST_INSIDE)[pieces] & inside
    return mask if mask.any() else inside


def mask_of_click(
    pieces: UInt16[np.ndarray, "H W"], click: tuple[float, float]
) -> Bool[np.ndarray, "H W"]:
    """The superpixel under a click at (x, y), in pixels.

    Raises:
        ValueError: the click lies outside of the picture.
    """
    height, width = pieces.shape
    x, y = (int(np.floor(value)) for value in click)
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"the click at x {click[0]}, y {click[1]} lies outside of a picture of {height} x "
            f"{width} (height x width)"
        )
    return pieces == pieces[y, x]


def add_pictures(path: str | Path, pictures: Iterable[Picture], encoder: BankEncoder) -> int:
    """Add the things of pictures to a bank, or begin one; all of them, or none.

    Returns:
        How many rows were added.

    Raises:
        ValueError: there is nothing to add, a name is none, or the bank was made by other encoders.
    """
    rows = [row for picture in pictures for row in _rows(picture, encoder)]
    if not rows:
        raise ValueError(f"the pictures hold nothing to add to {path}; name at least one thing")
    keys, prototypes, records = zip(*rows, strict=True)
    append(path, torch.stack(keys), torch.stack(prototypes), records, encoder.kind)
    return len(rows)


def open_for(path: str | Path, encoder: BankEncoder) -> PrototypeBank:
    """A bank that the encoder can add to.

    Raises:
        ValueError: there is none, or other encoders made it.
    """
    bank = PrototypeBank.open(path)
    if bank.kind != encoder.kind:
        raise ValueError(
            f"the bank at {path} was made by {bank.kind.text_encoder} and "
            f"{bank.kind.image_encoder}, but {encoder.kind.text_encoder} and "
            f"{encoder.kind.image_encoder} came; give the encoders that it was made by"
        )
    return bank


def _rows(
    picture: Picture, encoder: BankEncoder
) -> Iterator[tuple[torch.Tensor, torch.Tensor, Record]]:
    features = encoder.image_features(picture.image)
    for region in picture.regions:
        prototype, covered = pool_mask(features, torch.from_numpy(region.mask))
        if covered == 0:
            raise ValueError(
                f"{picture.source}: the mask of {region.names[0]!r} is empty; give one with pixels"
            )
        for name in region.names:
            yield encoder.word_key(name), prototype, Record(name, source=picture.source)
