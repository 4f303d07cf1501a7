"""What is counted of expressions: the intersection and the union of each mask with the true one."""

from dataclasses import asdict, replace
from typing import Any

from lexiseg.data.referring import ReferringDataset, ReferringSample
from lexiseg.evaluation.boundary import boundary_counts
from lexiseg.evaluation.journal import Counted, Item
from lexiseg.evaluation.metrics import ReferringScores, overlap, referring_scores
from lexiseg.expressions import expression_background
from lexiseg.prompts import Background, BackgroundLike
from lexiseg.segmenter import Segmenter


class ReferringEvaluation:
    """Masks against masks, one for each expression.

    A segmenter whose model judges each label alone, or scores it by itself, gives the pixels that
    reach its threshold; where labels compete by softmax, those where the expression wins against
    ``background``. A background name that is the expression itself is left out. See
    :meth:`Segmenter.refer`.

    Args:
        segmenter: the model with its protocol.
        dataset: photographs, expressions and masks.
        background: as for a :class:`Segmenter`; by default as described above.
        boundary: boundary IoU too.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        dataset: ReferringDataset,
        *,
        background: BackgroundLike | Background = None,
        boundary: bool = False,
    ) -> None:
        self.segmenter = segmenter
        self.dataset = dataset
        self.boundary = boundary
        self.background = expression_background(segmenter.model, Background.of(background))

    def __len__(self) -> int:
        return len(self.dataset)

    def describe(self) -> dict[str, Any]:
        """All that decides the counts, beside the model."""
        return {
            "dataset_sha256": self.dataset.fingerprint(),
            "background": asdict(self.background),
            "boundary": self.boundary,
        }

    def read(self, index: int) -> ReferringSample:
        """The photograph, its expressions and the mask."""
        return self.dataset[index]

    def count(self, sample: ReferringSample) -> Item:
        """Of each expression, intersection and union; and those of the boundaries."""
        rows = []
        found = self.segmenter.refer(sample.image, sample.expressions, background=self.background)
        for predicted in found.masks:
            row = list(overlap(predicted, sample.mask))
            if self.boundary:
                both, called, true = boundary_counts(
                    predicted.astype(int), sample.mask.astype(int), class_count=2, ignore_index=2
                )[:, 1].tolist()
                row += [both, called + true - both]
            rows.append(row)
        return [list(column) for column in zip(*rows, strict=True)]

    def scores(self, counted: Counted) -> ReferringScores:
        """The scores of what was counted.

        Raises:
            ValueError: nothing was counted.
        """
        rows = [row for index in sorted(counted) for row in zip(*counted[index], strict=True)]
        scores = referring_scores([row[:2] for row in rows])
        if not self.boundary:
            return scores
        return replace(scores, boundary_iou=referring_scores([row[2:] for row in rows]).mean_iou)
