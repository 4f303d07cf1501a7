"""Segmentation: what came out, as a label map, masks, shares, a picture and files."""

import io
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt, UInt8
from PIL import Image

from lexiseg import plot

MAX_LABELS_8_BIT = 255


def none_index(label_count: int) -> int:
    """The index of "none of the labels": 255, or 65535 where more than 255 labels need 16 bits."""
    return 255 if label_count <= MAX_LABELS_8_BIT else 65535


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
        strangers = label_map[(label_map >= count) & (label_map != self.none)]
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
        flat = self.label_map.ravel()
        counts = np.bincount(flat, minlength=self.none + 1)
        sums = np.bincount(flat, weights=self.confidence.ravel(), minlength=self.none + 1)
        return [
            {
                "label": label,
                "share": round(float(counts[index]) / flat.size, 6),
                "confidence": round(float(sums[index]) / max(int(counts[index]), 1), 6),
            }
            for index, label in enumerate(self.labels)
        ]

    def plot(self, *, longest: int = 1600) -> Image.Image:
        """The picture tinted by its labels, above a legend with the largest shares first.

        Args:
            longest: a longer side is scaled down to this many pixels.
        """
        palette = plot.colours(len(self.labels))
        image = self.image
        if image is None:
            image = np.full((*self.label_map.shape, 3), 128, dtype=np.uint8)
        label_map = self.label_map
        scale = longest / max(label_map.shape)
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in label_map.shape)
            image = np.asarray(Image.fromarray(image).resize((width, height)))
            rows = np.arange(height) * label_map.shape[0] // height
            columns = np.arange(width) * label_map.shape[1] // width
            label_map = label_map[np.ix_(rows, columns)]
        rows_by_share = sorted(
            (-row["share"], index, row["label"]) for index, row in enumerate(self.table())
        )
        entries = [
            (f"{label}  {-share:.0%}", plot.as_colour(palette[index]))
            for share, index, label in rows_by_share
            if share < 0
        ]
        return plot.with_legend(plot.overlay(image, label_map, palette), entries)

    def save(self, path: str | os.PathLike[str], name: str | None = None) -> dict[str, Path]:
        """Write the result; a file is either complete or not there.

        Args:
            path: a folder, made if need be, for the label map (``NAME_labels.png``, a palette PNG;
                with more than 255 labels a 16-bit grey one), the picture with a legend
                (``NAME_overlay.jpg``) and the table (``NAME.json``); or one file, of which .png
                holds the label map and .json the table.
            name: of the files in a folder; by default that of the picture.

        Returns:
            The paths under "labels", "overlay" and "json", as far as written.
        """
        path = Path(path)
        if path.suffix.lower() in {".png", ".json"} and not path.is_dir():
            kind = "labels" if path.suffix.lower() == ".png" else "json"
            files = {kind: path}
        elif path.suffix and not path.is_dir() and name is None:
            raise ValueError(f"cannot save as {path.name!r}; allowed are .png, .json and a folder")
        else:
            if name is None:
                name = Path(self.source).stem if self.source else "segmentation"
            if not name or name != Path(name).name:
                raise ValueError(f"name {name!r} came; give a file name without folders")
            files = output_files(path, name)
            path.mkdir(parents=True, exist_ok=True)
        for kind, file in files.items():
            write_atomically(file, self._encode(kind, files))
        return files

    def _encode(self, kind: str, files: Mapping[str, Path]) -> bytes:
        buffer = io.BytesIO()
        if kind == "labels":
            self._label_image().save(buffer, format="PNG")
        elif kind == "overlay":
            self.plot().save(buffer, format="JPEG", quality=92, subsampling=0)
        else:
            height, width = self.label_map.shape
            record = {
                "image": self.source,
                "height": height,
                "width": width,
                "none": self.none,
                "labels": self.table(),
                "files": {name: file.name for name, file in files.items()},
            }
            text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
            buffer.write(text.encode("utf-8", "backslashreplace"))
        return buffer.getvalue()

    def _label_image(self) -> Image.Image:
        image = Image.fromarray(self.label_map)
        if self.label_map.dtype == np.uint8:
            palette = np.zeros((256, 3), dtype=np.uint8)
            palette[: len(self.labels)] = plot.colours(len(self.labels))
            image.putpalette(palette.tobytes())
        return image


def output_files(folder: Path, name: str) -> dict[str, Path]:
    """Where :meth:`Segmentation.save` writes in a folder."""
    return {
        "labels": folder / f"{name}_labels.png",
        "overlay": folder / f"{name}_overlay.jpg",
        "json": folder / f"{name}.json",
    }


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, flush to the disk, then rename over it."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
