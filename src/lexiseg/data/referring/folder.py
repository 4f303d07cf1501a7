"""Referring data of one's own.

ROOT/refs.json is a list of rows

    {"image": "a.jpg", "expression": "the red cup", "mask": "a_cup.png", "split": "val"}

- "expressions", a list, instead of "expression", where an object has several.
- "mask" is a grey, palette or black and white PNG of the photograph's size; all that is not 0 is
  the object.
- "polygon" instead of "mask": [x1, y1, x2, y2, ...] in pixels, or a list of such.
- Files are relative to ROOT and stay in it. A row without "split", or with null there, is part of
  every split.
"""

import reprlib
from pathlib import Path
from typing import Any

from lexiseg.data.json_files import Row, read_json, rows_of
from lexiseg.data.paths import check_all_there, inside
from lexiseg.data.referring.references import (
    FileReference,
    MaskPicture,
    Outline,
    ReferringDataset,
    check_expressions,
)

_FORM = 'rows {"image", "expression", "mask" or "polygon", "split"}'


def read_referring_folder(root: str | Path, split: str = "val") -> ReferringDataset:
    """The data set of a folder in the layout above.

    Raises:
        ValueError: a file of it is missing, a row is not of that form, or no row is of this split.
    """
    root = Path(root)
    path = root / "refs.json"
    rows = rows_of(path, read_json(path, form=_FORM), form=_FORM)
    references = [
        _reference(root, row, index, path)
        for index, row in enumerate(rows)
        if _split(row, index, path) in (None, split)
    ]
    if not references:
        splits = sorted({str(row["split"]) for row in rows if row.get("split") is not None})
        raise ValueError(f"{path} has no rows of the split {split!r}; it has {splits}")
    files = [reference.image for reference in references]
    files += [each.mask.file for each in references if isinstance(each.mask, MaskPicture)]
    check_all_there(files, source=str(path))
    return ReferringDataset(root.name or root.resolve().name, split, tuple(references))


def _split(row: Row, index: int, path: Path) -> str | None:
    """The split that a row is part of; None: of every one."""
    split = row.get("split")
    if split is not None and not isinstance(split, str):
        raise ValueError(f"{path}: row {index}: its split is {split!r}; give a text or none")
    return split


def _reference(root: Path, row: Row, index: int, path: Path) -> FileReference:
    source = f"{path}: row {index}"
    if ("expression" in row) == ("expressions" in row):
        raise ValueError(f'{source}: give it "expression", a text, or "expressions", a list')
    expressions = row["expressions"] if "expressions" in row else [row["expression"]]
    image = inside(root, row.get("image"), source=source)
    return FileReference(
        name=f"{image.stem}_{index}",
        image=image,
        expressions=check_expressions(expressions, source=source),
        mask=_mask(root, row, source=source),
    )


def _mask(root: Path, row: Row, *, source: str) -> MaskPicture | Outline:
    if ("mask" in row) == ("polygon" in row):
        raise ValueError(f'{source}: give it "mask", a file, or "polygon", [x1, y1, x2, y2, ...]')
    if "mask" in row:
        return MaskPicture(inside(root, row["mask"], source=source))
    return Outline(source, _polygons(row["polygon"], source=source))


def _polygons(polygon: Any, *, source: str) -> list[Any]:
    """One polygon or several as a list of polygons."""
    if not isinstance(polygon, list) or not polygon:
        raise ValueError(
            f"{source}: its polygon is {reprlib.repr(polygon)}; give [x1, y1, x2, y2, ...]"
        )
    return polygon if isinstance(polygon[0], list) else [polygon]
