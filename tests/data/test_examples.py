import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.examples import read_pictures


@pytest.fixture
def folder(tmp_path: Path, flag: np.ndarray) -> Path:
    """Two pictures of a flag, 60 x 90 pixels."""
    for name in ("a", "b"):
        Image.fromarray(flag.repeat(3, axis=0).repeat(3, axis=1)).save(tmp_path / f"{name}.png")
    return tmp_path


def write(folder: Path, rows: Any) -> Path:
    (folder / "regions.json").write_text(json.dumps(rows))
    return folder


def test_boxes_and_clicks_by_picture(folder: Path) -> None:
    rows = [
        {"image": "a.png", "label": "red", "box": [0, 0, 31, 60]},
        {"image": "b.png", "label": "blue|navy", "click": [80, 30]},
        {"image": "a.png", "label": "green", "click": [45.5, 30]},
    ]
    first, second = read_pictures(write(folder, rows))
    assert (first.source, second.source) == ("a.png", "b.png")
    assert [region.names for region in first.regions] == [("red",), ("green",)]
    assert second.regions[0].names == ("blue", "navy")
    # Superpixels are smoothed first, so a border may lie a pixel beside.
    assert first.regions[0].mask[:, :29].all()
    assert not first.regions[0].mask[:, 31:].any()
    assert second.regions[0].mask[:, 62:].all()
    assert not second.regions[0].mask[:, :58].any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ({}, "not what it should be"),
        ([{"image": "a.png", "label": "x"}], "cannot be understood"),
        ([{"image": "a.png", "label": "x", "box": [1, 2, 3, 4], "click": [1, 2]}], "understood"),
        ([{"image": "a.png", "label": 3, "click": [1, 2]}], "cannot be understood"),
        ([{"image": "a.png", "label": "x", "click": [1]}], "it is 2 numbers"),
        ([{"image": "a.png", "label": "x", "box": [1, 2, "3", 4]}], "it is 4 numbers"),
        ([{"image": "c.png", "label": "x", "click": [1, 2]}], "is not in"),
        ([{"image": "../a.png", "label": "x", "click": [1, 2]}], "leads outside"),
        ([{"image": "a.png", "label": "x|", "click": [1, 2]}], "an empty label"),
    ],
)
def test_rows_that_cannot_be(folder: Path, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pictures(write(folder, rows))


def test_a_box_outside_names_its_picture(folder: Path) -> None:
    rows = [{"image": "a.png", "label": "x", "box": [500, 0, 600, 50]}]
    with pytest.raises(ValueError, match=r"a\.png: the box .* has no pixel"):
        list(read_pictures(write(folder, rows)))


def test_masks_of_the_layout_of_data_sets(tmp_path: Path, flag: np.ndarray) -> None:
    classes = {"classes": {"0": "background", "1": "red|crimson", "2": "green", "7": "blue"}}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    labels = np.zeros((20, 30), np.uint8)
    labels[:, :10], labels[:, 20:25], labels[:, 25:] = 1, 7, 255
    for kind, pixels in (("images", flag), ("masks", labels)):
        (tmp_path / "val" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "val" / kind / "a.png")
    (picture,) = read_pictures(tmp_path, "val")
    assert [region.names for region in picture.regions] == [("red", "crimson"), ("blue",)]
    np.testing.assert_array_equal(picture.regions[1].mask, labels == 7)
    assert picture.source == "val/images/a.png"
    with pytest.raises(ValueError, match="has the splits"):
        read_pictures(tmp_path)


def test_a_folder_of_neither_form(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds neither regions\.json"):
        read_pictures(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        read_pictures(tmp_path / "x")
