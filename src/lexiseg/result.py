"""Segmentation: what came out, as a label map, masks, shares, a picture and files."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt, UInt8
from PIL import Image

from lexiseg import outputs, plot
from lexiseg.atomic import write_atomically
from lexiseg.outputs.base import Transform
from lexiseg.palette import as_colour, colours

MAX_LABELS_8_BIT = 255
_PIXELS_AT_ONCE = 4_000_000  # of a large picture so many are looked at together


def none_index(label_count: int) -> int:
    """The index of "none of the labels": 255, or 65535 where more than 255 labels need 16 bits."""
    return 255 if label_count <= MAX_LABELS_8_BIT else 65535


def settled(
    winner: Int64[np.ndarray, "H W"],
    best: Float[np.ndarray, "H W"],
    count: int,
    threshold: float | None,
) -> UInt[np.ndarray, "H W"]:
    """The label map: none where a name of the background won, or where the score is too low.

    Args:
        winner: the text that has each pixel; the first ``count`` are labels.
        best: its score.
        count: of labels.
        threshold: the least score that is enough; None: any.
    """
    is_none = winner >= count
    if threshold is not None:
        is_none |= best < threshold
    none = none_index(count)
    return np.where(is_none, none, winner).astype(np.uint8 if none == 255 else np.uint16)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One picture, segmented by labels.

    Attributes:
        labels: the labels, in the order in which they were given.
        label_map: the position in ``labels`` of each pixel's label, and ``none`` where it has none;
            uint8, or uint16 for more than 255 labels.
        confidence: the score of each pixel's winner, 0 to 1.
        scores: of every label at every pixel, 0 to 1, where they were asked for.
        image: the picture itself, where it is at hand; ``plot`` draws over it.
        source: the path of the picture, where it has one.
    """

    labels: tuple[str, ...]
    label_map: UInt[np.ndarray, "H W"]
    confidence: Float[np.ndarray, "H W"]
    scores: Float[np.ndarray, "T H W"] | None = None
    image: UInt8[np.ndarray, "H W 3"] | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        label_map, count = self.label_map, len(self.labels)
        dtype = np.uint8 if count <= MAX_LABELS_8_BIT else np.uint16
        if label_map.ndim != 2 or label_map.size == 0 or label_map.dtype != dtype:
            raise ValueError(
                f"label_map is {label_map.dtype} of shape {label_map.shape}; "
                f"for {count} labels it must be {np.dtype(dtype)} of H x W"
            )
        for rows in _strips(label_map.shape):
            part = label_map[rows]
            strangers = part[(part >= count) & (part != self.none)]
            if strangers.size:
                raise ValueError(
                    f"label_map holds {strangers[0]}; allowed are 0 to {count - 1} and {self.none}"
                )
        expected = {
            "confidence": label_map.shape,
            "scores": (count, *label_map.shape),
            "image": (*label_map.shape, 3),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} is of shape {array.shape}; it must be {shape}")

    @property
    def none(self) -> int:
        """The index in ``label_map`` of pixels without a label: 255, or 65535 with 16 bits."""
        return none_index(len(self.labels))

    def mask(self, label: str) -> Bool[np.ndarray, "H W"]:
        """True where ``label`` is.

        Raises:
            ValueError: ``label`` was not among the labels.
        """
        if label not in self.labels:
            allowed = ", ".join(repr(each) for each in self.labels[:10])
            raise ValueError(f"{label!r} is none of the labels of this picture: {allowed}")
        return self.label_map == self.labels.index(label)

    def shares(self) -> dict[str, float]:
        """The share of the picture that each label covers, 0 to 1."""
        return {row["label"]: row["share"] for row in self.table()}

    def table(self) -> list[dict[str, Any]]:
        """Of each label: ``label``, its ``share`` of the picture and its mean ``confidence``.

        A label without a pixel has share 0 and confidence 0.
        """
        counts, sums = np.zeros(self.none + 1, dtype=np.int64), np.zeros(self.none + 1)
        for rows in _strips(self.label_map.shape):
            flat, weights = self.label_map[rows].ravel(), self.confidence[rows].ravel()
            counts += np.bincount(flat, minlength=self.none + 1)
            sums += np.bincount(flat, weights=weights, minlength=self.none + 1)
        return [
            {
                "label": label,
                "share": round(float(counts[index]) / self.label_map.size, 6),
                "confidence": round(float(sums[index]) / max(int(counts[index]), 1), 6),
            }
            for index, label in enumerate(self.labels)
        ]

    def plot(self, *, longest: int = 1600) -> Image.Image:
        """The picture tinted by its labels, above a legend with the largest shares first.

        Args:
            longest: a longer side is scaled down to this many pixels.
        """
        palette = colours(len(self.labels))
        image, label_map = plot.shrunk(self.image, self.label_map, longest)
        rows_by_share = sorted(
            (-row["share"], index, row["label"]) for index, row in enumerate(self.table())
        )
        entries = [
            (f"{label}  {-share:.0%}", as_colour(palette[index]))
            for share, index, label in rows_by_share
            if share < 0
        ]
        return plot.with_legend(plot.overlay(image, label_map, palette), entries)

    def save(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        formats: str | Iterable[str] | None = None,
        transform: Transform | None = None,
    ) -> dict[str, Path]:
        """Write the result; a file is either complete or not there.

        Args:
            path: one file, whose suffix says what it holds: .png the label map, .json COCO's
                annotations with the table, .geojson polygons, .txt YOLO's polygons, .npz arrays,
                .jpg the picture with a legend. Or a folder, made if need be.
            name: of the files in a folder; by default that of the picture.
            formats: what is written into a folder: names such as "labels", "overlay", "json" (the
                three by default), "coco", "polygons", "geojson", "yolo", "npz", "confidence",
                "maps"; of one file, what else its suffix can hold: an overlay as .png, COCO's
                polygons as .json.
            transform: for GeoJSON, (a, b, c, d, e, f) that takes pixels to x' = a x + b y + c and
                y' = d x + e y + f.

        Returns:
            The paths by format, as far as written.

        Raises:
            ValueError: a format or a name is not as it must be, or needs scores that were not kept.
        """
        path = Path(path)
        chosen = None if formats is None else outputs.parse_formats(formats)
        is_file = path.suffix.lower() in outputs.SUFFIXES or (path.suffix and name is None)
        if is_file and not path.is_dir():
            files = {outputs.format_for(path, chosen): path}
        else:
            name = outputs.result_name(name, self.source, otherwise="segmentation")
            chosen = chosen or outputs.DEFAULT
            if "maps" in chosen and self.scores is None:
                raise ValueError("maps need the scores of every label; segment with scores=True")
            files = outputs.output_files(path, name, chosen, self.labels)
            path.mkdir(parents=True, exist_ok=True)
        for kind, file in files.items():
            write_atomically(file, outputs.encode(self, kind, files, transform))
        return files


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows that are looked at together."""
    step = max(1, _PIXELS_AT_ONCE // max(1, shape[1]))
    for top in range(0, shape[0], step):
        yield slice(top, top + step)
