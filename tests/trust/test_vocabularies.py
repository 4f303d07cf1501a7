"""Label sets of every size, in any order, through every bundled model."""

from dataclasses import replace

import numpy as np
import pytest

from lexiseg.result import none_index
from lexiseg.segmenter import Segmenter
from tests.methods import contract
from tests.trust.conftest import BUNDLED, noise, small

SIZES = (1, 255, 256, 257, 1000)
TOLERANCE = 1e-5
QUICK = [name for name in BUNDLED if name in contract.TINY]


def tiny(name: str) -> Segmenter:
    """Weights drawn at random, in small towers where the contract has them."""
    segmenter = Segmenter(contract.make(name), device="cpu", templates=["{}"])
    preprocess = replace(segmenter.protocol.preprocess, shorter=None, longest=32)
    segmenter.protocol = replace(segmenter.protocol, preprocess=preprocess)
    return segmenter


def words(count: int) -> list[str]:
    return [f"thing {number}" for number in range(count)]


def check_size(segmenter: Segmenter, count: int) -> None:
    result = segmenter(noise(0), words(count))
    assert result.label_map.dtype == (np.uint8 if count <= 255 else np.uint16)
    assert result.none == none_index(count) >= count
    held = result.label_map[result.label_map != result.none]
    if segmenter.model.exclusive:
        assert held.size == result.label_map.size
    assert (held < count).all()
    assert np.isfinite(result.confidence).all()
    assert 0 <= result.confidence.min() <= result.confidence.max() <= 1
    assert len(result.table()) == count


def check_order(segmenter: Segmenter, count: int) -> None:
    labels, order = words(count), np.random.default_rng(0).permutation(count)
    straight = segmenter(noise(0), labels, scores=True)
    turned = segmenter(noise(0), [labels[index] for index in order], scores=True)
    assert straight.scores is not None
    assert turned.scores is not None
    assert np.abs(turned.scores - straight.scores[order]).max() <= TOLERANCE
    # Where two labels have all but the same score, their order may decide.
    best_two = np.sort(straight.scores, axis=0)[-2:]
    clear = best_two[-1] - best_two[0] > 2 * TOLERANCE
    back = np.append(order, np.full(turned.none + 1 - count, turned.none))  # none stays none
    np.testing.assert_array_equal(back[turned.label_map[clear]], straight.label_map[clear])


@pytest.mark.parametrize("name", QUICK)
def test_sizes_and_orders(name: str) -> None:
    segmenter = tiny(name)
    for count in SIZES:
        check_size(segmenter, count)
    check_order(segmenter, 257)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_sizes_and_orders_with_the_bundled_weights(name: str) -> None:
    for count in SIZES:
        check_size(small(name), count)
    check_order(small(name), 257)


@pytest.mark.parametrize("name", QUICK)
def test_no_labels_are_refused_and_words_are_not_kept_for_others(name: str) -> None:
    segmenter = tiny(name)
    with pytest.raises(ValueError, match="no labels came"):
        segmenter(noise(0), [])
    first = segmenter(noise(0), ["dog", "cat"])
    other = segmenter(noise(0), ["sky", "sea", "sand"])
    assert (first.labels, other.labels) == (("dog", "cat"), ("sky", "sea", "sand"))
    again = Segmenter(segmenter.model, device="cpu", templates=["{}"])
    again.protocol = segmenter.protocol
    fresh = again(noise(0), ["sky", "sea", "sand"])
    np.testing.assert_array_equal(other.label_map, fresh.label_map)
    np.testing.assert_array_equal(other.confidence, fresh.confidence)
