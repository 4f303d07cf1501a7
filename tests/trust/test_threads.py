"""One segmenter, asked by many at once, or twice: always the same answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lexiseg import Segmentation
from tests.trust.conftest import BUNDLED, noise, small

THREADS = 8
# Of different lengths, so that they are of different shapes too.
WORDS = [
    [f"{colour} {thing}" for thing in ("car", "wall", "tree", "sky")[: 1 + number % 4]]
    for number, colour in enumerate(
        ("red", "green", "blue", "white", "black", "old", "wooden", "bright")
    )
]
PICTURES = [noise(number, 40 + 4 * number, 72 - 4 * number) for number in range(THREADS)]


def same(one: Segmentation, other: Segmentation) -> bool:
    return (
        one.labels == other.labels
        and one.label_map.tobytes() == other.label_map.tobytes()
        and one.confidence.tobytes() == other.confidence.tobytes()
    )


@pytest.mark.parametrize("name", BUNDLED)
def test_eight_threads_with_words_and_pictures_of_their_own(name: str) -> None:
    """Each thread asks as soon as all are there; no text has been encoded before."""
    segmenter, start = small(name), threading.Barrier(THREADS)
    segmenter._cache.clear()

    def ask(number: int) -> Segmentation:
        start.wait(60)
        return segmenter(PICTURES[number], WORDS[number])

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(ask, range(THREADS)))
    alone = [segmenter(picture, words) for picture, words in zip(PICTURES, WORDS, strict=True)]
    assert all(map(same, together, alone))
    assert not same(alone[0], segmenter(PICTURES[0], WORDS[1]))


@pytest.mark.parametrize("name", BUNDLED)
def test_the_same_question_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """With what is kept of texts and without; the files too."""
    segmenter, kinds = small(name), ["labels", "overlay", "json", "coco", "geojson", "yolo", "npz"]
    files = []
    for place in ("a", "b"):
        segmenter._cache.clear()
        result = segmenter(PICTURES[0], WORDS[3], scores=True)
        files.append(result.save(tmp_path / place, "it", formats=kinds))
        kept = segmenter(PICTURES[0], WORDS[3], scores=True)
        assert same(result, kept)
        np.testing.assert_array_equal(result.scores, kept.scores)
    first, second = files
    assert all(first[kind].read_bytes() == second[kind].read_bytes() for kind in first)
    assert len(first) == len(kinds)
