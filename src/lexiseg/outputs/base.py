"""What every format knows of a result."""

import json
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt
from PIL import Image

# x' = a x + b y + c and y' = d x + e y + f, as GDAL's users and rasterio write it: (a, b, ..., f).
Transform = Sequence[float | int]


@runtime_checkable
class Segmented(Protocol):
    """A picture segmented by labels; :class:`lexiseg.Segmentation` is one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        ...

    @property
    def label_map(self) -> UInt[np.ndarray, "H W"]:
        """The position of each pixel's label, and ``none``."""
        ...

    @property
    def confidence(self) -> Float[np.ndarray, "H W"]:
        """The score of each pixel's winner, 0 to 1."""
        ...

    @property
    def scores(self) -> Float[np.ndarray, "T H W"] | None:
        """Of every label at every pixel, 0 to 1, where they were kept."""
        ...

    @property
    def source(self) -> str | None:
        """The path of the picture, where it has one."""
        ...

    @property
    def none(self) -> int:
        """What stands in ``label_map`` where there is no label."""
        ...

    def mask(self, label: str) -> Bool[np.ndarray, "H W"]:
        """True where a label is."""
        ...

    def table(self) -> list[dict[str, Any]]:
        """Of each label ``label``, ``share`` and ``confidence``."""
        ...

    def plot(self) -> Image.Image:
        """The picture with its labels and a legend."""
        ...


def json_bytes(record: dict[str, Any], *, indent: int | None = None) -> bytes:
    """UTF-8 with every script readable; what is no text of Unicode stays an escape of JSON's."""
    text = json.dumps(record, ensure_ascii=False, indent=indent) + "\n"
    return text.encode("utf-8", "backslashreplace")


def summary(result: Segmented) -> dict[str, Any]:
    """The picture, its size, and the table of its labels."""
    height, width = result.label_map.shape
    return {
        "image": result.source,
        "height": height,
        "width": width,
        "none": result.none,
        "labels": result.table(),
    }
