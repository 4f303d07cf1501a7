"""Referral: what each expression names in a picture, each by itself; masks may overlap."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from lexiseg import plot
from lexiseg.atomic import write_atomically
from lexiseg.outputs import result_name
from lexiseg.outputs.base import json_bytes
from lexiseg.outputs.outlines import area_of, box_of, outlines
from lexiseg.outputs.pictures import jpeg_bytes, png_bytes
from lexiseg.palette import as_colour, colours


@dataclass(frozen=True, eq=False)
class Referral:
    """One picture, and a mask for each expression.

    Attributes:
        expressions: in the order in which they were given.
        masks: True where the object of an expression is.
        scores: mean score of each mask's pixels, 0 to 1; 0 for an empty mask.
        image: the picture itself, where it is at hand; ``plot`` draws over it.
        source: the path of the picture, where it has one.
    """

    expressions: tuple[str, ...]
    masks: Bool[np.ndarray, "T H W"]
    scores: Float[np.ndarray, " T"]
    image: UInt8[np.ndarray, "H W 3"] | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        count, shape = len(self.expressions), self.masks.shape
        if not count or len(shape) != 3 or shape[0] != count or self.masks.dtype != np.bool_:
            raise ValueError(
                f"{count} expressions came with masks of {self.masks.dtype} and shape {shape}; "
                "give at least one expression, and a mask of truth values for each"
            )
        if self.scores.shape != (count,):
            raise ValueError(f"scores are of shape {self.scores.shape}; give one each, ({count},)")
        if self.image is not None and self.image.shape != (*shape[1:], 3):
            raise ValueError(f"image is of shape {self.image.shape}, masks of {shape[1:]}")

    def mask(self, expression: str) -> Bool[np.ndarray, "H W"]:
        """True where the object of ``expression`` is.

        Raises:
            ValueError: ``expression`` was not among the expressions.
        """
        if expression not in self.expressions:
            asked = ", ".join(repr(each) for each in self.expressions[:10])
            raise ValueError(f"{expression!r} was not asked for in this picture: {asked}")
        return self.masks[self.expressions.index(expression)]

    def table(self) -> list[dict[str, Any]]:
        """Of each expression: score, share of the picture, box, polygons and holes.

        ``box`` is [x1, y1, x2, y2] in pixels, x2 and y2 just beyond the last ones, or None where
        nothing was found. ``polygons`` and ``holes`` are lists of [x1, y1, x2, y2, ...] along the
        edges of pixels: what is inside a polygon and in no hole is the mask, exactly.
        """
        rows = zip(self.expressions, self.masks, self.scores, strict=True)
        return [_row(expression, mask, float(score)) for expression, mask, score in rows]

    def plot(self, *, longest: int = 1600) -> Image.Image:
        """The picture tinted by its masks, the first expression on top, above a legend.

        Args:
            longest: a longer side is scaled down to this many pixels.
        """
        image, masks = plot.shrunk(self.image, self.masks, longest)
        palette = colours(len(masks))
        for mask, colour in reversed(list(zip(masks, palette, strict=True))):
            image = plot.overlay(image, (~mask).astype(np.uint8), colour[None])
        entries = [
            (f"{expression}  {score:.2f}", as_colour(colour))
            for expression, score, colour in zip(
                self.expressions, self.scores, palette, strict=True
            )
        ]
        return plot.with_legend(image, entries)

    def save(self, folder: str | os.PathLike[str], name: str | None = None) -> dict[str, Path]:
        """Write the result; a file is either complete or not there.

        Args:
            folder: made if need be, for a black and white ``NAME_1_mask.png`` of each expression
                in turn, the picture with a legend (``NAME_overlay.jpg``) and the table
                (``NAME.json``).
            name: of the files; by default that of the picture.

        Returns:
            The paths under "mask 1" and so on, "overlay" and "json".
        """
        name = result_name(name, self.source, otherwise="referral")
        files = referral_files(Path(folder), name, len(self.expressions))
        Path(folder).mkdir(parents=True, exist_ok=True)
        for kind, file in files.items():
            write_atomically(file, self._encode(kind, files))
        return files

    def _encode(self, kind: str, files: Mapping[str, Path]) -> bytes:
        if kind == "overlay":
            return jpeg_bytes(self.plot())
        if kind == "json":
            height, width = self.masks.shape[1:]
            record = {
                "image": self.source,
                "height": height,
                "width": width,
                "expressions": self.table(),
                "files": {name: file.name for name, file in files.items()},
            }
            return json_bytes(record)
        mask = self.masks[int(kind.removeprefix("mask ")) - 1]
        return png_bytes(Image.fromarray(mask.astype(np.uint8) * 255))


def referral_files(folder: Path, name: str, count: int) -> dict[str, Path]:
    """Where :meth:`Referral.save` writes the results of so many expressions."""
    masks = {f"mask {n}": folder / f"{name}_{n}_mask.png" for n in range(1, count + 1)}
    return {**masks, "overlay": folder / f"{name}_overlay.jpg", "json": folder / f"{name}.json"}


def _row(expression: str, mask: Bool[np.ndarray, "H W"], score: float) -> dict[str, Any]:
    box, around = box_of(mask), outlines(mask)
    flat = [[number for point in outline for number in point] for outline in around]
    return {
        "expression": expression,
        "score": round(score, 6),
        "share": round(float(mask.mean()), 6),
        "box": None if box is None else list(box),
        "polygons": [each for each, line in zip(flat, around, strict=True) if area_of(line) > 0],
        "holes": [each for each, line in zip(flat, around, strict=True) if area_of(line) < 0],
    }
