"""Files that are there whole or not at all, whatever ends their writing."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, part: str | None = None) -> None:
    """Write a file whole or not at all; the arguments are those of :func:`written_whole`."""
    with written_whole(path, part=part) as temporary:
        temporary.write_bytes(data)


@contextmanager
def written_whole(path: Path, *, part: str | None = None) -> Iterator[Path]:
    """A place beside ``path`` to write to; it takes the name of ``path`` when all went well.

    Args:
        path: the file, in a folder that is there.
        part: what only this writer calls its part, so that it takes away what it left when it was
            killed before. None: another name each time, whoever else writes the same file.
    """
    with place_in(path.parent, part=part) as temporary:
        yield temporary
        put(temporary, path)


@contextmanager
def place_in(folder: Path, *, part: str | None = None) -> Iterator[Path]:
    """A hidden name in a folder, without a file; what was not put elsewhere is gone at the end."""
    temporary = folder / f".{part or secrets.token_hex(8)}.part"
    temporary.unlink(missing_ok=True)  # a link there must not be followed either
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def put(temporary: Path, path: Path) -> None:
    """Bring a finished file to the disk, and then to its name, over what stands there."""
    with temporary.open("r+b") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
