"""A segmenter scored on a data set."""

from collections.abc import Callable

from lexiseg.data.semantic import IGNORE_INDEX, SemanticDataset
from lexiseg.evaluation.metrics import ConfusionMatrix, SemanticScores
from lexiseg.segmenter import Segmenter


def evaluate(
    segmenter: Segmenter,
    dataset: SemanticDataset,
    *,
    on_image: Callable[[int], None] = lambda done: None,
) -> SemanticScores:
    """Segment every photograph with the data set's class names and score the label maps.

    Args:
        segmenter: the model with its protocol.
        dataset: photographs with label maps.
        on_image: called after each photograph with the number done.
    """
    matrix = ConfusionMatrix(len(dataset.class_names), ignore_index=IGNORE_INDEX)
    labels = list(dataset.class_names)
    for index in range(len(dataset)):
        sample = dataset[index]
        matrix.update(segmenter(sample.image, labels).label_map, sample.label_map)
        on_image(index + 1)
    return matrix.scores()
