"""Sliding windows: cut, run, blend; one implementation for every method."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, Tiling

Box = tuple[int, int, int, int]  # top, left, height, width


def protocol_scores(
    model: SegmentationModel,
    protocol: Protocol,
    images: Float[Tensor, "B 3 H W"],
    texts: Texts,
) -> Float[Tensor, "B T h w"]:
    """Scores, or logits where the protocol blends those, on the grid of the prepared images.

    Args:
        model: what is asked.
        protocol: says whether the images go whole or in windows.
        images: prepared, all of one size.
        texts: of the model.
    """
    activation = None if protocol.logits_blended else model.activation
    if protocol.tiling is None:
        return activate(model(images, texts), activation)
    return sliding_scores(
        lambda views: model(views, texts), images, protocol.tiling, activation=activation
    )


def sliding_scores(
    run: Callable[[Float[Tensor, "N 3 h w"]], Float[Tensor, "N T _ _"]],
    images: Float[Tensor, "B 3 H W"],
    tiling: Tiling,
    *,
    activation: Activation | None,
    crop_batch: int = 4,
) -> Float[Tensor, "B T h w"]:
    """Scores of the whole of each image, put together from those of its windows.

    The logits of a window are brought to its size, turned into scores, added up where windows
    overlap, and divided by the number of windows there. Only ``crop_batch`` windows are held at a
    time.

    Args:
        run: logits of a few views at once, on whatever grid.
        images: prepared, all of one size.
        tiling: what the windows are.
        activation: what turns logits into scores; None averages the logits themselves.
        crop_batch: views given to ``run`` at once.

    Returns:
        Scores on the grid that was cut: ``tiling.squash``, or else the images' own.

    Raises:
        ValueError: ``crop_batch`` is below 1, or there is no image.
    """
    if crop_batch < 1 or not len(images):
        raise ValueError(
            f"{len(images)} images came in batches of {crop_batch} windows; "
            "at least one of each is needed"
        )
    canvas = images if tiling.squash is None else resize(images, tiling.squash)
    size = (canvas.shape[-2], canvas.shape[-1])

    def view_scores(views: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N T h w"]:
        inside = (views.shape[-2], views.shape[-1])
        if tiling.input_size is not None:
            views = resize(views, (tiling.input_size, tiling.input_size))
        return activate(resize(run(views), inside), activation)

    total, count = None, canvas.new_zeros(size)
    windows = [(index, box) for box in boxes(size, tiling) for index in range(len(images))]
    for first in range(0, len(windows), crop_batch):
        group = windows[first : first + crop_batch]
        scores = view_scores(torch.stack([crop(canvas[index], box) for index, box in group]))
        if total is None:
            total = scores.new_zeros(len(images), scores.shape[1], *size)
        for (index, box), of_window in zip(group, scores, strict=True):
            crop(total[index], box).add_(of_window)
    for box in boxes(size, tiling):
        crop(count[None], box).add_(1)
    assert total is not None  # there is at least one window
    total /= count
    if tiling.whole_size is not None:
        views = resize(images, (tiling.whole_size, tiling.whole_size))
        for index in range(len(images)):
            whole = resize(view_scores(views[index : index + 1]), size)
            total[index] = (total[index] + whole[0]) / 2
    return total


def activate(
    logits: Float[Tensor, "B T h w"], activation: Activation | None
) -> Float[Tensor, "B T h w"]:
    """Scores between 0 and 1: softmax over the texts, or sigmoid of each; None leaves logits."""
    if activation is None:
        return logits
    return logits.softmax(dim=1) if activation == "softmax" else logits.sigmoid()


def boxes(size: tuple[int, int], tiling: Tiling) -> Iterator[Box]:
    """Windows row by row; the last of a row or column ends at the edge of the image."""
    height, width = (min(tiling.window, side) for side in size)
    for top in starts(size[0], tiling):
        for left in starts(size[1], tiling):
            yield top, left, height, width


def starts(length: int, tiling: Tiling) -> list[int]:
    """Where windows begin along a side of ``length`` pixels."""
    last = max(0, length - tiling.window)
    return [*range(0, last, tiling.stride), last]


def crop(maps: Float[Tensor, "C H W"], box: Box) -> Float[Tensor, "C h w"]:
    """The part of maps within a box, as a view of them."""
    top, left, height, width = box
    return maps[:, top : top + height, left : left + width]


def resize(maps: Float[Tensor, "B C _ _"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Bilinear, corners not aligned; untouched where the size is right already."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
