"""Label maps that change their numbers only: ADE20K-150, PASCAL VOC, COCO-Stuff, COCO-Object."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.catalog.layouts import COCO_GAPS
from lexiseg.data.prepare.jobs import Job, SourceError, find_folder, listed_names, png
from lexiseg.images import read_label_map

IGNORE = 255
STUFF_IDS = 182
FIRST_STUFF = 91
# Of each object class, as stored in the maps, its position from 1.
OBJECTS = {
    stored: position + 1
    for position, stored in enumerate(v for v in range(FIRST_STUFF) if v not in COCO_GAPS)
}


def plan_ade150(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """0 (other) becomes 255, class v becomes v - 1."""
    part = {"val": "validation", "train": "training"}[split]
    folder = find_folder(benchmark, root, [f"annotations/{part}"])
    rule = _table({0: IGNORE} | {v: v - 1 for v in range(1, 151)})
    for file in sorted((folder / "annotations" / part).glob("*.png")):
        yield _recode(file, folder / "annotations_detectron2" / part / file.name, rule)


def plan_voc(
    benchmark: Benchmark, root: Path, split: str, *, background: int, folder_name: str
) -> Iterator[Job]:
    """Class v becomes v - 1; 0 becomes ``background``; the 255 of the outlines stays.

    Args:
        benchmark: of the catalogue.
        root: where the data sets are.
        split: "val", or "train".
        background: what the pixels outside all objects become.
        folder_name: where it is written.
    """
    kinds = ("SegmentationClassAug", "SegmentationClass")
    folder = find_folder(benchmark, root, kinds)
    masks = next(folder / kind for kind in kinds if (folder / kind).exists())
    rule = _table({0: background, IGNORE: IGNORE} | {v: v - 1 for v in range(1, 21)})
    listing = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    for name in listed_names([listing], benchmark.masks_from):
        target = folder / folder_name / split / f"{name}.png"
        yield _recode(masks / f"{name}.png", target, rule)


def plan_stuff171(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """The 171 of 182 ids that are used become 0 to 170, in their order; the others 255."""
    folder, maps = _pixel_maps(benchmark, root, split)
    used = [v for v in range(STUFF_IDS) if v not in COCO_GAPS]
    kept = {v: position for position, v in enumerate(used)}
    rule = _table(dict.fromkeys(COCO_GAPS, IGNORE) | {IGNORE: IGNORE} | kept)
    for file in maps:
        yield _recode(file, folder / "annotations_detectron2" / f"{split}2017" / file.name, rule)


def plan_object81(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """The 80 object classes become 1 to 80, in their order; everything else is background, 0.

    This is how GroupViT and SegCLIP make their label maps: out of COCO-Stuff's, 255 included.
    """
    folder, maps = _pixel_maps(benchmark, root, split)
    rule = _table(dict.fromkeys([*range(STUFF_IDS), IGNORE], 0) | OBJECTS)
    for file in maps:
        name = f"{file.stem}_instanceTrainIds.png"
        yield _recode(file, folder / "annotations" / f"{split}2017" / name, rule)


def has_pixel_maps(benchmark: Benchmark, root: Path, split: str) -> bool:
    """Whether COCO-Stuff's label maps are there."""
    try:
        _pixel_maps(benchmark, root, split)
    except SourceError:
        return False
    return True


def _pixel_maps(benchmark: Benchmark, root: Path, split: str) -> tuple[Path, list[Path]]:
    """The folder of COCO-Stuff, and the label maps that were downloaded.

    What conversions have put beside them is left out.
    """
    kinds = [f"annotations/{split}2017", f"stuffthingmaps/{split}2017"]
    folder = find_folder(benchmark, root, kinds)
    for kind in kinds:
        maps = [p for p in (folder / kind).glob("*.png") if not p.stem.endswith("TrainIds")]
        if maps:
            return folder, sorted(maps)
    raise SourceError(
        f"{folder}: {' and '.join(kinds)} hold no label maps; get them from {benchmark.masks_from}"
    )


def _table(rule: Mapping[int, int]) -> Integer[np.ndarray, "256"]:
    """Of each stored number what it becomes; -1 where it must not occur."""
    table = np.full(256, -1, np.int16)
    table[list(rule)] = list(rule.values())
    return table


def _recode(file: Path, target: Path, table: Integer[np.ndarray, "256"]) -> Job:
    return Job((target,), (file,), partial(_recoded, file, table))


def _recoded(file: Path, table: Integer[np.ndarray, "256"]) -> list[bytes]:
    stored = read_label_map(file)
    if stored.max() > IGNORE:
        raise ValueError(f"{file}: holds the number {stored.max()}; the download has 8 bits")
    label_map = table[stored]
    if label_map.min() < 0:
        strange = np.unique(stored[label_map < 0]).tolist()[:5]
        raise ValueError(f"{file}: holds {strange}, which the download does not have; get it anew")
    return [png(label_map.astype(np.uint8))]
