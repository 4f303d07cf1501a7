"""Pictures in which things are named, to teach a bank of prototypes: masks, or boxes and clicks.

ROOT/regions.json   [{"image": "a.jpg", "label": "tractor", "box": [x0, y0, x1, y1]},
                     {"image": "b.jpg", "label": "tractor|farm tractor", "click": [x, y]}, ...]
                    in pixels, images relative to ROOT
or the layout of semantic/folder.py: classes.json, images and masks
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from lexiseg.data.json_files import Row, read_json, rows_of
from lexiseg.data.paths import inside
from lexiseg.data.semantic import BACKGROUND, read_semantic_folder
from lexiseg.images import read_image
from lexiseg.methods.freeda.offline.annotated import (
    PIECES,
    Picture,
    Region,
    mask_of_box,
    mask_of_click,
)
from lexiseg.prompts import check_name

REGIONS = "regions.json"
FORM = '[{"image": "a.jpg", "label": "tractor", "box": [x0, y0, x1, y1]}], or "click": [x, y]'


def read_pictures(root: str | Path, split: str = "train") -> Iterator[Picture]:
    """The pictures of a folder, one at a time; its names are checked before the first comes.

    A class called "background" names nothing, and is left out.

    Raises:
        ValueError: the folder is of neither form, or something in it is not what it should be.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give the one that holds the pictures")
    if (root / REGIONS).is_file():
        return _from_regions(root)
    if not (root / "classes.json").is_file():
        raise ValueError(
            f"{root} holds neither {REGIONS} ({FORM}) nor classes.json with images and masks"
        )
    return _from_masks(root, split)


def _from_masks(root: Path, split: str) -> Iterator[Picture]:
    dataset = read_semantic_folder(root, split)
    names = dataset.vocabulary().labels.names

    def pictures() -> Iterator[Picture]:
        for index, path in enumerate(dataset.images):
            sample = dataset[index]
            regions = tuple(
                Region(of_class, sample.label_map == position)
                for position, of_class in enumerate(names)
                if of_class[0].lower() != BACKGROUND and (sample.label_map == position).any()
            )
            yield Picture(sample.image, regions, str(path.relative_to(root)))

    return pictures()


@dataclass
class _Opened:
    """A picture, and its superpixels once a box or a click needs them."""

    image: UInt8[np.ndarray, "H W 3"]

    @cached_property
    def pieces(self) -> UInt16[np.ndarray, "H W"]:
        return PIECES.of(self.image)


def _from_regions(root: Path) -> Iterator[Picture]:
    path = root / REGIONS
    rows = rows_of(path, read_json(path, form=FORM), form=FORM)
    files: dict[str, list[Row]] = {}
    for row in rows:
        _check_row(path, row)
        files.setdefault(row["image"], []).append(row)
        if not inside(root, row["image"], source=str(path)).is_file():
            raise ValueError(f"{path} names {row['image']!r}, which is not in {root}")
    if not files:
        raise ValueError(f"{path} is empty; it holds {FORM}")

    def pictures() -> Iterator[Picture]:
        for name, of_image in files.items():
            opened = _Opened(read_image(root / name))
            regions = tuple(Region(_names(row), _mask(opened, name, row)) for row in of_image)
            yield Picture(opened.image, regions, name)

    return pictures()


def _check_row(path: Path, row: Row) -> None:
    """An image, a label, and one of box and click."""
    places = [kind for kind in ("box", "click") if kind in row]
    texts = all(isinstance(row.get(key), str) for key in ("image", "label"))
    if not texts or len(places) != 1:
        raise ValueError(f"{path}: the row {dict(row)} cannot be understood; it holds {FORM}")
    numbers: Any = row[places[0]]
    wanted = {"box": 4, "click": 2}[places[0]]
    sound = isinstance(numbers, list) and len(numbers) == wanted
    if not sound or not all(type(n) in (int, float) and abs(n) < 1e9 for n in numbers):
        raise ValueError(
            f"{path}: the {places[0]} {numbers!r} of {row['image']!r} came; it is {wanted} numbers "
            "of pixels"
        )
    for name in _names(row):
        check_name(name)


def _names(row: Row) -> tuple[str, ...]:
    return tuple(name.strip() for name in row["label"].split("|"))


def _mask(opened: _Opened, name: str, row: Row) -> Bool[np.ndarray, "H W"]:
    try:
        if "box" in row:
            x0, y0, x1, y1 = map(float, row["box"])
            return mask_of_box(opened.pieces, (x0, y0, x1, y1))
        x, y = map(float, row["click"])
        return mask_of_click(opened.pieces, (x, y))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
