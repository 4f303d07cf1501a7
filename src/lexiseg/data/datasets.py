"""One door to every data set: by the name of a benchmark, or by a folder or file of one's own."""

import logging
import os
import re
from pathlib import Path

from lexiseg.data import catalog
from lexiseg.data.coco import read_coco_json
from lexiseg.data.referring import (
    GENERATED,
    REFERRING_BENCHMARKS,
    ReferringDataset,
    check_generated,
    check_refer,
    read_generated,
    read_lmdb,
    read_refer,
    read_referring_folder,
)
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder
from lexiseg.registry import unknown

ROOT_VARIABLES = ("LEXISEG_DATA", "DETECTRON2_DATASETS")
SPLITS = {"train", "val", "test", "testa", "testb"}  # which the name of a file may tell
_VAL = {"valid", "validation"}  # what tools call it too
_logger = logging.getLogger(__name__)
_KNOWN = f"Known are {', '.join([*catalog.BENCHMARKS, *REFERRING_BENCHMARKS, GENERATED])}"


def open_dataset(
    name: str | os.PathLike[str], *, split: str = "val", root: str | os.PathLike[str] | None = None
) -> SemanticDataset | ReferringDataset:
    """The data set that a user means.

    Args:
        name: a benchmark, such as "ade150" or "refcoco"; "generated" for expressions made from the
            photographs with masks below ``root``; or a folder with classes.json (photographs and
            masks), refs.json (photographs, expressions and masks) or COCO's annotations; or a
            file of COCO's annotations (.json) or of the CRIS authors (.lmdb). A text that is the
            name of a benchmark means the benchmark where ``root`` is given, and else a folder of
            that name only if it is such a folder; "./refcoco" always means the folder.
        split: which part of it. Data without splits is all of it "train" as well as "val".
        root: the folder of the benchmarks; by default $LEXISEG_DATA, $DETECTRON2_DATASETS or
            ./datasets. A folder or file of one's own is found without it.

    Raises:
        ValueError: there is no such data set or split, or something of it is missing or damaged.
    """
    text, path = os.fspath(name), Path(name)
    key = _key(text)
    known = isinstance(name, str) and key in names()
    if os.path.exists(path) and not (known and (root is not None or not _is_own(path, split))):
        return _own(path, split)
    place = default_root() if root is None else Path(root)
    if key == GENERATED:
        return read_generated(place, split)
    if key in REFERRING_BENCHMARKS:
        return read_refer(key, place, split)
    if key in catalog.names():
        return catalog.read_benchmark(key, place, split)
    if os.sep in text or text.startswith("."):
        raise ValueError(f"{text} does not exist; {_forms()}")
    raise ValueError(unknown("data set", text, names(), f"{_KNOWN}; {_forms()}"))


def check_dataset(name: str, root: str | os.PathLike[str], *, split: str = "val") -> list[str]:
    """What is missing of a benchmark and where it comes from, a line each; empty: nothing.

    Raises:
        ValueError: no such benchmark or split.
    """
    key = find_name(name)
    if key == GENERATED:
        return check_generated(Path(root), split)
    if key in REFERRING_BENCHMARKS:
        return check_refer(key, Path(root), split)
    return catalog.check(key, root, split)


def find_name(name: str) -> str:
    """The benchmark of a name or alias, in capitals or not, as lists show it.

    Raises:
        ValueError: no such benchmark; the message gives the nearest one.
    """
    key = _key(name)
    if key in (GENERATED, *REFERRING_BENCHMARKS):
        return key
    if key not in catalog.names():
        raise ValueError(unknown("benchmark", name, names(), _KNOWN))
    return catalog.find(key).name


def names() -> list[str]:
    """Every name of a benchmark, aliases too."""
    return [*catalog.names(), *REFERRING_BENCHMARKS, GENERATED]


def default_root() -> Path:
    """Where benchmarks are looked for if no folder is given."""
    given = (os.environ.get(variable) for variable in ROOT_VARIABLES)
    return Path(next((folder for folder in given if folder), "datasets"))


def _key(name: str) -> str:
    return name.strip().lower()


def _is_own(path: Path, split: str) -> bool:
    """Whether a folder or file holds data of one's own in one of the layouts."""
    if path.suffix in (".lmdb", ".json"):
        return True
    files = (path / "refs.json", path / "classes.json")
    return any(file.is_file() for file in files) or _coco_file(path, split) is not None


def _own(path: Path, split: str) -> SemanticDataset | ReferringDataset:
    if path.suffix == ".lmdb":
        _check_name_of_split(path, split)
        return read_lmdb(path)
    if path.is_file():
        _check_name_of_split(path, split)
        return read_coco_json(path, split=split)
    if (path / "refs.json").is_file():
        return read_referring_folder(path, split)
    if (path / "classes.json").is_file():
        if (path / "images").is_dir():
            _check_no_split(path, split)
        return read_semantic_folder(path, split)
    annotations = _coco_file(path, split)
    if annotations is None:
        raise ValueError(f"{path} holds no data of the split {split!r}; {_forms()}")
    _check_name_of_split(annotations, split)
    return read_coco_json(annotations, split=split)


def _check_name_of_split(file: Path, split: str) -> None:
    """A file that is named after splits, or lies in a folder that is, is of these only.

    Raises:
        ValueError: it is of another one.
    """
    words = re.split(r"[\W_]+", file.stem)
    words += [word.rstrip("0123456789") for word in words]  # instances_val2017.json
    words.append(file.resolve().parent.name)
    words += ["val" for word in words if word.lower() in _VAL]
    if split.lower() in (word.lower() for word in words):
        return
    told = [word for word in words if word.lower() in SPLITS]
    if told:
        raise ValueError(
            f"{file} is of the split {told[0]!r} by its name, but {split!r} was asked for; ask for "
            f"split {told[0]!r}, or give another file"
        )
    _check_no_split(file, split)


def _check_no_split(place: Path, split: str) -> None:
    """Data without splits may be learned from or scored on, but not both without a word.

    Raises:
        ValueError: another split is asked for.
    """
    if split not in ("train", "val"):
        raise ValueError(
            f"{place} has no split {split!r}: it has no splits, and is 'val' or 'train' as a whole"
        )
    if split == "train":
        _logger.warning("%s has no splits: 'train' is the same data as 'val'", place)


def _coco_file(folder: Path, split: str) -> Path | None:
    """COCO's annotations in a folder, by the names that tools give them."""
    names = (
        f"{split}/_annotations.coco.json",
        *(["valid/_annotations.coco.json"] if split == "val" else []),
        f"{split}/annotations.json",
        f"annotations/{split}.json",
        f"annotations/instances_{split}.json",
        f"annotations/instances_{split}2017.json",
        "_annotations.coco.json",
        "annotations.json",
    )
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _forms() -> str:
    return (
        "a folder of one's own holds classes.json with images and masks, refs.json, or COCO's "
        "annotations.json"
    )
