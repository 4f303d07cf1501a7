"""Masks as COCO writes them: run lengths and polygons, checked before any memory is taken.

A run-length code counts pixels down the columns, first those outside the mask, then those inside,
and so on in turn. COCO writes the counts as a list ("uncompressed") or packed into text. Polygons
are filled by the COCO API itself (pycocotools), so that a mask is the one that everybody scores
with. Run lengths are unpacked here: that is what checking them takes, and the API's own decoder
reads past the end of a damaged text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from pycocotools import mask as coco_api

from lexiseg.images import MAX_PIXELS

LARGEST_COORDINATE = 1_000_000.0
LONGEST_OUTLINE = 1_000_000.0  # pixels; the COCO API takes about 80 bytes for each
MOST_CHARACTERS = 7  # of one count in a text: 35 bits
_CORNER_NUMBERS = 6  # three corners


@dataclass(frozen=True, eq=False)
class RunLengths:
    """A mask as counts of pixels, which take less memory than the pixels.

    Attributes:
        size: (height, width) of the picture.
        runs: lengths down the columns, outside and inside in turn; their sum is all pixels.
    """

    size: tuple[int, int]
    runs: Int64[np.ndarray, " R"]

    def __post_init__(self) -> None:
        height, width = _check_size(self.size)
        if (self.runs < 0).any() or int(self.runs.sum()) != height * width:
            raise ValueError(
                f"run lengths from {int(self.runs.min(initial=0))} with the sum "
                f"{int(self.runs.sum())}; for {height} x {width} they are not negative and add up "
                f"to {height * width}"
            )

    @property
    def area(self) -> int:
        """The number of pixels inside."""
        return int(self.runs[1::2].sum())

    def mask(self) -> Bool[np.ndarray, "H W"]:
        """True inside."""
        inside = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(inside, self.runs).reshape(self.size, order="F")

    @classmethod
    def of_counts(cls, counts: str | bytes | Sequence[Any], size: tuple[int, int]) -> "RunLengths":
        """The run lengths in a COCO ``counts``, a packed text or a list of numbers.

        Raises:
            ValueError: the text is damaged, or the counts do not fill the picture exactly.
        """
        height, width = _check_size(size)
        if isinstance(counts, str | bytes):
            return cls(size, _unpack(counts, most=height * width + 1))
        numbers = _numbers(counts)
        if numbers is None or numbers.dtype.kind not in "iu":
            raise ValueError("counts is no list of whole numbers; run lengths are such a list")
        if numbers.max() > height * width:  # so that no sum can overflow
            raise ValueError(
                f"a run of {numbers.max()} pixels in a picture of {height} x {width}; counts is "
                "damaged, or of another picture"
            )
        return cls(size, numbers.astype(np.int64))

    @classmethod
    def of_polygons(cls, polygons: Sequence[Sequence[Any]], size: tuple[int, int]) -> "RunLengths":
        """The union of polygons, filled as the COCO API fills them.

        Args:
            polygons: each [x1, y1, x2, y2, ...] in pixels, (0, 0) being the outer corner of the
                first pixel. One of fewer than three corners encloses nothing and is left out.
            size: (height, width) of the picture.

        Raises:
            ValueError: no polygon has three corners, a coordinate is missing or no finite number,
                or an outline lies or runs absurdly far outside.
        """
        height, width = _check_size(size)
        outlines = [_outline(polygon) for polygon in polygons if len(polygon)]
        outlines = [outline for outline in outlines if len(outline) >= _CORNER_NUMBERS]
        if not outlines:
            raise ValueError(
                "no polygon has three corners; write each as [x1, y1, x2, y2, x3, y3, ...]"
            )
        packed = coco_api.frPyObjects([each.tolist() for each in outlines], height, width)
        return cls.of_counts(coco_api.merge(packed)["counts"], size)

    @classmethod
    def of_segmentation(cls, segmentation: Any, size: tuple[int, int]) -> "RunLengths":
        """What a COCO annotation calls its ``segmentation``: polygons, or counts with a size.

        Raises:
            ValueError: it is neither, or it is damaged, or made for a picture of another size.
        """
        if isinstance(segmentation, dict):
            counts = segmentation.get("counts")
            if not isinstance(counts, str | bytes | list):
                raise ValueError("its run lengths have no counts; give a text or a list")
            if segmentation.get("size") != list(size):
                raise ValueError(
                    f"its run lengths are for {segmentation.get('size')} (height, width), but the "
                    f"picture is {list(size)}"
                )
            return cls.of_counts(counts, size)
        if not isinstance(segmentation, list) or not segmentation:
            raise ValueError(
                "it has no segmentation, at most a box; a mask needs polygons or run lengths"
            )
        if not all(isinstance(polygon, list) for polygon in segmentation):
            raise ValueError(
                "its segmentation is no list of polygons; write [[x1, y1, x2, y2, ...], ...]"
            )
        return cls.of_polygons(segmentation, size)


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> str:
    """The packed ``counts`` of a mask, the inverse of :meth:`RunLengths.of_counts`."""
    packed = coco_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return packed["counts"].decode("ascii")


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(
            f"a mask of {height} x {width}; sides are at least 1, and there are at most "
            f"{MAX_PIXELS} pixels"
        )
    return height, width


def _unpack(text: str | bytes, *, most: int) -> Int64[np.ndarray, " R"]:
    """The counts in a packed text.

    Each character carries five bits of a signed number, the lowest first, and in a sixth bit
    whether more follow; from the fourth count on, the number is the difference to the count before
    the last one.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError("counts is damaged: it has characters that run lengths never use") from (
            error
        )
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63:
        raise ValueError("counts is damaged: it is empty or has characters run lengths never use")
    ends = np.flatnonzero(codes < 32)
    if len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise ValueError("counts is damaged: it ends within a number")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > MOST_CHARACTERS or len(ends) > most:
        raise ValueError("counts is damaged: its numbers are too long or too many")
    places = np.arange(len(codes)) - np.repeat(ends - lengths + 1, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * places), ends - lengths + 1)
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _outline(polygon: Sequence[Any]) -> np.ndarray:
    """The numbers of one polygon, such that the COCO API can be trusted with them."""
    numbers = _numbers(polygon)
    if numbers is None:
        raise ValueError("a polygon is no list of numbers; write it as [x1, y1, x2, y2, ...]")
    if len(numbers) % 2:
        raise ValueError(
            f"a polygon has {len(numbers)} numbers; it has an x and a y for each corner"
        )
    if not (np.abs(numbers) <= LARGEST_COORDINATE).all():
        raise ValueError(
            f"a polygon's coordinate is no number or beyond {LARGEST_COORDINATE:.0f} pixels"
        )
    corners = numbers.astype(np.float64).reshape(-1, 2)
    steps = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1, initial=0)
    if steps.sum() > LONGEST_OUTLINE:
        raise ValueError(
            f"a polygon's outline is longer than {LONGEST_OUTLINE:.0f} pixels; its coordinates are "
            "pixels of the picture"
        )
    return corners.ravel()


def _numbers(values: Sequence[Any]) -> np.ndarray | None:
    """A list of integers or floats as an array; None where it is something else, or has none."""
    try:
        numbers = np.asarray(values)
    except ValueError:  # lists of different lengths within it
        return None
    return numbers if numbers.ndim == 1 and numbers.size and numbers.dtype.kind in "iuf" else None
