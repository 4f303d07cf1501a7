"""COCO's JSON of annotations (https://cocodataset.org/#format-data), read by pycocotools.

Beside COCO's own keys stand those of the table, which its readers pass over.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from lexiseg.outputs.base import Segmented, json_bytes, summary
from lexiseg.outputs.outlines import area_of, box_of, parts


def coco_regions(result: Segmented) -> bytes:
    """A run-length mask for each label that is there, exact, with all its holes and parts."""
    return json_bytes(_record(result, _runs(result)))


def coco_polygons(result: Segmented) -> bytes:
    """A polygon for each connected part of each label.

    COCO's polygons know no holes: here a cut leads to each, walked in both directions, and every
    reader that counts crossings or windings finds the pixels of the mask.
    """
    return json_bytes(_record(result, _polygons(result)))


def _record(result: Segmented, annotations: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Categories count from 1, in the order of the labels."""
    height, width = result.label_map.shape
    image = {"id": 1, "file_name": result.source or "", "height": height, "width": width}
    return {
        **summary(result),
        "images": [image],
        "categories": [
            {"id": number, "name": label, "supercategory": ""}
            for number, label in enumerate(result.labels, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": 1, "iscrowd": 0, **annotation}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def _runs(result: Segmented) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(result.table()):
        mask = result.label_map == index
        box = box_of(mask)
        if box is None:
            continue
        runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        yield {
            "category_id": index + 1,
            "segmentation": {"size": runs["size"], "counts": runs["counts"].decode("ascii")},
            "area": int(mask.sum()),
            "bbox": _coco_box(box),
            "score": row["confidence"],
        }


def _polygons(result: Segmented) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(result.table()):
        if not row["share"]:
            continue
        for part in parts(result.label_map == index):
            x, y = zip(*part.outer, strict=True)
            yield {
                "category_id": index + 1,
                "segmentation": [[number for point in part.keyhole for number in point]],
                "area": int(area_of(part.keyhole)),
                "bbox": _coco_box((min(x), min(y), max(x), max(y))),
                "score": row["confidence"],
            }


def _coco_box(box: tuple[int, int, int, int]) -> list[int]:
    """COCO's boxes are left, top, width, height."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
