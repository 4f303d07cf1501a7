"""Scores of label maps, all from one confusion matrix over the whole data set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer


class ConfusionMatrix:
    """Counts of (true class, predicted class) over all pixels that somebody labelled.

    Args:
        class_count: number of classes; ids are 0 to ``class_count - 1``.
        ignore_index: true id that is not counted. A *predicted* ``ignore_index`` ("none of these")
            is counted as wrong: it stands in one more column.
    """

    def __init__(self, class_count: int, *, ignore_index: int = 255) -> None:
        if class_count < 1:
            raise ValueError(f"class_count is {class_count}; at least one class is needed")
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
        if predicted.shape != true.shape:
            raise ValueError(f"predicted {predicted.shape} and true {true.shape} differ in size")
        counted = true != self.ignore_index
        rows = true[counted].astype(np.int64)
        columns = predicted[counted].astype(np.int64)
        columns[columns == self.ignore_index] = self.class_count
        for kind, ids, limit in (
            ("true", rows, self.class_count - 1),
            ("predicted", columns, self.class_count),
        ):
            if ids.size and not (ids.min() >= 0 and ids.max() <= limit):
                raise ValueError(
                    f"{kind} ids are {ids.min()} to {ids.max()}; {self.class_count} classes have "
                    f"0 to {self.class_count - 1}, and {self.ignore_index} for none"
                )
        width = self.class_count + 1
        flat = np.bincount(rows * width + columns, minlength=self.class_count * width)
        self.counts += flat.reshape(self.class_count, width)

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
    """

    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    class_iou: Float[np.ndarray, " T"]


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
