"""Measurements that were kept: what ``lexiseg bench --json`` printed, read again."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lexiseg.tools.bench.row import Row

SAME = ("device", "cpu", "threads", "clock", "torch")  # or numbers cannot be compared


def read_measured(files: Sequence[Path]) -> dict[str, Any]:
    """The rows of all files, under the machine of the first.

    Raises:
        ValueError: a file is not such an output, or was measured in another way than the first.
        OSError: a file cannot be read.
    """
    parts = [_read(file) for file in files]
    first = parts[0]["machine"]
    for file, part in zip(files, parts, strict=True):
        for name in SAME:
            here, there = part["machine"].get(name), first.get(name)
            if here != there:
                raise ValueError(
                    f"{file} cannot be compared with {files[0]}: {name} {here!r} and {there!r}; "
                    "show one of them, or measure both alike"
                )
    return {"machine": first, "rows": [row for part in parts for row in part["rows"]]}


def _read(file: Path) -> dict[str, Any]:
    try:
        part = json.loads(file.read_text(encoding="utf-8"))
        whole = {field.name for field in fields(Row)}
        good = "clock" in part["machine"] and all(row.keys() == whole for row in part["rows"])
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise ValueError(
            f"{file} does not hold what `lexiseg bench --json` of this version prints; "
            "measure again"
        )
    return part
