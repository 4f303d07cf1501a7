"""Results as the page shows them: at a bounded size, and with what users typed escaped."""

import html
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt, UInt8
from PIL import Image

from lexiseg import plot
from lexiseg.referral import Referral
from lexiseg.result import Segmentation, none_index

LONGEST = 1024  # pixels of a side that the page shows


@dataclass(frozen=True)
class Shown:
    """What the page keeps of a result, at the size in which it is shown.

    Attributes:
        names: labels or expressions.
        label_map: position in ``names`` of each pixel, and beyond them where there is none.
        confidence: the winner's score at each pixel, 0 to 1.
    """

    names: tuple[str, ...]
    label_map: UInt[np.ndarray, "H W"]
    confidence: Float[np.ndarray, "H W"]

    def at(self, x: int, y: int) -> str:
        """What is at a pixel of the shown picture, in words."""
        height, width = self.label_map.shape
        if not (0 <= x < width and 0 <= y < height):
            return ""
        index = int(self.label_map[y, x])
        if index >= len(self.names):
            return f"({x}, {y}): none of them"
        return f"({x}, {y}): {self.names[index]}, confidence {self.confidence[y, x]:.2f}"


def told(error: Exception) -> str:
    """An error for the page, as text."""
    text = str(error) or "there was no result in time; try a smaller photo or fewer words"
    return f'<p role="alert">{html.escape(text)}</p>'


def legend(model: str, result: Segmentation | Referral) -> str:
    """A list of colours, names and shares, the largest first."""
    names = result.labels if isinstance(result, Segmentation) else result.expressions
    scores = "confidence" if isinstance(result, Segmentation) else "score"
    palette = plot.colours(len(names))
    rows = sorted(enumerate(result.table()), key=lambda row: -row[1]["share"])
    lines = "".join(
        f'<li><span class="colour" style="background:rgb{plot.as_colour(palette[index])}"></span>'
        f"{html.escape(names[index])} {row['share']:.1%} ({scores} {row[scores]:.2f})</li>"
        for index, row in rows
    )
    return f"<p>{html.escape(model)}</p><ul>{lines}</ul>"


def tinted(result: Segmentation | Referral) -> Image.Image:
    """The picture with its masks, at the size in which it is shown."""
    if isinstance(result, Segmentation):
        names, label_map = result.labels, result.label_map
    else:
        names, label_map = result.expressions, _merged(result)
    palette = plot.colours(len(names))
    assert result.image is not None
    return shrunk(Image.fromarray(plot.overlay(result.image, label_map, palette)))


def shown(result: Segmentation | Referral) -> Shown:
    """What the page keeps of a result."""
    if isinstance(result, Segmentation):
        names, label_map, confidence = result.labels, result.label_map, result.confidence
    else:
        names, label_map = result.expressions, _merged(result)
        confidence = np.full(label_map.shape, result.scores[0], dtype=np.float32)
    rows, columns = (
        np.arange(kept) * side // kept
        for side, kept in zip(label_map.shape, _size(label_map), strict=True)
    )
    here = np.ix_(rows, columns)
    return Shown(names, label_map[here], confidence[here].astype(np.float16))


def _merged(result: Referral) -> UInt8[np.ndarray, "H W"]:
    """The masks in one map, the first on top."""
    merged = np.full(result.masks.shape[1:], none_index(len(result.masks)), dtype=np.uint8)
    for index in reversed(range(len(result.masks))):
        merged[result.masks[index]] = index
    return merged


def _size(array: np.ndarray) -> tuple[int, int]:
    """Height and width in which an array of this size is shown."""
    scale = min(1.0, LONGEST / max(array.shape[:2]))
    return max(1, round(array.shape[0] * scale)), max(1, round(array.shape[1] * scale))


def shrunk(picture: Image.Image) -> Image.Image:
    """The picture at the size in which it is shown."""
    scale = min(1.0, LONGEST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size)
