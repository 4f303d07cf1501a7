"""The databases of the CRIS authors: one LMDB file for each split of a referring data set.

A record is a pickled dictionary: ``img`` and ``mask`` (the bytes of picture files), ``sents``,
``seg_id`` (the reference), and others that are not needed here. ``__keys__`` lists the records.
"""

import reprlib
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lexiseg._checkpoint.plain import read_plain
from lexiseg._extras import need
from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.referring.references import (
    ReferringDataset,
    ReferringSample,
    check_expressions,
    check_mask_size,
)
from lexiseg.images import read_image, read_label_map

MOST_OPCODES = 1_000_000  # the list of a training split has about 130,000
_one_at_a_time = threading.Lock()  # LMDB forbids that a process opens a file twice


@dataclass(frozen=True)
class LmdbReference:
    """One record; it is fetched whenever something of it is asked for.

    Attributes:
        file: the database.
        key: of the record.
        masks: a folder of masks named after references, which then count instead of the record's.
    """

    file: Path
    key: bytes
    masks: Path | None = None

    def read_expressions(self) -> tuple[str, ...]:
        """What people call it."""
        return check_expressions(self._record().get("sents"), source=self._source)

    def read(self) -> ReferringSample:
        """The photograph and the mask too."""
        record = self._record()
        name = record.get("seg_id")
        if not isinstance(name, int):
            raise ValueError(f"{self._source}: seg_id is {reprlib.repr(name)}; it must be a number")
        try:
            image = read_image(_bytes(record, "img"))
            if self.masks is None:
                mask = read_label_map(_bytes(record, "mask"))
            else:
                mask = read_label_map(self.masks / f"{name}.png")
            check_mask_size(mask, image, source=f"the mask of {name}")
        except ValueError as error:
            raise ValueError(f"{self._source}: {error}") from error
        expressions = check_expressions(record.get("sents"), source=self._source)
        return ReferringSample(image, expressions, mask != 0, str(name))

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """The record's key, and the database and the mask file, neither of which is read.

        Both are told apart by name, size and time of the last change; where masks lie outside, by
        those of the whole folder, because only the record says which of them is its own.
        """
        database = self.file / "data.mdb" if self.file.is_dir() else self.file
        masks = None if self.masks is None else files.folder(self.masks)
        return (self.key, files.stamp(database), masks)

    @property
    def _source(self) -> str:
        return f"{self.file}: record {self.key.decode('ascii', 'replace')!r}"

    def _record(self) -> dict[str, Any]:
        record = _fetch(self.file, self.key)
        if not isinstance(record, dict):
            raise ValueError(f"{self._source} is no dictionary; {_REWRITE}")
        return record


_REWRITE = "write the database again with the authors' folder2lmdb.py, or use the REFER files"


def read_lmdb(path: str | Path, masks: str | Path | None = None) -> ReferringDataset:
    """The references of a database, named after its folder; its split is the name of the file.

    Args:
        path: such as ``lmdb/refcoco/val.lmdb``.
        masks: the folder of masks that the authors' evaluation reads, ``masks/refcoco``; by default
            the masks in the database count.

    Raises:
        ValueError: the file is missing, is no such database, or is in the form of pyarrow that can
            no longer be read.
        ImportError: the package lmdb is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} is missing; give a database such as lmdb/refcoco/val.lmdb")
    if masks is not None and not Path(masks).is_dir():
        raise ValueError(f"{masks} is missing; it holds the masks, named after references")
    keys, length = _fetch(path, b"__keys__"), _fetch(path, b"__len__")
    if not isinstance(keys, list) or not all(isinstance(key, bytes) for key in keys):
        raise ValueError(f"{path}: its list of records is no list of keys; {_REWRITE}")
    if length != len(keys):
        raise ValueError(
            f"{path}: it lists {len(keys)} records, but counts {reprlib.repr(length)}; {_REWRITE}"
        )
    folder = None if masks is None else Path(masks)
    references = tuple(LmdbReference(path, key, folder) for key in keys)
    return ReferringDataset(path.resolve().parent.name, path.stem, references)


def _fetch(path: Path, key: bytes) -> Any:
    """The plain data of one entry; to open a database takes less than a tenth of a millisecond."""
    lmdb = need("lmdb", extra="data", purpose="Reading the CRIS authors' databases")
    with _one_at_a_time:
        value = _entry(lmdb, path, key)
    shown = f"{path}: record {key.decode('ascii', 'replace')!r}"
    if value is None:
        raise ValueError(f"{shown} is missing; {_REWRITE}")
    if value[:1] != b"\x80":
        raise ValueError(
            f"{shown} is in the form of pyarrow.serialize, which pyarrow no longer has; {_REWRITE}"
        )
    return read_plain(value, shown, most_opcodes=MOST_OPCODES)


def _entry(lmdb: ModuleType, path: Path, key: bytes) -> bytes | None:
    try:
        with (
            lmdb.open(
                str(path),
                subdir=path.is_dir(),
                readonly=True,
                lock=False,
                readahead=False,
                create=False,
            ) as database,
            database.begin() as transaction,
        ):
            return transaction.get(key)
    except lmdb.Error as error:
        raise ValueError(f"{path} cannot be read ({error}); {_REWRITE}") from error


def _bytes(record: dict[str, Any], field: str) -> bytes:
    value = record.get(field)
    if not isinstance(value, bytes):
        raise ValueError(f"{field} is no picture but {reprlib.repr(value)}")
    return value
