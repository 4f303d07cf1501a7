"""Safetensors files: their header, checked before the library sees it, and their tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lexiseg._checkpoint.records import UnsafeCheckpointError

LARGEST_HEADER = 16 * 2**20


def is_packed(path: Path) -> bool:
    """Whether a file begins as safetensors do: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{"


def read_header(path: Path) -> dict[str, Any]:
    """The JSON on top of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LARGEST_HEADER, path.stat().st_size - 8):
            raise UnsafeCheckpointError(
                f"{path.name} declares a header of {length} bytes, more than it can have; "
                "get it again"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UnsafeCheckpointError(f"{path.name} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise UnsafeCheckpointError(f"{path.name} has a header that is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name stands twice")
    return dict(pairs)


def read_packed(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UnsafeCheckpointError: the file is damaged.
    """
    read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UnsafeCheckpointError(f"{path.name} is damaged: {error}; get it again") from error


def with_metadata(packed: bytes, metadata: Mapping[str, str]) -> bytes:
    """Packed safetensors with metadata in sorted order, which the library leaves to chance."""
    length = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + length])
    header = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}} | header
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + packed[8 + length :]
