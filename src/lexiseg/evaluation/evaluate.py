"""A segmenter scored on a data set: items are read, segmented and counted, and the sums scored.

An item is a photograph, or in referring segmentation an object with its expressions. It is read,
segmented and counted by itself, so that the sums do not depend on what ran beside it. Photographs
go through the model one at a time, as in all five papers: with several, rounding would differ from
batch to batch, and a pixel on the border of two classes would fall now to one, now to the other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lexiseg.data.referring import ReferringDataset
from lexiseg.data.semantic import SemanticDataset
from lexiseg.evaluation.journal import Counted, Item
from lexiseg.evaluation.metrics import ReferringScores, SemanticScores
from lexiseg.evaluation.referring import ReferringEvaluation
from lexiseg.evaluation.semantic import SemanticEvaluation
from lexiseg.segmenter import Segmenter

Scores = SemanticScores | ReferringScores
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
