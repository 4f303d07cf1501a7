"""JSON files of data sets: rows, and COCO's tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
COCO_FORM = 'COCO\'s {"images": [...], "categories": [...], "annotations": [...]}'


def read_json(path: Path, *, form: str) -> Any:
    """The content of a file in UTF-8, with or without a byte order mark, or in UTF-16 or 32.

    Args:
        path: of the file.
        form: what it should hold, for the messages.

    Raises:
        ValueError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; it holds {form}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); it holds {form}") from error


def rows_of(path: Path, content: Any, *, form: str) -> Sequence[Row]:
    """The rows of a list of objects.

    Raises:
        ValueError: it is no such list.
    """
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f"{path} is not what it should be; it holds {form}")
    return content


def read_text_rows(path: Path, *keys: str) -> list[tuple[str, ...]]:
    """The texts under some keys of each row of a list.

    Raises:
        ValueError: the file is missing or of another form.
    """
    form = f"a list of rows {{{', '.join(keys)}}}, all texts"
    rows = rows_of(path, read_json(path, form=form), form=form)
    found = [tuple(row.get(key) for key in keys) for row in rows]
    for values in found:
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{path}: the row {values} cannot be understood; it holds {form}")
    return found  # type: ignore[return-value]


def read_coco_tables(path: Path) -> dict[str, dict[int | str, Row]]:
    """The images, categories and annotations of a COCO JSON file, each by its id.

    Raises:
        ValueError: the file is missing or of another form, or an id is missing or stands twice.
    """
    content = read_json(path, form=COCO_FORM)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object; it holds {COCO_FORM}")
    return {
        key: _by_id(path, key, rows_of(path, content.get(key), form=COCO_FORM))
        for key in ("images", "categories", "annotations")
    }


def size_of(path: Path, image: Row) -> tuple[int, int]:
    """(height, width) that a row of the images declares.

    Raises:
        ValueError: they are no whole numbers.
    """
    size = (image.get("height"), image.get("width"))
    if not all(type(side) is int and side > 0 for side in size):  # True is an int too
        raise ValueError(
            f"{path}: image {image['id']} has height {size[0]!r} and width {size[1]!r}; both are "
            "whole numbers of pixels"
        )
    return size  # type: ignore[return-value]


def _by_id(path: Path, key: str, rows: Sequence[Row]) -> dict[int | str, Row]:
    found: dict[int | str, Row] = {}
    for row in rows:
        identity = row.get("id")
        if not isinstance(identity, int | str) or isinstance(identity, bool):
            raise ValueError(f"{path}: one of the {key} has the id {identity!r}; give it a number")
        if identity in found:
            raise ValueError(f"{path}: two of the {key} have the id {identity!r}; ids are unique")
        found[identity] = row
    return found
