import numpy as np
import pytest

from lexiseg.result import Segmentation


@pytest.fixture
def result() -> Segmentation:
    """A ring of "one" with an island of "two" in its hole, two more parts of "two", no "three"."""
    label_map = np.full((17, 23), 255, dtype=np.uint8)
    label_map[2:12, 3:15] = 0
    label_map[4:9, 5:13] = 255
    label_map[5:7, 6:9] = 1
    label_map[13:16, 1:4], label_map[12:14, 20:] = 1, 1
    label_map[3, 4] = 255  # another hole
    scores = np.random.default_rng(0).random((3, 17, 23)).astype(np.float32)
    confidence = scores.max(axis=0)
    labels = ("one", "zwei 二", "three")
    image = np.full((17, 23, 3), 90, dtype=np.uint8)
    return Segmentation(labels, label_map, confidence, scores, image, "holiday/street.jpg")
