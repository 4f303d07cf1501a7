"""Outlines: a mask as polygons that run along the edges of its pixels, and so say it exactly."""

import numpy as np
from jaxtyping import Bool

Point = tuple[int, int]  # (x, y), a corner of pixels

# With the region on the right hand: above it one walks to the right, and so on around.
_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def outlines(mask: Bool[np.ndarray, "H W"]) -> list[list[Point]]:
    """The closed outlines of a mask, each by its corners, from top to bottom.

    Those around regions run clockwise, those around holes counter-clockwise, so that the shoelace
    areas add up to the pixels of the mask. Pixels that only touch at a corner are apart.
    """
    leaving = _edges(mask)
    found = []
    for start in sorted(leaving, key=lambda corner: (corner[1], corner[0])):
        while leaving.get(start):
            found.append(_walk(start, leaving))
    return found


def box_of(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int] | None:
    """The box around a mask, (x1, y1, x2, y2); x2 and y2 lie just beyond; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def area_of(outline: list[Point]) -> float:
    """The pixels inside an outline, negative where it runs around a hole."""
    x, y = np.array(outline, dtype=np.int64).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _edges(mask: Bool[np.ndarray, "H W"]) -> dict[Point, list[Point]]:
    """At each corner, the directions in which edges leave it."""
    padded = np.pad(mask, 1)
    here = padded[1:-1, 1:-1]
    sides = (
        (~padded[:-2, 1:-1], (0, 0), _RIGHT),
        (~padded[1:-1, 2:], (1, 0), _DOWN),
        (~padded[2:, 1:-1], (1, 1), _LEFT),
        (~padded[1:-1, :-2], (0, 1), _UP),
    )
    leaving: dict[Point, list[Point]] = {}
    for is_edge, (right, below), direction in sides:
        for y, x in np.argwhere(here & is_edge).tolist():
            leaving.setdefault((x + right, y + below), []).append(direction)
    return leaving


def _walk(start: Point, leaving: dict[Point, list[Point]]) -> list[Point]:
    """One outline, its edges taken out of ``leaving``."""
    corners: list[Point] = []
    corner, heading = start, (0, 0)
    while True:
        choices = leaving[corner]
        # Where two pixels touch at a corner, the turn to the right stays with the same pixel.
        direction = _turned(heading) if _turned(heading) in choices else choices[0]
        choices.remove(direction)
        if direction != heading:
            corners.append(corner)
        corner, heading = (corner[0] + direction[0], corner[1] + direction[1]), direction
        if corner == start and _turned(heading) not in leaving[start]:
            return corners


def _turned(heading: Point) -> Point:
    """To the right, where y runs down."""
    return -heading[1], heading[0]
