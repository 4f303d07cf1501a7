"""The NumPy half beside torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.encoders.base import mean_directions
from lexiseg.images import Preprocess
from lexiseg.onnx import arrays

CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(17, 31), (64, 40), (1, 50), (120, 9)])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"shorter": 48, "multiple": 8, "filter": "bicubic"},
        {"longest": 40, "pad_multiple": 16},
        {"shorter": 30, "longest": 90, "pad_multiple": 7, "crop_padding": False},
    ],
)
def test_pixels_and_scores_go_the_same_way(size: tuple[int, int], choices: dict) -> None:
    preprocess = Preprocess(mean=(120.0, 116.7, 104.1), std=(68.5, 66.6, 70.3), **choices)
    image = CHANCE.integers(0, 256, (*size, 3), dtype=np.uint8)
    found, expected = arrays.prepared(preprocess, image), preprocess(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)
    scores = CHANCE.random((3, 5, 6), dtype=np.float32)
    restored = arrays.restored(preprocess, scores, size)
    expected = preprocess.restore(torch.from_numpy(scores), size)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (40, 3), (14, 10)])
def test_bilinear(size: tuple[int, int]) -> None:
    maps = CHANCE.random((4, 14, 10), dtype=np.float32)
    expected = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear")[0]
    np.testing.assert_allclose(arrays.bilinear(maps, size), expected.numpy(), rtol=0, atol=1e-6)


def test_directions() -> None:
    features = CHANCE.normal(size=(6, 8)).astype(np.float32)
    features[2] = 0
    counts = [1, 3, 2]
    expected = mean_directions(torch.from_numpy(features), counts)
    found = arrays.mean_directions(features, counts)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


def test_scores_of_any_logits() -> None:
    logits = CHANCE.normal(size=(5, 3, 4)).astype(np.float32) * 300
    tensor = torch.from_numpy(logits)
    np.testing.assert_allclose(arrays.softmax(logits), tensor.softmax(dim=0).numpy(), atol=1e-6)
    np.testing.assert_allclose(arrays.sigmoid(logits), tensor.sigmoid().numpy(), atol=1e-6)
    assert arrays.sigmoid(logits).dtype == np.float32
