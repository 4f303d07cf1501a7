"""A segmenter scored on a data set: what is counted of each item, and the scores of all of them.

An item is a photograph, or in referring segmentation an object with its expressions. It is read,
segmented and counted by itself, so that the sums do not depend on what ran beside it. Photographs
go through the model one at a time, as in all five papers: with several, rounding would differ from
batch to batch, and a pixel on the border of two classes would fall now to one, now to the other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lexiseg.data.referring import ReferringDataset, ReferringSample
from lexiseg.data.semantic import SemanticDataset, SemanticSample
from lexiseg.evaluation.boundary import boundary_counts, boundary_iou
from lexiseg.evaluation.journal import Counted, Item
from lexiseg.evaluation.metrics import (
    ConfusionMatrix,
    ReferringScores,
    SemanticScores,
    overlap,
    referring_scores,
)
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.segmenter import Segmenter, expression_background

Scores = SemanticScores | ReferringScores


class SemanticEvaluation:
    """Label maps against label maps.

    Args:
        segmenter: the model with its protocol.
        dataset: photographs with label maps.
        labels: words in place of the data set's own.
        background: when a pixel has none of the labels, as for a :class:`Segmenter`. By default, if
            that is one of the data set's classes, the protocol's threshold for it or else the names
            of what else there is; if not, every pixel has a label.
        boundary: boundary IoU too.

    Raises:
        ValueError: ``labels`` are not as many as the data set's.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        dataset: SemanticDataset,
        *,
        labels: LabelsLike | LabelSet | None = None,
        background: BackgroundLike | Background = None,
        boundary: bool = False,
    ) -> None:
        self.segmenter = segmenter
        self.dataset = dataset
        self.boundary = boundary
        self.vocabulary = dataset.vocabulary(segmenter.protocol.authors)
        if labels is not None:
            words = LabelSet.of(labels)
            if len(words) != len(self.vocabulary.labels):
                raise ValueError(
                    f"{len(words)} labels came for the {len(self.vocabulary.labels)} of "
                    f"{dataset.name}; give one for each, in order"
                )
            self.vocabulary = replace(self.vocabulary, labels=words)
        given = Background.of(background)
        self.background = self._background() if given == Background() else given
        self.background.join(self.vocabulary.labels)  # a name that is in both is an error at once
        self._cells = self.matrix({}).cells

    def __len__(self) -> int:
        return len(self.dataset)

    def describe(self) -> dict[str, Any]:
        """All that decides the counts, beside the model."""
        return {
            "dataset_sha256": self.dataset.fingerprint(),
            "labels": self.vocabulary.labels.labels,
            "names": self.vocabulary.labels.names,
            "classes": self.vocabulary.classes,
            "class_of_none": self.vocabulary.none,
            "background": asdict(self.background),
            "boundary": self.boundary,
        }

    def read(self, index: int) -> SemanticSample:
        """The photograph and its label map."""
        return self.dataset[index]

    def count(self, sample: SemanticSample) -> Item:
        """Cells of the confusion matrix and how often each; classes and their boundary counts."""
        result = self.segmenter(sample.image, self.vocabulary.labels, background=self.background)
        nothing = self.dataset.ignore_index
        predicted = self.vocabulary.to_classes(result.label_map, nothing)
        item = self._cells(predicted, sample.label_map).tolist()
        if self.boundary:
            counts = boundary_counts(
                predicted,
                sample.label_map,
                class_count=len(self.dataset.class_names),
                ignore_index=nothing,
            )
            shown = np.flatnonzero(counts.any(axis=0))
            item += [shown.tolist(), *counts[:, shown].tolist()]
        return list(item)

    def matrix(self, counted: Counted) -> ConfusionMatrix:
        """The confusion matrix of what was counted."""
        matrix = ConfusionMatrix(
            len(self.dataset.class_names), ignore_index=self.dataset.ignore_index
        )
        for item in counted.values():
            matrix.add(np.array(item[:2], np.int64))
        return matrix

    def scores(self, counted: Counted) -> SemanticScores:
        """The scores of what was counted.

        Raises:
            ValueError: no labelled pixel was counted.
        """
        scores = self.matrix(counted).scores()
        if not self.boundary:
            return scores
        counts = np.zeros((3, len(self.dataset.class_names)), np.int64)
        for _, _, shown, *rows in counted.values():
            counts[:, shown] += np.array(rows, np.int64).reshape(3, -1)
        return replace(scores, boundary_iou=float(np.nanmean(boundary_iou(counts))))

    def _background(self) -> Background:
        """What the method's authors say, or else the vocabulary; or else no pixel goes without."""
        threshold = self.segmenter.protocol.thresholds.get(self.dataset.name)
        if self.vocabulary.none is not None and threshold is not None:
            return Background(threshold=threshold)
        if self.vocabulary.background:
            return Background(names=self.vocabulary.background)
        return Background(threshold=0.0)


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


Evaluation = SemanticEvaluation | ReferringEvaluation


def prepare_evaluation(
    segmenter: Segmenter, dataset: SemanticDataset | ReferringDataset, **choices: Any
) -> Evaluation:
    """The kind of evaluation that fits the data set; ``choices`` as its class takes them."""
    if isinstance(dataset, ReferringDataset):
        return ReferringEvaluation(segmenter, dataset, **choices)
    return SemanticEvaluation(segmenter, dataset, **choices)


def count_items(
    evaluation: Evaluation, items: Iterable[int], *, workers: int = 0
) -> Iterator[tuple[int, Item]]:
    """Read, segment and count items, in order.

    Args:
        evaluation: what is counted.
        items: their indices.
        workers: threads that read ahead, each at most two items; the counts are the same.

    Raises:
        ValueError: an item cannot be read or scored; the message names it.
    """
    for index, sample in _read(evaluation, items, workers):
        try:
            item = evaluation.count(sample)
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from error
        yield index, item


def evaluate(
    segmenter: Segmenter,
    dataset: SemanticDataset | ReferringDataset,
    *,
    workers: int = 0,
    on_item: Callable[[int], None] = lambda done: None,
    **choices: Any,
) -> Scores:
    """Score a segmenter on a data set.

    Args:
        segmenter: the model with its protocol.
        dataset: what to score it on.
        workers: threads that read ahead.
        on_item: called after each item with the number done.
        choices: ``labels``, ``background``, ``boundary``: see :class:`SemanticEvaluation` and
            :class:`ReferringEvaluation`.

    Raises:
        ValueError: an item cannot be read, or the choices do not fit the data set.
    """
    evaluation = prepare_evaluation(segmenter, dataset, **choices)
    counted: Counted = {}
    for index, item in count_items(evaluation, range(len(evaluation)), workers=workers):
        counted[index] = item
        on_item(len(counted))
    return evaluation.scores(counted)


def _read(evaluation: Evaluation, items: Iterable[int], workers: int) -> Iterator[tuple[int, Any]]:
    if workers < 1:
        for index in items:
            yield index, evaluation.read(index)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[int, Any]] = deque()
        for index in items:
            ahead.append((index, pool.submit(evaluation.read, index)))
            if len(ahead) > 2 * workers:
                first, sample = ahead.popleft()
                yield first, sample.result()
        for first, sample in ahead:
            yield first, sample.result()
