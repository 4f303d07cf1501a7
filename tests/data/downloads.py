"""The downloads of the benchmarks, made small, and their conversion."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image
from pycocotools import mask as coco_api

from lexiseg.data.prepare import Outcome, plan, run

U8 = np.uint8


def save(file: Path, pixels: Any, dtype: type = U8, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype)).save(file, **options)
    return file


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def read(file: Path) -> list[list[int]]:
    with Image.open(file) as image:
        pixels = np.array(image)
    assert pixels.ndim == 2
    return pixels.tolist()


def packed(mask: Any) -> dict[str, Any]:
    """COCO's own compressed run lengths, as JSON files hold them."""
    coded = coco_api.encode(np.asfortranarray(mask, dtype=U8))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def prepare(
    name: str,
    root: Path,
    *,
    split: str = "val",
    workers: int = 1,
    on_file: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Does what there is to do, and gives the failures."""
    failures = []
    with closing(run(plan(name, root, split), workers=workers)) as outcomes:
        for outcome in outcomes:
            if on_file is not None:
                on_file(outcome)
            if outcome.state == "failed":
                failures.append(outcome)
    return failures


def ade150(root: Path) -> None:
    folder = root / "ADEChallengeData2016" / "annotations" / "validation"
    for number in (1, 2, 3):
        save(folder / f"ADE_val_0000000{number}.png", [[0, 1], [150, number]])


def ade_full(root: Path, size: tuple[int, int], colours: list[list[int]]) -> Path:
    """A photograph and a mask whose left and right halves have two colours."""
    folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / "validation" / "home" / "bedroom"
    height, width = size
    mask = np.zeros((height, width, 3), U8)
    mask[:, : width // 2], mask[:, width // 2 :] = colours
    save(folder / "ADE_val_00000001.jpg", np.full((height, width, 3), 90))
    save(folder / "ADE_val_00000001_seg.png", mask)
    return root / "ADE20K_2021_17_01"


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    write(folder / "ImageSets" / "Segmentation" / "val.txt", "2007_000033\n2007_000042\n")
    palette = [0, 0, 0, 128, 0, 0]
    for name, pixels in {"2007_000033": [[0, 1, 255]], "2007_000042": [[20, 0, 0]]}.items():
        mask = Image.fromarray(np.array(pixels, U8))
        mask.putpalette(palette + [7] * (768 - len(palette)))
        file = folder / "SegmentationClass" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        mask.save(file)
    return folder


def stuff(root: Path, kind: str = "annotations") -> Path:
    folder = root / "coco-stuff" / kind / "val2017"
    # person, stop sign (after the first gap), toothbrush, banner, wood, nobody's
    save(folder / "000000000139.png", [[0, 12, 89], [91, 181, 255]])
    return folder


def objects() -> dict[str, Any]:
    crowd = np.zeros((4, 5), U8)
    crowd[:, 3:] = 1
    column_runs = [8, 8, 4]  # columns 2 and 3 of 5, four pixels high
    rows = [
        {"category_id": 90, "segmentation": [[4, 0, 5, 0, 5, 2, 4, 2]], "iscrowd": 0},
        {"category_id": 13, "segmentation": {"size": [4, 5], "counts": column_runs}},
        {"category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]], "iscrowd": 0},
        {"category_id": 3, "segmentation": packed(crowd), "iscrowd": 1},
    ]
    return {
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": 4, "width": 5},
            {"id": 7, "file_name": "000000000007.jpg", "height": 1, "width": 2},
        ],
        "annotations": [{"image_id": 139, **row} for row in rows],
    }


def context(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2010"
    write(folder / "pascalcontext_val.txt", "2008_000002\n2008_000003\n")
    (folder / "trainval").mkdir()
    # aeroplane (2), wood (458), the last class (459), accordion (1), nobody's (0)
    for name, row in {"2008_000002": [2, 458, 459], "2008_000003": [1, 0, 440]}.items():
        content = {"LabelMap": np.array([row], np.uint16)}
        scipy.io.savemat(folder / "trainval" / f"{name}.mat", content, do_compression=True)
    return folder


def detail(root: Path) -> Path:
    """The annotations of PASCAL in Detail: of each photograph one mask a class."""
    above, corner = np.zeros((2, 3), U8), np.zeros((2, 3), U8)
    above[0], corner[0, 2] = 1, 1
    listed = [
        {"image_id": 1, "file_name": "2008_000008.jpg", "phase": "val", "height": 2, "width": 3},
        {"image_id": 2, "file_name": "2008_000009.jpg", "phase": "train", "height": 2, "width": 3},
    ]
    rows = [
        {"image_id": 1, "category_id": 440, "segmentation": packed(above)},
        {"image_id": 2, "category_id": 9, "segmentation": packed(above)},
        {"image_id": 1, "category_id": 2, "segmentation": packed(corner)},
    ]
    folder = root / "VOCdevkit" / "VOC2010"
    content = {"images": listed, "annos_segmentation": rows, "annos_boundary": []}
    write(folder / "trainval_merged.json", content)
    return folder


def street(*rows: tuple[str, list[list[int]]]) -> dict[str, Any]:
    listed = [{"label": label, "polygon": polygon} for label, polygon in rows]
    return {"imgHeight": 3, "imgWidth": 4, "objects": listed}


ALL = [[0, 0], [3, 0], [3, 2], [0, 2]]
LEFT = [[0, 0], [1, 0], [1, 2], [0, 2]]
TOP = [[0, 0], [3, 0], [3, 0], [0, 0]]
