"""YOLO's segmentation text: a line a polygon, ``class x1 y1 x2 y2 ...`` as parts of the sides."""

from lexiseg.outputs.base import Segmented
from lexiseg.outputs.outlines import parts


def yolo(result: Segmented) -> bytes:
    """A line for each connected part of each label, which is named by its position from 0.

    Holes are joined by cuts, as for COCO's polygons.
    """
    height, width = result.label_map.shape
    lines = []
    for index, row in enumerate(result.table()):
        if not row["share"]:
            continue
        for part in parts(result.label_map == index):
            numbers = (f"{x / width:.8g} {y / height:.8g}" for x, y in part.keyhole)
            lines.append(f"{index} {' '.join(numbers)}\n")
    return "".join(lines).encode("ascii")
