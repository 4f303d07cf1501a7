"""ADE20K-847: the full ADE20K of 2021, its classes hidden in the colours of the masks."""

import io
import json
from collections.abc import Iterator
from functools import cache, partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Integer, UInt8
from PIL import Image as PILImage

from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.paths import walk
from lexiseg.data.prepare.jobs import Job, find_folder, tif

IGNORE = 65535
SHORTER = 512


def plan_ade847(benchmark: Benchmark, root: Path, split: str) -> Iterator[Job]:
    """NAME_seg.png becomes a 16-bit NAME.tif of 0 to 846 and 65535; the photograph shrinks along.

    Where the shorter side is longer than 512 both are made that small: the photograph bilinearly
    without smoothing, the label map by the nearest pixel. Every photograph is stored anew, upright
    or not as its pixels are, as the authors of the benchmark's results do.
    """
    part = {"val": "validation", "train": "training"}[split]
    folder = find_folder(benchmark, root, [f"images/ADE/{part}"])
    scenes = folder / "images" / "ADE" / part
    for inner in sorted(walk(scenes)):
        if inner.suffix != ".jpg":
            continue
        photograph = scenes / inner
        mask = photograph.with_name(f"{photograph.stem}_seg.png")
        targets = (
            folder / "images_detectron2" / part / photograph.name,
            folder / "annotations_detectron2" / part / f"{photograph.stem}.tif",
        )
        yield Job(targets, (photograph, mask), partial(_convert, photograph, mask))


def _convert(photograph: Path, mask: Path) -> list[bytes]:
    image, coded = _pixels(photograph), _pixels(mask)
    if image.shape != coded.shape:
        raise ValueError(
            f"{mask}: {coded.shape[:2]} (height, width), but {photograph.name} is {image.shape[:2]}"
        )
    stored = coded[..., 0].astype(np.int64) // 10 * 256 + coded[..., 1]
    label_map = class_table()[stored]
    size = small_size(*label_map.shape)
    if size != label_map.shape:
        image, label_map = shrink_image(image, size), shrink_label_map(label_map, size)
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, format="JPEG")
    return [buffer.getvalue(), tif(label_map)]


@cache
def class_table() -> Integer[np.ndarray, " N"]:
    """Of each number that the colours can hold the class, 0 to 846, or 65535."""
    file = resources.files("lexiseg").joinpath("assets", "ids", "ade847.json")
    ids = json.loads(file.read_text(encoding="utf-8"))["ids"]
    table = np.full(255 // 10 * 256 + 256, IGNORE, np.uint16)
    table[ids] = np.arange(len(ids))
    return table


def small_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) with a shorter side of at most 512, the aspect ratio kept."""
    if min(height, width) <= SHORTER:
        return height, width
    if width >= height:
        return SHORTER, round(width / height * SHORTER)
    return round(height / width * SHORTER), SHORTER


def shrink_image(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> np.ndarray:
    """Bilinear between the four nearest pixels, without smoothing, as OpenCV resizes."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    return small[0].permute(1, 2, 0).round().to(torch.uint8).contiguous().numpy()


def shrink_label_map(label_map: Integer[np.ndarray, "H W"], size: tuple[int, int]) -> np.ndarray:
    """The pixel at floor(position x scale), as OpenCV's nearest neighbour takes it."""
    rows, columns = (
        np.minimum((np.arange(short) * (1 / (short / long))).astype(np.int64), long - 1)
        for short, long in zip(size, label_map.shape, strict=True)
    )
    return label_map[np.ix_(rows, columns)]


def _pixels(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB as it is stored: EXIF's orientation, which the masks do not follow, is left alone."""
    try:
        with PILImage.open(file) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file") from error
    except Exception as error:  # broken files make Pillow raise nearly anything
        raise ValueError(f"{file}: is damaged ({error})") from error
