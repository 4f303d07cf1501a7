"""What torch does around the graphs, in NumPy: pixels in, directions, scores at full size.

Letters beyond the library's: S places of a side that is resized, s places that it had.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64, UInt8

from lexiseg.pictures.preparation import Preparation

_CHUNK_NUMBERS = 16_000_000  # of scores at full size, so many are held at a time: 64 MB
_SMALLEST_LENGTH = 1e-12  # below it a direction counts as none, as in torch


def prepared(
    preparation: Preparation, image: UInt8[np.ndarray, "H W 3"]
) -> Float[np.ndarray, "3 h w"]:
    """The normalised array of one RGB image, as ``Preprocess`` makes it."""
    pixels = preparation.resized(image).astype(np.float32)
    mean, std = (np.array(each, dtype=np.float32) for each in (preparation.mean, preparation.std))
    pixels = (pixels - mean) / std
    height, width = preparation.padded_size(image.shape[0], image.shape[1])
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return np.ascontiguousarray(np.pad(pixels, ((0, below), (0, right), (0, 0))).transpose(2, 0, 1))


def restored(
    preparation: Preparation, scores: Float[np.ndarray, "T h w"], size: tuple[int, int]
) -> Float[np.ndarray, "T H W"]:
    """Scores of the prepared image, brought to the original ``size`` (height, width)."""
    if preparation.pad_multiple > 1 and preparation.crop_padding:
        before = preparation.resized_size(*size)
        scores = bilinear(scores, preparation.padded_size(*size))
        scores = scores[:, : before[0], : before[1]]
    return bilinear(scores, size)


def winners(
    view: Float[np.ndarray, "T h w"],
    size: tuple[int, int],
    preparation: Preparation,
    *,
    keep: int,
) -> tuple[Float[np.ndarray, "H W"], Int64[np.ndarray, "H W"], Float[np.ndarray, "_ H W"] | None]:
    """The best score of each pixel, the text that has it, and the maps of the first texts.

    Args:
        view: scores on the prepared image's grid.
        size: (height, width) of the picture.
        preparation: says how the grid is brought to that size.
        keep: so many maps are kept; None comes for 0.
    """
    kept = np.empty((keep, *size), dtype=np.float32) if keep else None
    best = np.full(size, -np.inf, dtype=np.float32)
    winner = np.zeros(size, dtype=np.int64)
    step = max(1, _CHUNK_NUMBERS // (size[0] * size[1]))
    for start in range(0, len(view), step):
        full = restored(preparation, view[start : start + step], size)
        if kept is not None and start < keep:
            kept[start : start + step] = full[: keep - start]
        position = full.argmax(axis=0)
        score = np.take_along_axis(full, position[None], axis=0)[0]
        winner = np.where(score > best, position + start, winner)
        best = np.maximum(score, best)
    return best, winner, kept


def bilinear(maps: Float[np.ndarray, "C h w"], size: tuple[int, int]) -> Float[np.ndarray, "C H W"]:
    """Resized maps, corners not aligned, no antialiasing."""
    if maps.shape[1:] == size:
        return maps
    down = interpolation(size[0], maps.shape[1])
    across = interpolation(size[1], maps.shape[2])
    return np.matmul(np.matmul(down, maps), across.T)


def interpolation(new: int, old: int) -> Float[np.ndarray, "S s"]:
    """The matrix that resizes a side: two neighbours' weights in each row."""
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    weight = (places - low).astype(np.float32)
    matrix = np.zeros((new, old), dtype=np.float32)
    rows = np.arange(new)
    matrix[rows, low] = 1 - weight
    matrix[rows, high] += weight  # at the last place both neighbours are one
    return matrix


def mean_directions(
    features: Float[np.ndarray, "P D"], counts: Sequence[int]
) -> Float[np.ndarray, "T D"]:
    """One vector of length one for each label, the mean of the directions of its ``counts``."""
    ends = np.cumsum(counts)[:-1]
    means = [part.mean(axis=0) for part in np.split(_directions(features), ends)]
    return _directions(np.stack(means))


def softmax(logits: Float[np.ndarray, "T h w"]) -> Float[np.ndarray, "T h w"]:
    """Scores of texts that compete."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def sigmoid(logits: Float[np.ndarray, "T h w"]) -> Float[np.ndarray, "T h w"]:
    """Scores of texts that are judged alone; the argument of exp is never above 0."""
    powers = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, powers) / (1 + powers)


def _directions(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, _SMALLEST_LENGTH)
