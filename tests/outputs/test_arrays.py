from pathlib import Path

import numpy as np

from lexiseg.result import Segmentation


def test_numpy_reads_all_back(result: Segmentation, tmp_path: Path) -> None:
    result.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert stored["labels"].tolist() == list(result.labels)
        assert stored["none"] == 255
        for name in ("label_map", "confidence", "scores"):
            np.testing.assert_array_equal(stored[name], getattr(result, name))
    without = Segmentation(result.labels, result.label_map, result.confidence)
    without.save(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz", allow_pickle=False) as stored:
        assert "scores" not in stored


def test_the_same_result_is_the_same_bytes(result: Segmentation, tmp_path: Path) -> None:
    result.save(tmp_path / "a.npz")
    first = (tmp_path / "a.npz").read_bytes()
    assert b"\x00\x00\x21\x00" in first  # its date is the first of 1980, not today
    result.save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == first
