"""Cityscapes: label maps painted out of polygons."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.paths import walk
from lexiseg.data.prepare.jobs import Job, find_folder, png
from lexiseg.images import MAX_PIXELS

IGNORE = 255

SCORED = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
UNSCORED = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
)  # fmt: skip
LARGEST_COORDINATE = 1e6
NOT_PAINTED = "license plate"
CITYSCAPES = dict.fromkeys(UNSCORED, IGNORE) | {name: i for i, name in enumerate(SCORED)}


def plan_cityscapes19(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """NAME_polygons.json becomes NAME_labelTrainIds.png beside it: 0 to 18, and 255."""
    folder = find_folder(benchmark, root, [f"gtFine/{split}"])
    part = folder / "gtFine" / split
    for inner in sorted(walk(part)):
        if not inner.name.endswith("_polygons.json"):
            continue
        file = part / inner
        stem = file.name.removesuffix("_polygons.json")
        target = file.with_name(f"{stem}_labelTrainIds.png")
        yield Job((target,), (file,), partial(_paint, file))


def _paint(file: Path) -> list[bytes]:
    """The polygons over each other, in the order of the file."""
    try:
        content = json.loads(file.read_bytes())
        height, width = int(content["imgHeight"]), int(content["imgWidth"])
        shapes = [
            (str(row["label"]), [(float(x), float(y)) for x, y in row["polygon"]])
            for row in content["objects"]
            if not row.get("deleted")
        ]
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file}: is damaged ({error!r})") from error
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise ValueError(f"{file}: {height} x {width}; a photograph has 1 to {MAX_PIXELS} pixels")
    canvas = PILImage.new("L", (width, height), IGNORE)
    draw = ImageDraw.Draw(canvas)
    for label, corners in shapes:
        name = _class_of(label, file)
        if name == NOT_PAINTED:
            continue
        if len(corners) < 2 or not np.abs(corners).max() <= LARGEST_COORDINATE:
            raise ValueError(f"{file}: a polygon of {label!r} has no corners, or one far outside")
        draw.polygon(corners, fill=CITYSCAPES[name])
    return [png(np.array(canvas))]


def _class_of(label: str, file: Path) -> str:
    """A group of things ("cargroup") has the class of one of them, unless it has its own."""
    for name in (label, label.removesuffix("group")):
        if name in CITYSCAPES or name == NOT_PAINTED:
            return name
    raise ValueError(f"{file}: unknown label {label!r}; Cityscapes has none such")
