"""What an evaluation has counted so far, one line an item, so that a killed run goes on.

A line is the JSON of ``[index, integers]`` and its CRC-32. Each process writes a file of its own,
and all files of one subject are read together: it does not matter who counted what, or in which
order, because integers add up to the same sums. A line that was being written when its process died
does not pass its check, and that item is counted again.
"""

import glob
import json
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

Item = list[list[int]]
Counted = dict[int, Item]


class Journal:
    """The items of one subject; entered by ``with`` to add some.

    Args:
        folder: where the files lie, made if need be.
        subject: a name for what is evaluated, fit for a file's name.
    """

    def __init__(self, folder: Path, subject: str) -> None:
        self.folder = folder
        self.subject = subject
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Journal":
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f".{self.subject}.{secrets.token_hex(8)}.journal"
        self._file = path.open("xb")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, index: int, integers: Item) -> None:
        """Add an item; it is in the hands of the operating system before this returns."""
        if self._file is None:
            raise RuntimeError("the journal is not open; use it in a with statement")
        body = json.dumps([index, integers], separators=(",", ":")).encode()
        self._file.write(b"%b %08x\n" % (body, zlib.crc32(body)))
        self._file.flush()

    def read_all(self) -> Counted:
        """Every item that any process has counted of this subject."""
        return {index: integers for path in self._all() for index, integers in _sound_lines(path)}

    def remove_all(self) -> None:
        """Delete the journals of this subject: its result is kept elsewhere."""
        for path in self._all():
            path.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob(f".{glob.escape(self.subject)}.*.journal"))


def _sound_lines(path: Path) -> Iterator[tuple[int, Item]]:
    """What the lines say, up to the first that is not whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # another process has finished, and removed it
        return
    for line in data.splitlines(keepends=True):
        body, _, check = line.rstrip(b"\n").rpartition(b" ")
        if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body):
            return
        index, integers = json.loads(body)
        yield index, integers
