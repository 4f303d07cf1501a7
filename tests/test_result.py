import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.outputs import output_files
from lexiseg.result import Segmentation, none_index


def segmentation(**changes: Any) -> Segmentation:
    """Two rows of three: dog dog grass / none grass grass; the cat is nowhere."""
    fields: dict[str, Any] = {
        "labels": ("dog", "cat", "grass"),
        "label_map": np.array([[0, 0, 2], [255, 2, 2]], dtype=np.uint8),
        "confidence": np.array([[0.5, 1.0, 0.9], [0.1, 0.6, 0.6]], dtype=np.float32),
    }
    return Segmentation(**(fields | changes))


def wide(count: int) -> Segmentation:
    label_map = np.full((2, 3), none_index(count), dtype=np.uint8 if count < 256 else np.uint16)
    label_map[0, 0] = count - 1
    labels = tuple(f"label {index}" for index in range(count))
    return Segmentation(labels, label_map, np.full((2, 3), 0.5, dtype=np.float32))


def test_masks_shares_and_table() -> None:
    result = segmentation()
    np.testing.assert_array_equal(result.mask("grass"), [[0, 0, 1], [0, 1, 1]])
    assert not result.mask("cat").any()
    assert result.none == 255
    assert result.shares() == pytest.approx({"dog": 2 / 6, "cat": 0, "grass": 3 / 6}, abs=1e-6)
    confidences = [row["confidence"] for row in result.table()]
    assert confidences == pytest.approx([0.75, 0, 0.7], abs=1e-6)
    with pytest.raises(ValueError, match="'horse' is none of the labels"):
        result.mask("horse")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_map": np.zeros((2, 3), dtype=np.uint16)}, "must be uint8 of H x W"),
        ({"label_map": np.zeros((0, 3), dtype=np.uint8)}, "must be uint8 of H x W"),
        ({"label_map": np.full((2, 3), 3, dtype=np.uint8)}, "holds 3; allowed are 0 to 2 and 255"),
        ({"confidence": np.zeros((3, 2), dtype=np.float32)}, "confidence is of shape"),
        ({"scores": np.zeros((2, 2, 3), dtype=np.float32)}, "scores is of shape"),
        ({"image": np.zeros((3, 3, 3), dtype=np.uint8)}, "image is of shape"),
    ],
)
def test_shapes_are_checked(changes: dict[str, np.ndarray], message: str) -> None:
    result = segmentation()
    for name, array in changes.items():  # past the annotations, which the tests check first
        object.__setattr__(result, name, array)
    with pytest.raises(ValueError, match=message):
        result.__post_init__()


@pytest.mark.parametrize(("count", "none"), [(1, 255), (255, 255), (256, 65535), (1000, 65535)])
def test_none_is_never_a_label(count: int, none: int, tmp_path: Path) -> None:
    result = wide(count)
    assert result.none == none
    assert result.mask(f"label {count - 1}").sum() == 1
    result.save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), result.label_map)
    result.plot()


def test_save_into_a_folder(tmp_path: Path) -> None:
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    result = segmentation(image=image, source="holiday/street.jpg")
    files = result.save(tmp_path / "new" / "folder")
    assert files == output_files(tmp_path / "new" / "folder", "street")
    with Image.open(files["labels"]) as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.asarray(stored), result.label_map)
        assert stored.getpalette()[:3] == [230, 25, 75]
        assert stored.getpalette()[765:] == [0, 0, 0]
    with Image.open(files["overlay"]) as picture:
        assert picture.width == 320
    record = json.loads(files["json"].read_text(encoding="utf-8"))
    assert record["image"] == "holiday/street.jpg"
    assert record["labels"] == result.table()
    assert record["files"]["labels"] == "street_labels.png"
    assert sorted(p.name for p in files["json"].parent.iterdir()) == [
        "street.json",
        "street_labels.png",
        "street_overlay.jpg",
    ]


def test_save_one_file(tmp_path: Path) -> None:
    assert segmentation().save(tmp_path / "a.json") == {"coco": tmp_path / "a.json"}
    assert segmentation().save(tmp_path / "a.PNG") == {"labels": tmp_path / "a.PNG"}
    assert set(segmentation().save(tmp_path / "v1.0", name="x")) == {"labels", "overlay", "json"}
    with pytest.raises(ValueError, match="cannot save as 'a.gif'"):
        segmentation().save(tmp_path / "a.gif")


def test_names_of_any_script_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    segmentation(labels=("猫", "قطة", "🐈"), source="bad\udcff.jpg").save(path)
    assert "猫" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8"))["image"] == "bad\udcff.jpg"


def test_plot_scales_a_large_picture_down() -> None:
    label_map = np.zeros((100, 400), dtype=np.uint8)
    label_map[:, 200:] = 1
    result = Segmentation(("a", "b"), label_map, np.ones((100, 400), dtype=np.float32))
    assert result.plot().width == 400
    assert result.plot(longest=350).width == 350
    tall = Segmentation(("a",), np.zeros((5000, 1), np.uint8), np.ones((5000, 1), np.float32))
    assert tall.plot(longest=100).width == 320


@pytest.mark.parametrize("name", ["", "../out", "a/b", "/abs"])
def test_a_name_with_folders_is_refused(name: str, tmp_path: Path) -> None:
    result = Segmentation(
        labels=("a",),
        label_map=np.zeros((2, 2), np.uint8),
        confidence=np.ones((2, 2), np.float32),
    )
    with pytest.raises(ValueError, match="without folders"):
        result.save(tmp_path, name)
