"""GeoJSON (RFC 7946): a feature for each label that is there, a MultiPolygon with holes."""

from typing import Any

import numpy as np

from lexiseg.outputs.base import Segmented, Transform, json_bytes
from lexiseg.outputs.outlines import Part, Point, area_of, parts

Ring = list[list[float | int]]
_PIXELS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def geojson(result: Segmented, transform: Transform | None = None) -> bytes:
    """Features in pixels, x to the right and y down, or where an affine transform takes them.

    Args:
        result: what is written.
        transform: (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f, of the corners of
            pixels; for readers of maps it must lead to degrees of longitude and latitude.

    Raises:
        ValueError: the transform is not six finite numbers, or flattens the picture.
    """
    matrix = _checked(_PIXELS if transform is None else transform)
    features: list[dict[str, Any]] = []
    for index, row in enumerate(result.table()):
        if not row["share"]:
            continue
        polygons = [
            [_ring(outline, matrix) for outline in _simple(part)]
            for part in parts(result.label_map == index)
        ]
        features.append(
            {
                "type": "Feature",
                "properties": {"index": index, **row},
                "geometry": {"type": "MultiPolygon", "coordinates": polygons},
            }
        )
    return json_bytes({"type": "FeatureCollection", "features": features})


def _checked(transform: Transform) -> np.ndarray:
    matrix = np.array(transform, dtype=np.float64)
    if matrix.shape != (6,) or not np.isfinite(matrix).all():
        raise ValueError(f"transform {transform!r} came; give six finite numbers (a, b, ..., f)")
    matrix = matrix.reshape(2, 3)
    if np.linalg.det(matrix[:, :2]) == 0:
        raise ValueError(f"transform {transform!r} flattens the picture; a e must not equal b d")
    return matrix


def _simple(part: Part) -> list[list[Point]]:
    """The outer ring and then the holes, none of which touches itself, as readers of maps require.

    Where an outline comes to a corner again, what lies between is a loop of its own.
    """
    loops: list[list[Point]] = []
    for outline in (part.outer, *part.holes):
        open_loop: list[Point] = []
        places: dict[Point, int] = {}
        for corner in outline:
            if corner in places:
                start = places[corner]
                loops.append(open_loop[start:])
                for gone in open_loop[start:]:
                    del places[gone]
                del open_loop[start:]
            places[corner] = len(open_loop)
            open_loop.append(corner)
        loops.append(open_loop)
    return sorted(loops, key=lambda loop: area_of(loop) < 0)


def _ring(outline: list[Point], matrix: np.ndarray) -> Ring:
    """Closed; around a region counter-clockwise, around a hole clockwise (RFC 7946, 3.1.6).

    As numbers in pixels outlines run so already; a transform that mirrors turns them.
    """
    placed = np.array(outline, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]
    if np.linalg.det(matrix[:, :2]) < 0:
        placed = placed[::-1]
    closed = np.concatenate([placed, placed[:1]])
    return [[_short(x), _short(y)] for x, y in closed.tolist()]


def _short(number: float) -> float | int:
    return int(number) if number.is_integer() else number
