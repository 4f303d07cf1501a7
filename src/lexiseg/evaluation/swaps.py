"""Whether a model hears the word that matters: two sentences of one photograph, a word apart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from lexiseg.data.referring import ReferringDataset
from lexiseg.data.referring.references import Reference
from lexiseg.data.referring.training import by_photograph
from lexiseg.evaluation.metrics import overlap
from lexiseg.segmenter import Segmenter

OPPOSITES = (
    *(("left", "right"), ("leftmost", "rightmost"), ("upper", "lower"), ("top", "bottom")),
    *(("topmost", "lowest"), ("larger", "smaller"), ("largest", "smallest")),
)


@dataclass(frozen=True)
class Swap:
    """Two sentences that differ in one word, each true of its own object.

    Attributes:
        word: of the first sentence.
        sentences: both.
        objects: what they mean.
    """

    word: str
    sentences: tuple[str, str]
    objects: tuple[Reference, Reference]


@dataclass(frozen=True)
class SwapScores:
    """What becomes of the masks when a word is exchanged.

    Attributes:
        pairs: of sentences.
        told_apart: share of them, 0 to 1, where both masks fit their own object better than the
            other one's.
        moved: share of them where the two masks overlap by less than half.
    """

    pairs: int
    told_apart: float
    moved: float


def swaps_of(objects: Sequence[Reference]) -> Iterator[Swap]:
    """Every pair of sentences of one photograph that one of ``OPPOSITES`` tells apart."""
    meant = {s: each for each in objects for s in each.read_expressions()}
    for sentence, one in meant.items():
        words = sentence.split(" ")
        for word, opposite in OPPOSITES:
            other = " ".join(opposite if each == word else each for each in words)
            if word in words and other in meant and meant[other] is not one:
                yield Swap(word, (sentence, other), (one, meant[other]))


def score_swaps(
    segmenter: Segmenter,
    dataset: ReferringDataset,
    *,
    on_photograph: Callable[[int], None] = lambda done: None,
) -> dict[str, SwapScores]:
    """Ask for both sentences of every pair, and compare both masks with both objects.

    The scores are by the word of the first sentence, and "all" together at the end.

    Args:
        segmenter: the model with its protocol.
        dataset: objects with sentences; those of one photograph are compared.
        on_photograph: called after each photograph with the number done.

    Raises:
        ValueError: no photograph has such a pair.
    """
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for done, objects in enumerate(by_photograph(dataset), start=1):
        pairs = list(swaps_of(objects))
        if pairs:
            sentences = list(dict.fromkeys(s for pair in pairs for s in pair.sentences))
            found = segmenter.refer(objects[0].read().image, sentences)
            truth = {id(each): each.read().mask for pair in pairs for each in pair.objects}
        for pair in pairs:
            masks = [found.mask(sentence) for sentence in pair.sentences]
            own = [truth[id(each)] for each in pair.objects]
            told = _fits(masks, own) and _fits(masks[::-1], own[::-1])
            rows.setdefault(pair.word, []).append((told, _iou(masks[0], masks[1]) < 0.5))
        on_photograph(done)
    if not rows:
        raise ValueError(f"{dataset.name} has no two sentences that differ in a word of opposites")
    rows["all"] = [row for each in rows.values() for row in each]
    shares = {word: np.mean(each, axis=0) for word, each in rows.items()}
    return {w: SwapScores(len(rows[w]), float(t), float(m)) for w, (t, m) in shares.items()}


def _fits(masks: Sequence[np.ndarray], own: Sequence[np.ndarray]) -> bool:
    """Whether the first mask fits the first object better than the second one."""
    return _iou(masks[0], own[0]) > _iou(masks[0], own[1])


def _iou(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "H W"]) -> float:
    both, either = overlap(one, other)
    return both / max(either, 1)
