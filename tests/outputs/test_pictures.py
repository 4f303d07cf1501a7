from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.result import Segmentation


def test_the_label_map_and_the_scores_in_16_bits(result: Segmentation, tmp_path: Path) -> None:
    files = result.save(tmp_path, formats="png, confidence, maps")
    with Image.open(files["labels"]) as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.asarray(stored), result.label_map)
    with Image.open(files["confidence"]) as stored:
        np.testing.assert_allclose(np.asarray(stored) / 65535, result.confidence, atol=1e-5)
    assert result.scores is not None
    for number, scores in enumerate(result.scores, start=1):
        with Image.open(files[f"map {number}"]) as stored:
            np.testing.assert_allclose(np.asarray(stored) / 65535, scores, atol=1e-5)
    assert files["map 2"].name == "street_map_2_zwei-二.png"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.png", "PNG")]
)
def test_the_overlay_by_suffix(name: str, kind: str, result: Segmentation, tmp_path: Path) -> None:
    result.save(tmp_path / name, formats=["overlay"])
    with Image.open(tmp_path / name) as stored:
        assert stored.format == kind
        expected = np.asarray(result.plot(), dtype=int)
        assert np.abs(np.asarray(stored, dtype=int) - expected).mean() < (kind == "JPEG") * 4 + 0.1


def test_maps_without_scores(result: Segmentation, tmp_path: Path) -> None:
    without = Segmentation(result.labels, result.label_map, result.confidence)
    with pytest.raises(ValueError, match="scores=True"):
        without.save(tmp_path / "new", formats=["maps", "labels"])
    assert not (tmp_path / "new").exists()
