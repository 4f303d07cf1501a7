"""Results as the page shows them: at a bounded size, and with what users typed escaped."""

import base64
import html
import json
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt, UInt8
from PIL import Image

from lexiseg import plot
from lexiseg.palette import as_colour, colours
from lexiseg.referral import Referral
from lexiseg.result import Segmentation, none_index

LONGEST = 1024  # pixels of a side that the page shows
_MAP_LONGEST = 640  # and of the map by which it tells what is under the pointer


@dataclass(frozen=True)
class Shown:
    """What the page knows of a result at each place, for ``pointer.js``.

    Attributes:
        names: labels or expressions.
        label_map: position in ``names`` of each pixel, and beyond them where there is none.
        confidence: the winner's score at each pixel, 0 to 1.
        size: (height, width) of the picture, in whose pixels places are told.
    """

    names: tuple[str, ...]
    label_map: UInt[np.ndarray, "H W"]
    confidence: Float[np.ndarray, "H W"]
    size: tuple[int, int]

    def packed(self) -> str:
        """JSON; the values are low bytes of labels, high bytes, and hundredths of confidence."""
        rows, columns = self.label_map.shape
        hundredths = np.rint(100 * np.clip(self.confidence, 0, 1)).astype(np.uint8)
        planes = (self.label_map.astype("<u2") & 255, self.label_map.astype("<u2") >> 8, hundredths)
        raw = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
        values = base64.b64encode(zlib.compress(raw)).decode("ascii")
        height, width = self.size
        record = {"names": self.names, "rows": rows, "columns": columns, "values": values}
        return json.dumps({**record, "height": height, "width": width})


def told(error: Exception) -> str:
    """An error for the page, as text."""
    text = str(error) or "there was no result in time; try a smaller photo or fewer words"
    return f'<p role="alert">{html.escape(text)}</p>'


def legend(title: str, result: Segmentation | Referral, *, place: str = "result") -> str:
    """A list of colours, names and shares, the largest first, and the map of what is where.

    Args:
        title: the model, and what there is to say of it.
        result: what it made.
        place: the element of the page that shows its mask.
    """
    names = result.labels if isinstance(result, Segmentation) else result.expressions
    scores = "confidence" if isinstance(result, Segmentation) else "score"
    palette = colours(len(names))
    rows = sorted(enumerate(result.table()), key=lambda row: -row[1]["share"])
    lines = "".join(
        f'<li><span class="colour" style="background:rgb{as_colour(palette[index])}"></span>'
        f"{html.escape(names[index])} {row['share']:.1%} ({scores} {row[scores]:.2f})</li>"
        for index, row in rows
    )
    packed = html.escape(shown(result).packed())
    kept = f'<span hidden data-map-of="{html.escape(place)}" data-map="{packed}"></span>'
    return f"<p>{html.escape(title)}</p><ul>{lines}</ul>{kept}"


def tinted(result: Segmentation | Referral) -> Image.Image:
    """The picture with its masks, at the size in which it is shown."""
    if isinstance(result, Segmentation):
        names, label_map = result.labels, result.label_map
    else:
        names, label_map = result.expressions, _merged(result)
    palette = colours(len(names))
    assert result.image is not None
    return shrunk(Image.fromarray(plot.overlay(result.image, label_map, palette)))


def shown(result: Segmentation | Referral) -> Shown:
    """What the page knows of a result at each place, at a bounded size."""
    if isinstance(result, Segmentation):
        names, label_map, confidence = result.labels, result.label_map, result.confidence
    else:
        names, label_map = result.expressions, _merged(result)
        confidence = np.full(label_map.shape, result.scores[0], dtype=np.float32)
    height, width = label_map.shape
    scale = min(1.0, _MAP_LONGEST / max(height, width))
    kept = (max(1, round(height * scale)), max(1, round(width * scale)))
    here = np.ix_(
        *(np.arange(n) * side // n for n, side in zip(kept, (height, width), strict=True))
    )
    return Shown(names, label_map[here], confidence[here], (height, width))


def _merged(result: Referral) -> UInt8[np.ndarray, "H W"]:
    """The masks in one map, the first on top."""
    merged = np.full(result.masks.shape[1:], none_index(len(result.masks)), dtype=np.uint8)
    for index in reversed(range(len(result.masks))):
        merged[result.masks[index]] = index
    return merged


def shrunk(picture: Image.Image) -> Image.Image:
    """The picture at the size in which it is shown."""
    scale = min(1.0, LONGEST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size)
