"""Colours that tell apart, for any number of labels."""

import functools

import numpy as np
from jaxtyping import Float, UInt8

Colour = tuple[int, int, int]

# Twelve that tell apart at a glance; the rest are computed to stay away from all before them.
_FIRST = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (255, 225, 25),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (170, 110, 40),
    (0, 128, 128),
    (250, 190, 212),
    (128, 128, 0),
)


def colours(count: int) -> UInt8[np.ndarray, "T 3"]:
    """Distinct RGB colours, the same ones at every call; fewer are the first of more.

    Beyond about 2,000 they come round again.
    """
    table = _all_colours()
    return table[np.arange(count) % len(table)]


def as_colour(row: UInt8[np.ndarray, "3"]) -> Colour:
    """A row of a palette as Pillow wants it."""
    return int(row[0]), int(row[1]), int(row[2])


@functools.lru_cache(maxsize=1)
def _all_colours() -> UInt8[np.ndarray, "N 3"]:
    """The first colours by hand, then always the candidate farthest from all chosen before."""
    candidates = _candidates()
    lab = _oklab(candidates)
    chosen = [np.array(colour, dtype=np.uint8) for colour in _FIRST]
    distance = np.full(len(candidates), np.inf)
    for colour in chosen:
        distance = np.minimum(distance, np.square(lab - _oklab(colour[None])).sum(axis=1))
    while distance.max() > 0:
        farthest = int(distance.argmax())
        chosen.append(candidates[farthest])
        distance = np.minimum(distance, np.square(lab - lab[farthest]).sum(axis=1))
    return np.stack(chosen)


def _candidates() -> UInt8[np.ndarray, "N 3"]:
    """A grid of colours without those too dark or too light to be seen as a colour."""
    steps = np.linspace(0, 255, 13)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid.round().astype(np.uint8)
    lightness = _oklab(grid)[:, 0]
    return grid[(lightness > 0.35) & (lightness < 0.95)]


def _oklab(rgb: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Oklab coordinates, in which distances look alike (Ottosson 2020)."""
    linear = np.where(rgb > 10, ((rgb / 255 + 0.055) / 1.055) ** 2.4, rgb / 255 / 12.92)
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_cones.T) @ to_lab.T
