"""A segmenter scored on a data set."""

from collections.abc import Callable

from lexiseg.data.semantic import SemanticDataset
from lexiseg.evaluation.metrics import ConfusionMatrix, SemanticScores
from lexiseg.prompts import LabelSet, LabelsLike
from lexiseg.segmenter import Segmenter


def evaluate(
    segmenter: Segmenter,
    dataset: SemanticDataset,
    *,
    labels: LabelsLike | None = None,
    on_image: Callable[[int], None] = lambda done: None,
) -> SemanticScores:
    """Segment every photograph with the data set's class names and score the label maps.

    Args:
        segmenter: the model with its protocol.
        dataset: photographs with label maps.
        labels: words for the classes, in their order, in place of the data set's own names.
        on_image: called after each photograph with the number done.

    Raises:
        ValueError: ``labels`` are not as many as the classes.
    """
    words = LabelSet.of(list(dataset.class_names) if labels is None else labels)
    if len(words) != len(dataset.class_names):
        raise ValueError(
            f"{len(words)} labels came for the {len(dataset.class_names)} classes of "
            f"{dataset.name}; give one for each, in order"
        )
    matrix = ConfusionMatrix(len(words), ignore_index=dataset.ignore_index)
    for index in range(len(dataset)):
        sample = dataset[index]
        matrix.update(segmenter(sample.image, words).label_map, sample.label_map)
        on_image(index + 1)
    return matrix.scores()
