"""Outlines: a mask as polygons that run along the edges of its pixels, and so say it exactly."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

Point = tuple[int, int]  # (x, y), a corner of pixels

# With the region on the right hand: above it one walks to the right, and so on around.
_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


@dataclass(frozen=True)
class Part:
    """One connected region of a mask.

    Attributes:
        outer: the outline around it, clockwise as it is seen.
        holes: the outlines around its holes, counter-clockwise.
        keyhole: one outline for all, each hole joined by a cut that is walked in both directions;
            by the even-odd rule and by that of winding numbers it holds the same pixels.
    """

    outer: list[Point]
    holes: list[list[Point]]
    keyhole: list[Point]


def parts(mask: Bool[np.ndarray, "H W"]) -> list[Part]:
    """The connected regions of a mask with their holes, from top to bottom.

    Pixels that only touch at a corner are two regions.
    """
    box = box_of(mask)
    if box is None:
        return []
    left, top, right, bottom = box
    rings = outlines(mask[top:bottom, left:right])
    rings = [[(x + left, y + top) for x, y in ring] for ring in rings]
    hosts = _hosts(rings)
    joined = _joined(rings, hosts)
    found: dict[int, Part] = {}
    owners: list[int] = []
    for number, (ring, host) in enumerate(zip(rings, hosts, strict=True)):
        owners.append(number if host is None else owners[host.ring])
        if host is None:
            found[number] = Part(ring, [], joined[number])
        else:
            found[owners[number]].holes.append(ring)
    return list(found.values())


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


class _Host(NamedTuple):
    """Where the cut from a hole to the left arrives: at this side of this ring, at this x."""

    ring: int
    side: int
    x: int


def _hosts(rings: list[list[Point]]) -> list[_Host | None]:
    """Of each hole what lies to its left; None for the rings around regions.

    One pixel to the left of a hole's first corner lies its region, and so do the pixels up to the
    left end of that run. That end is a side of the outer ring, or of a hole that begins further up
    or to the left: hosts come before their guests.
    """
    rows = sorted({ring[0][1] for ring in rings if area_of(ring) < 0})
    ends: dict[int, list[tuple[int, int, int]]] = {row: [] for row in rows}
    for number, ring in enumerate(rings):
        for side, ((x, low), (_, high)) in enumerate(zip(ring, [*ring[1:], ring[0]], strict=True)):
            if high < low:  # upwards, the region to the right
                for row in rows[bisect_left(rows, high) : bisect_left(rows, low)]:
                    ends[row].append((x, number, side))
    for row in rows:
        ends[row].sort()
    hosts: list[_Host | None] = []
    for ring in rings:
        if area_of(ring) > 0:
            hosts.append(None)
            continue
        x, y = ring[0]
        left, host, side = ends[y][bisect_left(ends[y], (x, 0, 0)) - 1]
        hosts.append(_Host(host, side, left))
    return hosts


def _joined(rings: list[list[Point]], hosts: list[_Host | None]) -> list[list[Point]]:
    """Each ring with the holes that hang on it; the last rings first, as hosts come first."""
    guests: list[list[tuple[int, int, list[Point]]]] = [[] for _ in rings]
    joined: list[list[Point]] = [[] for _ in rings]
    for number in reversed(range(len(rings))):
        ring, hanging = rings[number], sorted(guests[number], key=lambda guest: guest[:2])
        around: list[Point] = []
        done = 0
        for side, _, loop in hanging:
            around += ring[done : side + 1]
            around += loop
            done = side + 1
        joined[number] = around + ring[done:]
        host = hosts[number]
        if host is not None:
            y = ring[0][1]
            loop = [(host.x, y), *joined[number], ring[0], (host.x, y)]
            guests[host.ring].append((host.side, -y, loop))  # the side is walked upwards
    return joined


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
