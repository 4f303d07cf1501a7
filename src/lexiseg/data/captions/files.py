"""Captions of photographs that are files of their own, out of one JSON file in three forms.

captions.json   {"NAME": {"captions": ["...", ...], "split": "train"}, ...}, beside images/NAME.jpg,
                or where there are splits, SPLIT/images/NAME.jpg
COCO            {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
Karpathy        {"images": [{"split", "filepath", "filename", "sentences": [{"raw"}]}]}
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from lexiseg.data.json_files import read_json
from lexiseg.data.paths import inside
from lexiseg.data.semantic import list_images
from lexiseg.images import read_image

_logger = logging.getLogger(__name__)


class Texts(Sequence[str]):
    """Many short texts in two arrays, which worker processes share without copying."""

    def __init__(self, characters: UInt8[np.ndarray, " C"], ends: Int64[np.ndarray, " N"]) -> None:
        self.characters, self.ends = characters, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Characters that UTF-8 cannot hold become question marks."""
        parts = [text.encode("utf-8", "replace") for text in texts]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        start = int(self.ends[index - 1]) if index else 0
        return self.characters[start : int(self.ends[index])].tobytes().decode("utf-8")


@dataclass(frozen=True, eq=False)
class FilePairs:
    """Photographs in files of their own.

    Attributes:
        images: the photographs.
        captions: of all photographs, one after the other.
        image_of: of each caption, the position of its photograph.
    """

    images: tuple[Path, ...]
    captions: Texts
    image_of: Int64[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.captions)

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], str, str]:
        """The photograph as it is stored, the caption and the name of one pair."""
        return read_image(self.images[int(self.image_of[index])]), *self.words(index)

    def words(self, index: int) -> tuple[str, str]:
        """The caption and the name of one pair; the photograph is not read."""
        return self.captions[index], self.images[int(self.image_of[index])].stem

    def fingerprint(self) -> str:
        """A digest of the photographs' names and sizes, and of the captions."""
        digest = hashlib.sha256()
        for path in self.images:
            digest.update(repr((path.name, path.stat().st_size)).encode("utf-8", "replace"))
        for array in (self.captions.characters, self.captions.ends, self.image_of):
            digest.update(array.tobytes())
        return digest.hexdigest()


_Row = tuple[str, str | None, list[str]]  # a photograph's name, its split, its captions


def folder_pairs(root: Path, split: str | None) -> FilePairs:
    """The pairs of a folder with captions.json; of all splits where ``split`` is None.

    Raises:
        ValueError: the file cannot be understood, has no such split, or a photograph is missing.
    """
    path = root / "captions.json"
    rows = _read_rows(path, split, _folder_rows)
    there: dict[str | None, dict[str, Path]] = {}
    for own in dict.fromkeys(own for _, own, _ in rows):
        folder = root / "images" if own is None else root / own / "images"
        if not folder.is_dir():
            raise ValueError(f"{folder} is missing: it holds photographs of {path}")
        there[own] = {image.stem: image for image in list_images(folder)}
    lacking = [name for name, own, _ in rows if name not in there[own]]
    if lacking:
        raise _missing(path, lacking)
    return _file_pairs(path, [(there[own][name], captions) for name, own, captions in rows])


def json_pairs(path: Path, split: str | None, images: Path | None) -> FilePairs:
    """The pairs of a JSON file of COCO's or Karpathy's form.

    Args:
        path: the file.
        split: one of Karpathy's; None takes all. A file of COCO's is a split already.
        images: the folder that the photographs' names start from; None looks near the file.

    Raises:
        ValueError: as ``folder_pairs`` says, or a photograph lies outside the folder.
    """
    rows = _read_rows(path, split, _coco_rows)
    root = _find_images(path, rows[0][0]) if images is None else images
    files = [inside(root, name, source=str(path)) for name, _, _ in rows]
    folders = {file.parent for file in files}
    there = {image for folder in folders if folder.is_dir() for image in folder.iterdir()}
    lacking = [str(file) for file in files if file not in there]
    if lacking:
        raise _missing(path, lacking)
    captions = (captions for _, _, captions in rows)
    return _file_pairs(path, list(zip(files, captions, strict=True)))


def _read_rows(path: Path, split: str | None, parse: Callable[[Any], list[_Row]]) -> list[_Row]:
    """The rows of a file that belong to a split."""
    content = read_json(path, form="captions in one of three forms")
    try:
        rows = parse(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be understood ({error!r}); it must have one of the three forms that "
            "the docstring of lexiseg.data.captions.files gives"
        ) from error
    if split is not None:
        splits = sorted({own for _, own, _ in rows if own is not None})
        rows = [row for row in rows if row[1] == split]
        if not rows:
            raise ValueError(
                f"{path} has no split {split!r}; it has {splits or 'none, leave it out'}"
            )
    if not any(captions for _, _, captions in rows):
        raise ValueError(f"{path} holds no captions")
    return rows


def _folder_rows(content: Any) -> list[_Row]:
    """The rows of captions.json."""
    rows = [(name, row.get("split"), _texts(row["captions"])) for name, row in content.items()]
    if not all(own is None or isinstance(own, str) for _, own, _ in rows):
        raise TypeError("a split is no text")
    return rows


def _coco_rows(content: Any) -> list[_Row]:
    """The rows of COCO's captions, or of Karpathy's splits of them."""
    if "annotations" not in content:
        return [
            (
                str(PurePosixPath(row.get("filepath", ""), row["filename"])),
                row["split"],
                _texts([sentence["raw"] for sentence in row["sentences"]]),
            )
            for row in content["images"]
        ]
    captions: dict[int, list[str]] = {row["id"]: [] for row in content["images"]}
    for row in content["annotations"]:
        captions[row["image_id"]].append(row["caption"])
    return [(row["file_name"], None, _texts(captions[row["id"]])) for row in content["images"]]


def _texts(captions: Any) -> list[str]:
    """Captions without the blank around them; blank ones are none."""
    if not isinstance(captions, list):
        raise TypeError(f"captions are {captions!r}, not a list")
    return [caption.strip() for caption in captions if caption.strip()]


def _find_images(path: Path, first: str) -> Path:
    """The folder near a JSON file that its photographs' names start from."""
    parts = ("", "images", path.stem.removeprefix("captions_"))
    near = [base / part for base in (path.parent, path.parent.parent) for part in parts]
    found = next((p for p in near if inside(p, first, source=str(path)).is_file()), None)
    if found is None:
        raise ValueError(
            f"{path}: its first photograph {first!r} is not near it; say where by images=FOLDER"
        )
    return found


def _missing(path: Path, names: Sequence[str]) -> ValueError:
    return ValueError(f"{path}: {len(names)} photographs are missing, the first {names[0]}")


def _file_pairs(path: Path, rows: Sequence[tuple[Path, list[str]]]) -> FilePairs:
    """One pair a caption, in the order of the rows."""
    counts = [len(captions) for _, captions in rows]
    if 0 in counts:
        _logger.warning(
            "%s: %d photographs have no caption and are left out", path, counts.count(0)
        )
    return FilePairs(
        images=tuple(image for image, _ in rows),
        captions=Texts.of(caption for _, captions in rows for caption in captions),
        image_of=np.repeat(np.arange(len(rows)), counts),
    )
