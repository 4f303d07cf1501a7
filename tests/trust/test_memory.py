"""What 200 predictions leave behind in memory."""

import gc

import numpy as np
import pytest

from lexiseg import Segmenter
from tests.conftest import Painter
from tests.trust.conftest import noise, resident, small

CALLS, WARM_UP, STEP = 200, 50, 15
MOST_GROWTH = 0.1  # megabytes a call


def growth(segmenter: Segmenter) -> float:
    """Megabytes a call, of pictures of changing sizes and ten sets of words in turn."""
    held = []
    for number in range(CALLS):
        words = [f"thing {number % 10} {part}" for part in range(2 + number % 5)]
        segmenter(noise(number % 3, 24 + 8 * (number % 4), 48 - 8 * (number % 3)), words)
        if number >= WARM_UP and number % STEP == 0:
            gc.collect()
            held.append(resident())
    slope, _ = np.polyfit(STEP * np.arange(len(held)), held, 1)
    return float(slope)


def test_the_segmenter_itself() -> None:
    assert growth(Segmenter(Painter(), device="cpu")) < MOST_GROWTH


@pytest.mark.slow
@pytest.mark.parametrize("name", ["catseg_lite", "escnet_lite", "freeda_lite", "two_stage_lite"])
def test_bundled_models(name: str) -> None:
    assert growth(small(name)) < MOST_GROWTH
