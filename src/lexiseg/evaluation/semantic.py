"""What is counted where each pixel has a class: a confusion matrix, and bands along outlines."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lexiseg.data.semantic import SemanticDataset, SemanticSample
from lexiseg.evaluation.boundary import boundary_counts, boundary_iou
from lexiseg.evaluation.journal import Counted, Item
from lexiseg.evaluation.metrics import ConfusionMatrix, SemanticScores
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.segmenter import Segmenter


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
