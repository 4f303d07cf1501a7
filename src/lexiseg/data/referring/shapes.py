"""Rendered scenes of simple shapes with expressions: made pictures, for tests and first trials."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.referring.references import Reference, ReferringDataset, ReferringSample
from lexiseg.data.referring.regions import regions_of
from lexiseg.data.referring.wording import describe

SHAPES = ("circle", "square", "triangle")
RGB = {
    "red": (200, 30, 30),
    "green": (40, 150, 50),
    "blue": (40, 70, 200),
    "yellow": (230, 210, 40),
    "purple": (130, 50, 180),
    "black": (20, 20, 20),
}
SIDES = (0.16, 0.4)  # of a shape, as parts of the picture's shorter side
MOST = 5  # shapes of a scene
_NOTHING = len(SHAPES)


@dataclass(frozen=True, eq=False)
class DrawnReference:
    """One shape, kept in memory.

    Attributes:
        name: of the scene and the shape.
        image: the scene.
        expressions: what is true of this shape alone.
        mask: where it is.
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"] = field(repr=False)
    expressions: tuple[str, ...]
    mask: Bool[np.ndarray, "H W"] = field(repr=False)

    def read_expressions(self) -> tuple[str, ...]:
        """What it may be called."""
        return self.expressions

    def read(self) -> ReferringSample:
        """The scene and the mask too."""
        return ReferringSample(self.image, self.expressions, self.mask, self.name)

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """A digest of the pixels, and the sentences."""
        digest = hashlib.sha256(self.image.tobytes() + self.mask.tobytes()).hexdigest()
        return (self.name, self.expressions, digest)


def draw_shapes(
    count: int, *, seed: int = 0, size: tuple[int, int] = (128, 160), split: str = "train"
) -> ReferringDataset:
    """Scenes of two to five shapes that do not touch, on a light ground with noise.

    Args:
        count: of scenes; each has several references, or sometimes none.
        seed: of everything.
        size: (height, width) of the scenes.
        split: what the data set calls itself; give each split a seed of its own.
    """
    references: list[Reference] = []
    for scene in range(count):
        image, label_map = draw_scene(np.random.default_rng((seed, scene)), size)
        regions = regions_of(image, label_map, SHAPES)
        references += [
            DrawnReference(f"scene{scene}_{number}", image, sentences, regions[number].mask)
            for number, sentences in enumerate(describe(regions))
            if sentences
        ]
    return ReferringDataset("shapes", split, tuple(references))


def draw_scene(
    generator: np.random.Generator, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """One scene, and the position of each pixel's shape in ``SHAPES``."""
    height, width = size
    picture = Image.new("RGB", (width, height), (215, 210, 205))
    labels = Image.new("L", (width, height), _NOTHING)
    taken: list[tuple[int, int, int, int]] = []
    wanted = int(generator.integers(2, MOST + 1))
    for _ in range(20 * wanted):
        if len(taken) == wanted:
            break
        side = int(generator.uniform(*SIDES) * min(size))
        x, y = int(generator.integers(width - side)), int(generator.integers(height - side))
        box = (x, y, x + side, y + side)
        if any(_touch(box, other) for other in taken):
            continue
        taken.append(box)
        shape = int(generator.integers(len(SHAPES)))
        colour = list(RGB.values())[int(generator.integers(len(RGB)))]
        _draw(ImageDraw.Draw(picture), shape, box, colour)
        _draw(ImageDraw.Draw(labels), shape, box, shape)
    noisy = np.asarray(picture) + generator.normal(0, 4, (height, width, 3))
    return noisy.round().clip(0, 255).astype(np.uint8), np.array(labels)


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Whether two boxes come within three pixels of each other."""
    return (
        one[0] <= other[2] + 3
        and other[0] <= one[2] + 3
        and one[1] <= other[3] + 3
        and other[1] <= one[3] + 3
    )


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: int,
    box: tuple[int, int, int, int],
    fill: tuple[int, int, int] | int,
) -> None:
    left, top, right, bottom = box
    if SHAPES[shape] == "circle":
        draw.ellipse(box, fill=fill)
    elif SHAPES[shape] == "square":
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)
