"""What tells the files of a data set from others, so that no counts of two of them are mixed.

Ground truth is told apart by its bytes. Photographs and databases, which are many times larger, are
told apart by name, size and time of the last change.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Stamp = tuple[str, int, int]
Finding = TypeVar("Finding")


class FileDigests:
    """Looks at each file once, however many photographs or objects ask for it."""

    def __init__(self) -> None:
        self._contents: dict[Path, str] = {}
        self._stamps: dict[Path, Stamp] = {}

    def content(self, path: Path) -> str:
        """The SHA-256 of a file's bytes.

        Raises:
            ValueError: it cannot be read.
        """
        if path not in self._contents:
            self._contents[path] = _looked_at(path, _sha256)
        return self._contents[path]

    def stamp(self, path: Path) -> Stamp:
        """Name, size in bytes and time of the last change in nanoseconds.

        Raises:
            ValueError: the file is not there, or may not be looked at.
        """
        if path not in self._stamps:
            self._stamps[path] = _looked_at(path, _stamp)
        return self._stamps[path]

    def folder(self, path: Path) -> str:
        """A digest of the stamps of the files in a folder.

        Raises:
            ValueError: the folder or a file cannot be looked at.
        """
        if path not in self._contents:
            files = _looked_at(path, lambda folder: sorted(folder.iterdir()))
            stamps = [self.stamp(file) for file in files]
            self._contents[path] = hashlib.sha256(repr(stamps).encode()).hexdigest()
        return self._contents[path]


def joint(fingerprints: Iterable[str]) -> str:
    """One digest of several, in their order."""
    return hashlib.sha256(repr(list(fingerprints)).encode()).hexdigest()


def _looked_at(path: Path, look: Callable[[Path], Finding]) -> Finding:
    try:
        return look(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return (path.name, status.st_size, status.st_mtime_ns)
