"""PASCAL Context with 59, 60 and 459 classes.

The 459 classes come as MATLAB files. The 59 that are scored most come from the annotations of
PASCAL in Detail, as published; where that file is missing, from the MATLAB files too, whose
numbering of the classes is the same.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Integer, UInt8

from lexiseg._extras import need
from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.prepare.coco_json import Photograph, paint, read_photographs
from lexiseg.data.prepare.jobs import Job, find_folder, listed_names, png, tif

LISTING_SOURCE = "https://github.com/cvlab-kaist/CAT-Seg (datasets/pascalcontext_val.txt)"
DETAIL = "trainval_merged.json"
CLASSES_459 = 459
IGNORE_459 = 459
IGNORE_59 = 255
# The scored classes among the 459, by their numbers there (from 1), in the order of the scores.
SCORED = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip


def plan_context459(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """Class v becomes v - 1 in a 16-bit TIFF; 0, nobody's, becomes 459."""
    folder = find_folder(benchmark, root, ["trainval"])
    matlab = _matlab()
    for name in _listed(folder, split):
        source = folder / "trainval" / f"{name}.mat"
        target = folder / "annotations_detectron2" / f"pc459_{split}" / f"{name}.tif"
        yield Job((target,), (source,), partial(_to_459, source, matlab))


def plan_context59(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """The scored classes become 0 to 58, everything else 255."""
    folder = find_folder(benchmark, root, [DETAIL, "trainval"])
    table = np.full(CLASSES_459 + 1, IGNORE_59, np.uint8)
    table[list(SCORED)] = np.arange(len(SCORED))
    for name, source, read in _sources(folder, split):
        target = folder / "annotations_detectron2" / f"pc59_{split}" / f"{name}.png"
        yield Job((target,), (source,), partial(_recoded, read, table))


def plan_context60(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """The scored classes become 1 to 59, everything else background, 0; and the listing file."""
    folder = find_folder(benchmark, root, [DETAIL, "trainval"])
    table = np.zeros(CLASSES_459 + 1, np.uint8)
    table[list(SCORED)] = np.arange(len(SCORED)) + 1
    listed = list(_sources(folder, split))
    for name, source, read in listed:
        target = folder / "SegmentationClassContext" / f"{name}.png"
        yield Job((target,), (source,), partial(_recoded, read, table))
    listing = folder / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    text = "".join(f"{name}\n" for name in sorted(name for name, _, _ in listed)).encode()
    if listed and not (listing.is_file() and listing.read_bytes() == text):
        yield Job((listing,), (), lambda: [text])


def _listed(folder: Path, split: str) -> list[str]:
    files = [
        folder / f"pascalcontext_{split}.txt",
        folder / "ImageSets" / "SegmentationContext" / f"{split}.txt",
    ]
    return listed_names(files, LISTING_SOURCE)


def _sources(folder: Path, split: str) -> Iterator[tuple[str, Path, Callable[[], np.ndarray]]]:
    """Of each photograph its name, the file that holds its map, and how to read that."""
    detail = folder / DETAIL
    if not detail.is_file():
        matlab = _matlab()
        for name in _listed(folder, split):
            file = folder / "trainval" / f"{name}.mat"
            yield name, file, partial(_read_matlab, file, matlab)
        return
    for photograph in read_photographs(detail, "image_id", "annos_segmentation", phase=split):
        yield photograph.stem, detail, partial(_paint_detail, photograph)


def _paint_detail(photograph: Photograph) -> Integer[np.ndarray, "H W"]:
    """The masks over each other, in the order of the file."""
    return paint(photograph, {v: v for v in range(CLASSES_459 + 1)})


def _matlab() -> ModuleType:
    return need("scipy.io", extra="data", purpose="reading the masks of PASCAL Context")


def _read_matlab(file: Path, matlab: ModuleType) -> Integer[np.ndarray, "H W"]:
    """The numbers of a file's LabelMap, 0 to 459."""
    try:
        content = io.BytesIO(file.read_bytes())
        label_map = matlab.loadmat(content, variable_names=["LabelMap"])["LabelMap"]
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file") from error
    except KeyError as error:
        raise ValueError(f"{file}: has no LabelMap") from error
    except Exception as error:  # a broken file makes scipy's reader raise nearly anything
        raise ValueError(f"{file}: is damaged ({error})") from error
    if label_map.ndim != 2 or label_map.size == 0 or label_map.dtype.kind not in "iuf":
        raise ValueError(f"{file}: LabelMap is {label_map.dtype} of shape {label_map.shape}")
    if label_map.min() < 0 or label_map.max() > CLASSES_459:
        raise ValueError(
            f"{file}: classes {label_map.min()} to {label_map.max()}; they are 0 to {CLASSES_459}"
        )
    return label_map.astype(np.int64)


def _to_459(file: Path, matlab: ModuleType) -> list[bytes]:
    label_map = _read_matlab(file, matlab)
    return [tif(np.where(label_map == 0, IGNORE_459, label_map - 1).astype(np.uint16))]


def _recoded(read: Callable[[], np.ndarray], table: UInt8[np.ndarray, " N"]) -> list[bytes]:
    return [png(table[read()])]
