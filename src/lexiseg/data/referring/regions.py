"""Regions of an annotated photograph: where they lie, how large they are, and their colours.

A region is a connected part of a class's pixels, neighbours over corners included. One region may
show several things that touch, and one thing that is partly hidden may show in two regions: masks
of classes do not tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from lexiseg._extras import need
from lexiseg.data.colours import to_hsv

SMALLEST = 0.005  # share of the photograph that a region has at least
SPECK = 0.0005  # smaller parts are noise of the annotation


@dataclass(frozen=True, eq=False)
class Region:
    """One connected part of a class.

    Attributes:
        name: of its class.
        mask: True inside.
        share: of the photograph, 0 to 1.
        box: x1, y1, x2, y2 as parts of width and height.
        centre: mean x and y of its pixels, likewise.
        colours: of each word of ``COLOURS``, the share of its pixels that are plainly of it.
    """

    name: str
    mask: Bool[np.ndarray, "H W"] = field(repr=False)
    share: float
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    colours: Mapping[str, float] = field(repr=False)


@dataclass(frozen=True)
class Colour:
    """Pixels that everybody calls by one word.

    Attributes:
        hue: range in steps of two degrees, the upper end excluded; beyond 180 it goes on at 0.
        saturation: lowest and highest, 0 to 255.
        value: likewise.
    """

    hue: tuple[int, int] = (0, 180)
    saturation: tuple[int, int] = (0, 255)
    value: tuple[int, int] = (0, 255)

    def of(self, hsv: UInt8[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
        """True where a pixel has this colour."""
        hue, saturation, value = (channel.astype(int) for channel in hsv.T)
        held = (hue - self.hue[0]) % 180 < self.hue[1] - self.hue[0]
        for channel, (low, high) in ((saturation, self.saturation), (value, self.value)):
            held &= (channel >= low) & (channel <= high)
        return np.asarray(held)


# With gaps between them: pixels on the border of two words have neither.
COLOURS: Mapping[str, Colour] = {
    "black": Colour(value=(0, 55)),
    "white": Colour(saturation=(0, 35), value=(200, 255)),
    "grey": Colour(saturation=(0, 30), value=(85, 180)),
    "red": Colour(hue=(172, 186), saturation=(120, 255), value=(80, 255)),
    "orange": Colour(hue=(8, 18), saturation=(140, 255), value=(160, 255)),
    "brown": Colour(hue=(7, 18), saturation=(80, 220), value=(60, 140)),
    "yellow": Colour(hue=(23, 34), saturation=(110, 255), value=(140, 255)),
    "green": Colour(hue=(38, 86), saturation=(70, 255), value=(60, 255)),
    "blue": Colour(hue=(96, 126), saturation=(80, 255), value=(65, 255)),
    "purple": Colour(hue=(130, 154), saturation=(60, 255), value=(65, 255)),
    "pink": Colour(hue=(156, 172), saturation=(50, 140), value=(165, 255)),
}


def regions_of(
    image: UInt8[np.ndarray, "H W 3"],
    label_map: Integer[np.ndarray, "H W"],
    class_names: Sequence[str],
    *,
    smallest: float = SMALLEST,
) -> list[Region]:
    """Every region of the classes whose regions can be told apart, by class and then by row.

    A class that has parts smaller than ``smallest``, but larger than a speck, is left out: words
    may mean these too.

    Args:
        image: the photograph.
        label_map: positions in ``class_names``; any other number is no class.
        class_names: the classes.
        smallest: share of the photograph that a region has at least.
    """
    ndimage = need("scipy.ndimage", extra="data", purpose="finding regions of label maps")
    found: list[Region] = []
    for class_id in np.unique(label_map).tolist():
        if class_id >= len(class_names):
            continue
        parts, count = ndimage.label(label_map == class_id, structure=np.ones((3, 3)))
        shares = np.bincount(parts.ravel(), minlength=count + 1)[1:] / label_map.size
        if ((shares > SPECK) & (shares < smallest)).any():
            continue
        for part in np.flatnonzero(shares >= smallest) + 1:
            found.append(_region(class_names[class_id], parts == part, image))
    return found


def gap(one: Region, other: Region) -> float:
    """Distance of the nearest pixels of two regions, as a part of the photograph's diagonal."""
    ndimage = need("scipy.ndimage", extra="data", purpose="measuring how near regions are")
    distances = ndimage.distance_transform_edt(~one.mask)
    return float(distances[other.mask].min() / np.hypot(*one.mask.shape))


def _region(name: str, mask: Bool[np.ndarray, "H W"], image: UInt8[np.ndarray, "H W 3"]) -> Region:
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    hsv = to_hsv(image[mask][None])[0]
    return Region(
        name=name,
        mask=mask,
        share=len(rows) / mask.size,
        box=(
            float(columns.min() / width),
            float(rows.min() / height),
            float((columns.max() + 1) / width),
            float((rows.max() + 1) / height),
        ),
        centre=(float((columns.mean() + 0.5) / width), float((rows.mean() + 0.5) / height)),
        colours={word: float(colour.of(hsv).mean()) for word, colour in COLOURS.items()},
    )
