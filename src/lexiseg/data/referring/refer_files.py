"""RefCOCO, RefCOCO+ and RefCOCOg from the REFER files.

ROOT/refcoco/refs(unc).p, instances.json            the same for refcoco+
ROOT/refcocog/refs(umd).p, refs(google).p, instances.json
ROOT/images/train2014/*.jpg                         photographs of COCO; also found in
                                                    images/mscoco/images/train2014 and train2014
"""

import logging
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg._checkpoint.plain import read_plain
from lexiseg.data.json_files import Row, read_coco_tables, size_of
from lexiseg.data.paths import check_all_there, inside
from lexiseg.data.referring.references import (
    FileReference,
    Outline,
    ReferringDataset,
    check_expressions,
)

IMAGE_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "train2014")
LARGEST_PICKLE = 256 * 2**20
DOWNLOAD = "https://github.com/lichengunc/refer"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferBenchmark:
    """Where a benchmark lies, and how many references its splits have as published.

    Attributes:
        folder: of its files.
        split_by: whose splits these are, in brackets in the file's name.
        references: objects, not expressions, by split.
    """

    folder: str
    split_by: str
    references: Mapping[str, int] = field(repr=False)

    @property
    def pickle(self) -> str:
        """The name of the file of references."""
        return f"refs({self.split_by}).p"


_UMD = ReferBenchmark("refcocog", "umd", {"train": 42226, "val": 2573, "test": 5023})
_GOOGLE = ReferBenchmark("refcocog", "google", {"train": 44822, "val": 5000})
REFERRING_BENCHMARKS: Mapping[str, ReferBenchmark] = {
    "refcoco": ReferBenchmark(
        "refcoco", "unc", {"train": 42404, "val": 3811, "testA": 1975, "testB": 1810}
    ),
    "refcoco+": ReferBenchmark(
        "refcoco+", "unc", {"train": 42278, "val": 3805, "testA": 1975, "testB": 1798}
    ),
    "refcocog_umd": _UMD,
    "refcocog_google": _GOOGLE,
    "refcocog_u": _UMD,  # as the CRIS authors call them
    "refcocog_g": _GOOGLE,
}


def read_refer(name: str, root: str | Path, split: str = "val") -> ReferringDataset:
    """The references of one split, in the order of the file; about fifteen seconds for RefCOCO.

    The pickle is read as plain data: nothing in it can run. A count other than the published one is
    logged as a warning.

    Args:
        name: a key of ``REFERRING_BENCHMARKS``.
        root: the folder of the benchmarks.
        split: "train", "val", and "testA" and "testB" or "test".

    Raises:
        ValueError: a file is missing or damaged, or asks for code to be run; or there is no such
            split.
    """
    benchmark = _benchmark(name, split)
    folder = Path(root) / benchmark.folder
    path = folder / benchmark.pickle
    rows = [row for row in _read_rows(path) if row.get("split") == split]
    if len(rows) != benchmark.references[split]:
        _logger.warning("%s", _wrong_count(path, split, len(rows), benchmark))
    instances = folder / "instances.json"
    tables = read_coco_tables(instances)
    images = _image_folder(Path(root))
    references = tuple(_reference(row, path, instances, tables, images) for row in rows)
    check_all_there((reference.image for reference in references), source=str(instances))
    return ReferringDataset(name, split, references)


def check_refer(name: str, root: str | Path, split: str = "val") -> list[str]:
    """What is missing or not as published, a line each; empty where all is there."""
    benchmark = _benchmark(name, split)
    folder = Path(root) / benchmark.folder
    needed = [folder / benchmark.pickle, folder / "instances.json"]
    findings = [
        f"{file} is missing; get it from {DOWNLOAD}" for file in needed if not file.is_file()
    ]
    try:
        _image_folder(Path(root))
    except ValueError as error:
        findings.append(str(error))
    if findings:
        return findings
    try:
        found = len(read_refer(name, root, split))
    except ValueError as error:
        return [str(error)]
    if found != benchmark.references[split]:
        return [_wrong_count(needed[0], split, found, benchmark)]
    return []


def _benchmark(name: str, split: str) -> ReferBenchmark:
    benchmark = REFERRING_BENCHMARKS.get(name)
    if benchmark is None:
        known = ", ".join(REFERRING_BENCHMARKS)
        raise ValueError(f"unknown referring benchmark {name!r}; known are {known}")
    if split not in benchmark.references:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(benchmark.references)}")
    return benchmark


def _wrong_count(path: Path, split: str, found: int, benchmark: ReferBenchmark) -> str:
    return (
        f"{path} has {found} references in the split {split!r}, but {benchmark.references[split]} "
        "were published; scores do not compare"
    )


def _image_folder(root: Path) -> Path:
    for folder in IMAGE_FOLDERS:
        if (root / folder).is_dir():
            return root / folder
    places = ", ".join(str(root / folder) for folder in IMAGE_FOLDERS)
    raise ValueError(
        f"the photographs are missing; put http://images.cocodataset.org/zips/train2014.zip, "
        f"unpacked, at one of {places}"
    )


def _read_rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; get it from {DOWNLOAD}")
    if path.stat().st_size > LARGEST_PICKLE:
        raise ValueError(
            f"{path} is larger than {LARGEST_PICKLE} bytes, as REFER's files never are"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    rows = read_plain(content, str(path))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is no list of references; get it from {DOWNLOAD}")
    return rows


def _reference(
    row: Row, path: Path, instances: Path, tables: Mapping[str, Mapping[Any, Row]], images: Path
) -> FileReference:
    identity = row.get("ref_id")
    source = f"{path}: reference {reprlib.repr(identity)}"
    if not isinstance(identity, int | str):
        raise ValueError(f"{source}: its ref_id must be a number")
    annotation = _find(tables["annotations"], row.get("ann_id"), "annotation", source)
    image = _find(tables["images"], row.get("image_id"), "image", source)
    sentences = row.get("sentences")
    if not isinstance(sentences, list) or not all(isinstance(each, dict) for each in sentences):
        raise ValueError(f"{source}: its sentences are no list of dictionaries")
    expressions = [_text(each.get("sent")) for each in sentences]
    return FileReference(
        name=str(identity),
        image=inside(images, image.get("file_name"), source=str(instances)),
        expressions=check_expressions(expressions, source=source),
        mask=Outline(
            f"{instances}: annotation {annotation['id']}",
            annotation.get("segmentation"),
            size_of(instances, image),
        ),
    )


def _find(table: Mapping[Any, Row], identity: Any, kind: str, source: str) -> Row:
    row = table.get(identity) if isinstance(identity, int | str) else None
    if row is None:
        raise ValueError(
            f"{source}: instances.json has no {kind} with the id {reprlib.repr(identity)}"
        )
    return row


def _text(sentence: Any) -> Any:
    """A sentence whose bytes Python 2 wrote is UTF-8; its text came as one character a byte."""
    if isinstance(sentence, bytes):
        return sentence.decode("utf-8", "replace")
    if isinstance(sentence, str) and not sentence.isascii():
        try:
            return sentence.encode("latin-1").decode("utf-8")
        except UnicodeError:  # it was text already
            return sentence
    return sentence
