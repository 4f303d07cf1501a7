"""One door to every data set: by the name of a benchmark, or by a folder or file of one's own."""

import os
from pathlib import Path

from lexiseg.data import catalog
from lexiseg.data.coco import read_coco_json
from lexiseg.data.referring import (
    REFERRING_BENCHMARKS,
    ReferringDataset,
    check_refer,
    read_lmdb,
    read_refer,
    read_referring_folder,
)
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder
from lexiseg.registry import unknown

ROOT_VARIABLES = ("LEXISEG_DATA", "DETECTRON2_DATASETS")
_KNOWN = f"Known are {', '.join([*catalog.BENCHMARKS, *REFERRING_BENCHMARKS])}"


def open_dataset(
    name: str | os.PathLike[str], *, split: str = "val", root: str | os.PathLike[str] | None = None
) -> SemanticDataset | ReferringDataset:
    """The data set that a user means.

    Args:
        name: a benchmark, such as "ade150" or "refcoco"; or a folder with classes.json (photographs
            and masks), refs.json (photographs, expressions and masks) or COCO's annotations; or a
            file of COCO's annotations (.json) or of the CRIS authors (.lmdb).
        split: which part of it.
        root: the folder of the benchmarks; by default $LEXISEG_DATA, $DETECTRON2_DATASETS or
            ./datasets. A folder or file of one's own is found without it.

    Raises:
        ValueError: there is no such data set, or something of it is missing or damaged.
    """
    text, path = os.fspath(name), Path(name)
    if path.is_dir() or path.is_file():
        return _own(path, split)
    place = default_root() if root is None else Path(root)
    if text in REFERRING_BENCHMARKS:
        return read_refer(text, place, split)
    if text.strip().lower() in catalog.names():
        return catalog.read_benchmark(text, place, split)
    if os.sep in text or text.startswith("."):
        raise ValueError(f"{text} does not exist; {_forms()}")
    raise ValueError(unknown("data set", text, names(), f"{_KNOWN}; {_forms()}"))


def check_dataset(name: str, root: str | os.PathLike[str], *, split: str = "val") -> list[str]:
    """What is missing of a benchmark and where it comes from, a line each; empty: nothing.

    Raises:
        ValueError: no such benchmark or split.
    """
    if name in REFERRING_BENCHMARKS:
        return check_refer(name, Path(root), split)
    if name.strip().lower() not in catalog.names():
        raise ValueError(unknown("benchmark", name, names(), _KNOWN))
    return catalog.check(name, root, split)


def names() -> list[str]:
    """Every name of a benchmark, aliases too."""
    return [*catalog.names(), *REFERRING_BENCHMARKS]


def default_root() -> Path:
    """Where benchmarks are looked for if no folder is given."""
    given = (os.environ.get(variable) for variable in ROOT_VARIABLES)
    return Path(next((folder for folder in given if folder), "datasets"))


def _own(path: Path, split: str) -> SemanticDataset | ReferringDataset:
    if path.suffix == ".lmdb":
        return read_lmdb(path)
    if path.is_file():
        return read_coco_json(path, split=split)
    if (path / "refs.json").is_file():
        return read_referring_folder(path, split)
    if (path / "classes.json").is_file():
        return read_semantic_folder(path, split)
    annotations = _coco_file(path, split)
    if annotations is None:
        raise ValueError(f"{path}: {_forms()}")
    return read_coco_json(annotations, split=split)


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
