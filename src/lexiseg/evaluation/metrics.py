"""Scores, all from integers that are added up over the whole data set.

Label maps: one confusion matrix. Referring: the intersection and the union of every expression.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

# Prec@X: the share of expressions whose IoU exceeds X.
PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)


class ConfusionMatrix:
    """Counts of (true class, predicted class) over all pixels that somebody labelled.

    Args:
        class_count: number of classes; ids are 0 to ``class_count - 1``.
        ignore_index: true id that is not counted. A *predicted* ``ignore_index`` ("none of these")
            is counted as wrong: it stands in one more column.

    Attributes:
        counts: a row for each true class, a column for each predicted one and one for "none".
    """

    def __init__(self, class_count: int, *, ignore_index: int = 255) -> None:
        if class_count < 1:
            raise ValueError(f"class_count is {class_count}; at least one class is needed")
        if 0 <= ignore_index < class_count:
            raise ValueError(f"ignore_index {ignore_index} is one of the {class_count} classes")
        self.class_count = class_count
        self.ignore_index = ignore_index
        self.counts = np.zeros((class_count, class_count + 1), np.int64)

    def update(
        self, predicted: Integer[np.ndarray, "_ _"], true: Integer[np.ndarray, "_ _"]
    ) -> None:
        """Count one image.

        Raises:
            ValueError: the maps differ in size or hold an id out of range.
        """
        self.add(self.cells(predicted, true))

    def cells(
        self, predicted: Integer[np.ndarray, "_ _"], true: Integer[np.ndarray, "_ _"]
    ) -> Int[np.ndarray, "2 _"]:
        """The cells of the matrix that one image touches, row by row, and how often.

        Raises:
            ValueError: the maps differ in size or hold an id out of range.
        """
        if predicted.shape != true.shape:
            raise ValueError(f"predicted {predicted.shape} and true {true.shape} differ in size")
        counted = true != self.ignore_index
        rows, columns = true[counted], predicted[counted]
        called = columns != self.ignore_index
        for kind, ids in (("true", rows), ("predicted", columns[called])):
            if ids.size and not (ids.min() >= 0 and ids.max() < self.class_count):
                raise ValueError(
                    f"{kind} ids are {ids.min()} to {ids.max()}; {self.class_count} classes have "
                    f"0 to {self.class_count - 1}, and {self.ignore_index} for none"
                )
        columns = np.where(called, columns, self.class_count)
        flat = np.bincount(rows.astype(np.int64) * (self.class_count + 1) + columns)
        touched = np.flatnonzero(flat)
        return np.stack([touched, flat[touched]])

    def add(self, cells: Int[np.ndarray, "2 _"]) -> None:
        """Count what :meth:`cells` gave."""
        self.counts.ravel()[cells[0]] += cells[1]

    def scores(self) -> "SemanticScores":
        """The scores of all that was counted."""
        return semantic_scores(self.counts)


@dataclass(frozen=True)
class SemanticScores:
    """Fractions from 0 to 1.

    Attributes:
        mean_iou: mean over the classes that occur in the truth.
        pixel_accuracy: share of the labelled pixels that are right.
        mean_accuracy: mean over the classes that occur of the share of their pixels that are right.
        frequency_weighted_iou: IoU weighted by each class's share of the labelled pixels.
        class_iou: of each class; NaN for a class that does not occur in the truth.
        boundary_iou: as ``mean_iou``, along the outlines only; None where it was not counted.
    """

    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    class_iou: Float[np.ndarray, " T"]
    boundary_iou: float | None = None


def semantic_scores(counts: Int[np.ndarray, "T T1"]) -> SemanticScores:
    """Scores from a confusion matrix of (true, predicted), one column more for "none of these".

    IoU of a class is its right pixels over all that are this class or were called so.

    Raises:
        ValueError: nothing was counted.
    """
    total = counts.sum()
    if total == 0:
        raise ValueError("no labelled pixel was counted; every pixel was ignored")
    right = np.diag(counts).astype(np.float64)
    true = counts.sum(axis=1).astype(np.float64)
    called = counts.sum(axis=0)[: len(counts)]
    occurs = true > 0
    union = true + called - right
    iou = np.full(len(counts), np.nan)
    iou[occurs] = right[occurs] / union[occurs]
    return SemanticScores(
        mean_iou=float(iou[occurs].mean()),
        pixel_accuracy=float(right.sum() / total),
        mean_accuracy=float((right[occurs] / true[occurs]).mean()),
        frequency_weighted_iou=float((iou[occurs] * true[occurs]).sum() / total),
        class_iou=iou,
    )


@dataclass(frozen=True)
class ReferringScores:
    """Fractions from 0 to 1. Papers call either of the two IoUs "IoU": both are always given.

    Attributes:
        mean_iou: mean over the expressions of the IoU of each.
        overall_iou: all intersections together over all unions together.
        precision: of each X in ``PRECISION_AT``, the share of expressions whose IoU exceeds X.
        iou: of each expression; 0 where the prediction and the truth are both empty.
        boundary_iou: as ``mean_iou``, along the outlines only; None where it was not counted.
    """

    mean_iou: float
    overall_iou: float
    precision: dict[float, float]
    iou: Float[np.ndarray, " N"]
    boundary_iou: float | None = None


def overlap(predicted: Bool[np.ndarray, "_ _"], true: Bool[np.ndarray, "_ _"]) -> tuple[int, int]:
    """Pixels in both masks, and pixels in either.

    Raises:
        ValueError: the masks differ in size.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} differ in size")
    return int((predicted & true).sum()), int((predicted | true).sum())


def referring_scores(overlaps: Sequence[tuple[int, int]]) -> ReferringScores:
    """Scores from the (intersection, union) of every expression.

    Raises:
        ValueError: there is no expression.
    """
    if not overlaps:
        raise ValueError("no expression was scored")
    both, either = np.array(overlaps, np.int64).T
    iou = both / np.maximum(either, 1)
    return ReferringScores(
        mean_iou=float(iou.mean()),
        overall_iou=float(both.sum() / max(int(either.sum()), 1)),
        precision={at: float((iou > at).mean()) for at in PRECISION_AT},
        iou=iou,
    )
