"""Boundary IoU (Cheng et al., CVPR 2021): IoU of the bands along the inside of masks' outlines.

Area IoU of a large region hardly feels whether its outline is right; this one feels nothing else.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

# Width of the band, as a share of the image's diagonal (the paper's choice for large photographs).
DILATION_RATIO = 0.02


def boundary(
    label_map: Integer[np.ndarray, "H W"], *, ratio: float = DILATION_RATIO
) -> Bool[np.ndarray, "H W"]:
    """True where a pixel lies at most ``d`` pixels from one of another label, or from the edge.

    That is each region without its erosion by a square of side ``2 d + 1``, all labels at once.
    ``d`` is ``ratio`` times the diagonal, rounded, at least 1.
    """
    height, width = label_map.shape
    distance = max(1, round(ratio * math.hypot(height, width)))
    labels = torch.from_numpy(label_map.astype(np.float32) + 1)[None, None]  # 0: outside
    labels = F.pad(labels, (distance,) * 4)
    lowest, highest = -_highest(-labels, distance), _highest(labels, distance)
    band: np.ndarray = (lowest != highest)[0, 0].numpy()
    return band


def boundary_counts(
    predicted: Integer[np.ndarray, "H W"],
    true: Integer[np.ndarray, "H W"],
    *,
    class_count: int,
    ignore_index: int,
) -> Int[np.ndarray, "3 T"]:
    """Of each class: pixels in both bands, in the predicted band, in the true band.

    What nobody judged is cut out of both maps first, so that its outline is in both bands.
    """
    predicted = np.where(true == ignore_index, ignore_index, predicted)
    called, is_true = (_band(each, class_count) for each in (predicted, true))
    both = np.where(called == is_true, is_true, class_count)
    counts = [
        np.bincount(band.ravel(), minlength=class_count + 1)[:class_count]
        for band in (both, called, is_true)
    ]
    return np.stack(counts)


def boundary_iou(counts: Int[np.ndarray, "3 T"]) -> Float[np.ndarray, " T"]:
    """Of each class; NaN where it has no band in the truth."""
    both, called, true = counts
    return np.where(true > 0, both / np.maximum(called + true - both, 1), np.nan)


def _band(label_map: Integer[np.ndarray, "H W"], class_count: int) -> Int[np.ndarray, "H W"]:
    """The labels along outlines; ``class_count`` elsewhere and for what is no class."""
    shown = boundary(label_map) & (label_map < class_count)
    return np.where(shown, label_map, class_count).astype(np.int64)


def _highest(maps: Float[Tensor, "1 1 H W"], distance: int) -> Float[Tensor, "1 1 h w"]:
    """The highest value in the square around each pixel; rows, then columns."""
    side = 2 * distance + 1
    return F.max_pool2d(F.max_pool2d(maps, (side, 1), stride=1), (1, side), stride=1)
