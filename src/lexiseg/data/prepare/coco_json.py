"""Label maps painted out of one JSON file of masks: COCO's annotations, PASCAL in Detail's."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.masks import RunLengths
from lexiseg.data.paths import plain_name
from lexiseg.data.prepare.jobs import Job, SourceError, png
from lexiseg.data.prepare.recoding import OBJECTS
from lexiseg.images import MAX_PIXELS


@dataclass(frozen=True)
class Photograph:
    """What a JSON file holds of one photograph.

    Attributes:
        file: the JSON file.
        stem: the photograph's name without its ending.
        size: (height, width).
        annotations: objects with "category_id" and "segmentation", in the order of the file.
    """

    file: Path
    stem: str
    size: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]


def find_annotations(benchmark: Benchmark, root: Path, split: str) -> Path | None:
    """COCO's annotations of objects, where they are there."""
    places = (root / place / "annotations" for place in benchmark.places)
    files = (place / f"instances_{split}2017.json" for place in places)
    return next((file for file in files if file.is_file()), None)


def plan_object_annotations(file: Path, split: str) -> Iterator[Job]:
    """The label maps of COCO-Object out of COCO's own annotations.

    Smaller objects lie on larger ones, as everywhere that this library reads COCO's annotations.
    Results are published on maps out of COCO-Stuff's, to which this comes near.
    """
    for photograph in read_photographs(file, "id", "annotations"):
        name = f"{photograph.stem}_instanceTrainIds.png"
        target = file.parent / f"{split}2017" / name
        yield Job((target,), (file,), partial(_paint_objects, photograph))


def _paint_objects(photograph: Photograph) -> list[bytes]:
    classes = {stored + 1: label for stored, label in OBJECTS.items()}
    return [png(paint(photograph, classes, smaller_on_top=True).astype(np.uint8))]


def read_photographs(
    file: Path, id_key: str, annotations_key: str, *, phase: str | None = None
) -> list[Photograph]:
    """The photographs of a JSON file, by name, each with its annotations.

    Args:
        file: it is read as a whole, and what is not needed is dropped.
        id_key: what a photograph's row calls its id.
        annotations_key: what the file calls its masks.
        phase: only photographs of this "phase"; None takes all.

    Raises:
        SourceError: the file cannot be understood.
    """
    try:
        content = json.loads(file.read_bytes())
        listed = [row for row in content["images"] if phase is None or row["phase"] == phase]
        rows: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        wanted = {row[id_key] for row in listed}
        for row in content[annotations_key]:
            if row["image_id"] in wanted:
                rows[row["image_id"]].append(row)
        del content
        photographs = [
            Photograph(
                file,
                Path(plain_name(row["file_name"], source=str(file))).stem,
                _size(row),
                rows.get(row[id_key], []),
            )
            for row in listed
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{file}: cannot be understood ({error!r}); get it anew") from error
    return sorted(photographs, key=lambda photograph: photograph.stem)


def paint(
    photograph: Photograph, classes: Mapping[int, int], *, smaller_on_top: bool = False
) -> UInt16[np.ndarray, "H W"]:
    """The masks over each other on a ground of 0.

    Args:
        photograph: whose they are.
        classes: of each category of the file the number to paint.
        smaller_on_top: paint the larger ones first, those of one size in the order of the file;
            otherwise all in the order of the file.

    Raises:
        ValueError: a mask is damaged, or of a category that the file cannot have.
    """
    try:
        masks = []
        for row in photograph.annotations:
            if row["category_id"] not in classes:
                raise ValueError(f"category {row['category_id']} is unknown")
            mask = RunLengths.of_segmentation(row["segmentation"], photograph.size)
            masks.append((mask, classes[row["category_id"]]))
        if smaller_on_top:
            masks.sort(key=lambda pair: -pair[0].area)
        label_map = np.zeros(photograph.size, np.uint16)
        for mask, number in masks:
            label_map[mask.mask()] = number
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{photograph.file}: a mask of {photograph.stem} is damaged ({error!r})"
        ) from error
    return label_map


def _size(row: Mapping[str, Any]) -> tuple[int, int]:
    height, width = int(row["height"]), int(row["width"])
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise ValueError(f"{row['file_name']} is {height} x {width}")
    return height, width
