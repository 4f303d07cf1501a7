"""Large pictures: tiles of them segmented by themselves, scores blended where tiles overlap.

rows of the file (pictures/strips.py) -> a row of tiles -> scores, faded in and out over the overlap
-> label map and confidence on disk. In memory are one row of tiles of the picture, the scores of
one tile, and of the row of tiles above those in the overlap, on disk too.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lexiseg.jobs.contest import AnySegmenter, Contest
from lexiseg.pictures.reading import MAX_PIXELS
from lexiseg.pictures.strips import Strips, open_strips, picture_size
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.result import Segmentation, none_index

TILE = 1024
Span = tuple[int, int]  # from, to


def segment_photo(
    segmenter: AnySegmenter,
    path: str | os.PathLike[str],
    labels: LabelsLike | LabelSet,
    *,
    background: BackgroundLike | Background = None,
    tile: int | None = None,
    scores: bool = False,
) -> Segmentation:
    """One file, in tiles if it is large.

    Args:
        segmenter: the model; its ``max_pixels`` is the limit of a file.
        path: the picture.
        labels: as for a segmenter.
        background: as for a segmenter.
        tile: pictures with a longer side than this go in tiles of this side; None: those of more
            than 40 megapixels in tiles of 1024.
        scores: keep all scores, of a picture that does not go in tiles.
    """
    side = tile_side(path, tile)
    if side is None:
        return segmenter(path, labels, background=background, scores=scores)
    return segment_large(segmenter, path, labels, background=background, tile=side)


def tile_side(path: str | os.PathLike[str], tile: int | None) -> int | None:
    """The side of the tiles of a file; None where it is looked at whole."""
    size = picture_size(path)
    if size is None:
        return None
    if tile is None:
        return TILE if prod(size) > MAX_PIXELS else None
    return tile if max(size) > tile else None


def segment_large(
    segmenter: AnySegmenter,
    path: str | os.PathLike[str],
    labels: LabelsLike | LabelSet,
    *,
    background: BackgroundLike | Background = None,
    tile: int = TILE,
    overlap: int | None = None,
    on_tile: Callable[[int, int], None] = lambda done, of: None,
) -> Segmentation:
    """One file in tiles, each of which the model sees as a picture of its own.

    The result's label map, confidence (16-bit floats) and image are mapped from files without a
    name, which go with them.

    Args:
        segmenter: the model; its ``max_pixels`` is the limit of the file.
        path: the picture.
        labels: as for a segmenter.
        background: as for a segmenter.
        tile: the longest side of a tile, in pixels.
        overlap: pixels that neighbours share, at most a quarter of a tile, by default an eighth;
            there the weight of one falls from 1 to 0 while that of the other rises.
        on_tile: told of each tile: how many are done, and of how many.

    Raises:
        ImageError: the picture cannot be read.
        ValueError: tile, overlap, labels or background are not as they must be.
    """
    overlap = tile // 8 if overlap is None else overlap
    if not 0 <= 4 * overlap <= tile:
        raise ValueError(
            f"tiles of {tile} pixels with an overlap of {overlap} came; the overlap is at most a "
            "quarter of the tile"
        )
    contest = Contest(segmenter, labels, background)
    strips = open_strips(path, max_pixels=segmenter.max_pixels)
    height, width = strips.size
    count = len(contest.labels)
    dtype = np.uint8 if none_index(count) == 255 else np.uint16
    label_map, confidence = _on_disk((height, width), dtype), _on_disk((height, width), np.float16)
    image = _on_disk((height, width, 3), np.uint8)
    blend = _Blend(spans(width, tile, overlap), width)
    rows = spans(height, tile, overlap)
    done, of = 0, len(rows) * len(blend.columns)
    for number, (top, bottom) in enumerate(rows):
        strip = _strip(strips, image, top, bottom, before=rows[number - 1][1] if number else 0)
        below = rows[number + 1][0] if number + 1 < len(rows) else bottom
        weights = _weights(rows, number)
        for index, (left, right) in enumerate(blend.columns):
            scores = contest.scores(np.ascontiguousarray(strip[:, left:right]))
            whole, until = blend.add(scores, index, weights, below - top)
            labelled, best = contest.decide(whole)
            label_map[top:below, left:until] = labelled
            confidence[top:below, left:until] = best
            done += 1
            on_tile(done, of)
    return Segmentation(
        contest.labels.labels, label_map, confidence, image=image, source=os.fspath(Path(path))
    )


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Tiles along a side: as few as may be, of one size, evenly apart, ``overlap`` or a pixel more.

    No place belongs to more than two.
    """
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    size = -(-(length + (count - 1) * overlap) // count)
    starts = [number * (length - size) // (count - 1) for number in range(count)]
    return [(start, start + size) for start in starts]


class _Blend:
    """Scores of tiles in the order of reading, added up with what overlaps from before.

    Attributes:
        columns: of each tile in a row, from where to where.
    """

    def __init__(self, columns: Sequence[Span], width: int) -> None:
        self.columns = columns
        self._width = width
        self._weights = [_weights(columns, index) for index in range(len(columns))]
        self._above: np.ndarray | None = None  # the band that the next row of tiles shares
        self._left = np.empty(0, dtype=np.float32)  # the band that the next tile shares

    def add(
        self,
        scores: Float[np.ndarray, "T h w"],
        index: int,
        weights: Float[np.ndarray, " h"],
        final: int,
    ) -> tuple[Float[np.ndarray, "T _ _"], int]:
        """The part of a tile that no later one adds to, and the column where it ends.

        Args:
            scores: of the tile.
            index: of the tile in its row.
            weights: of each line of the tile.
            final: so many lines of the tile no later row of tiles adds to.
        """
        left, right = self.columns[index]
        total = scores * weights[:, None] * self._weights[index]
        new = left  # columns before it hold what the tile to the left has added up
        if index:
            new = self.columns[index - 1][1]
            total[:, :, : new - left] += self._left
        if self._above is not None:
            band = self._above[:, :, new:right]
            total[:, : band.shape[1], new - left :] += band
        until = self.columns[index + 1][0] if index + 1 < len(self.columns) else right
        self._left = total[:, :, until - left :].copy()
        self._keep(total[:, final:], left, right, last=index + 1 == len(self.columns))
        return total[:, :final, : until - left], until

    def _keep(self, band: Float[np.ndarray, "T h w"], left: int, right: int, *, last: bool) -> None:
        """The lines that the next row of tiles shares; the old ones there have been used."""
        if left == 0:
            self._next = _on_disk((len(band), band.shape[1], self._width), np.float32)
        self._next[:, :, left:right] = band
        if last:
            self._above = self._next


def _weights(tiles: Sequence[Span], number: int) -> Float[np.ndarray, " _"]:
    """Of each place of a tile; those of all tiles add up to 1 everywhere."""
    start, stop = tiles[number]
    weights = np.ones(stop - start, dtype=np.float32)
    if number:
        shared = tiles[number - 1][1] - start
        weights[:shared] = (np.arange(shared, dtype=np.float32) + 0.5) / max(shared, 1)
    if number + 1 < len(tiles):
        shared = stop - tiles[number + 1][0]
        if shared:
            weights[-shared:] = 1 - (np.arange(shared, dtype=np.float32) + 0.5) / shared
    return weights


def _strip(
    strips: Strips, image: UInt8[np.ndarray, "H W 3"], top: int, bottom: int, *, before: int
) -> UInt8[np.ndarray, "h W 3"]:
    """The rows of a row of tiles: those before ``before`` have been read already."""
    image[before:bottom] = strips.read(bottom - before)
    return image[top:bottom]


def _on_disk(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros in a file without a name, which the system may take out of memory.

    Raises:
        OSError: the folder for temporary files has no room.
    """
    if not prod(shape):
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(prefix="lexiseg") as file:
        if hasattr(os, "posix_fallocate"):  # or a full disk would end the process by a signal
            os.posix_fallocate(file.fileno(), 0, prod(shape) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(file, dtype=dtype, mode="w+", shape=shape))
