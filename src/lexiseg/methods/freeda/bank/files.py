"""The files of a bank: names, checksums, and writing them block by block."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lexiseg.atomic import place_in, put

HEADER = "bank.json"
SUFFIXES = {"vectors": "safetensors", "records": "jsonl"}
ROWS_AT_ONCE = 16384


@dataclass(frozen=True)
class Shapes:
    """Of the tables in a file of vectors."""

    rows: int
    key_width: int
    prototype_width: int
    half: bool


def named(folder: Path, part: str, digest: str) -> Path:
    """A file of a bank, whose name holds the beginning of its checksum."""
    return folder / f"{part}-{digest[:16]}.{SUFFIXES[part]}"


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def copy_vectors(
    folder: Path,
    tables: Sequence[tuple[Float[Tensor, "_ Dk"], Float[Tensor, "_ Dp"]]],
    shapes: Shapes,
) -> str:
    """Write the keys and then the prototypes of several banks as safetensors; their checksum."""
    size = 2 if shapes.half else 4
    ends = [shapes.rows * shapes.key_width * size]
    ends.append(ends[0] + shapes.rows * shapes.prototype_width * size)
    declared = {
        name: {"dtype": "F16" if shapes.half else "F32", "shape": [shapes.rows, width]}
        | {"data_offsets": offsets}
        for name, width, offsets in (
            ("keys", shapes.key_width, [0, ends[0]]),
            ("prototypes", shapes.prototype_width, ends),
        )
    }
    text = json.dumps(declared, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    blocks = (
        rows.contiguous().numpy().tobytes()
        for part in range(2)
        for table in tables
        for rows in table[part].split(ROWS_AT_ONCE)
    )
    return _write(folder, "vectors", chain([struct.pack("<Q", len(text)), text], blocks))


def copy_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> str:
    """Write a line of JSON for each row; their checksum."""
    lines = (json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    return _write(folder, "records", lines)


def _write(folder: Path, part: str, blocks: Iterable[bytes]) -> str:
    """A file appears whole, under the name that its checksum gives it."""
    digest = hashlib.sha256()
    with place_in(folder) as temporary:
        with temporary.open("xb") as file:
            for data in blocks:
                digest.update(data)
                file.write(data)
        put(temporary, named(folder, part, digest.hexdigest()))
    return digest.hexdigest()
