from pathlib import Path

import numpy as np

from lexiseg.result import Segmentation


def read_yolo(text: str, size: tuple[int, int]) -> np.ndarray:
    """A label map of lines ``class x1 y1 x2 y2 ...``: inside is an odd number of crossings."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    label_map = np.full(size, 255, dtype=np.uint8)
    for line in text.splitlines():
        index, *numbers = line.split()
        corners = np.array(numbers, dtype=float).reshape(-1, 2) * (width, height)
        assert ((corners >= 0) & (corners <= (width, height))).all()
        inside = np.zeros(size, dtype=bool)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y1 > y) != (y2 > y)
                inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        label_map[inside] = int(index)
    return label_map


def test_a_reader_paints_the_same_label_map(result: Segmentation, tmp_path: Path) -> None:
    assert result.save(tmp_path / "a.txt") == {"yolo": tmp_path / "a.txt"}
    text = (tmp_path / "a.txt").read_text(encoding="ascii")
    np.testing.assert_array_equal(read_yolo(text, (17, 23)), result.label_map)
    assert [line.split()[0] for line in text.splitlines()] == ["0", "1", "1", "1"]
