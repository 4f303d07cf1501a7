import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.semantic import IGNORE_INDEX, read_semantic_folder


def test_ids_become_positions_in_the_list_of_names(own_data):
    dataset = read_semantic_folder(own_data, "train")
    sample = dataset[1]
    assert len(dataset) == 3
    assert dataset.class_names == ("red", "blue")
    assert sample.image.shape == (42, 60, 3)
    assert sample.label_map[10, 0] == 0
    assert sample.label_map[10, 59] == 1
    assert (sample.label_map[:5] == IGNORE_INDEX).all()


def test_another_ignored_id_becomes_255(own_data):
    path = own_data / "classes.json"
    path.write_text(json.dumps({"classes": {"2": "red", "7": "void"}, "ignore": 7}))
    with pytest.raises(ValueError, match="id 7 is ignored, but also names 'void'"):
        read_semantic_folder(own_data, "val")
    path.write_text(json.dumps({"classes": {"2": "red"}, "ignore": 7}))
    mask = np.full((40, 60), 7, np.uint8)
    mask[0] = 2
    Image.fromarray(mask).save(own_data / "val" / "masks" / "p0.png")
    label_map = read_semantic_folder(own_data, "val")[0].label_map
    assert (label_map[1:] == IGNORE_INDEX).all()
    assert (label_map[0] == 0).all()


def test_a_mask_of_another_size_is_refused(own_data):
    Image.fromarray(np.full((10, 10), 2, np.uint8)).save(own_data / "val" / "masks" / "p0.png")
    with pytest.raises(ValueError, match=r"p0.png: \(10, 10\).*exactly its photograph's size"):
        read_semantic_folder(own_data, "val")[0]


def test_an_id_without_a_name_is_refused(own_data):
    mask = np.full((40, 60), 9, np.uint8)
    Image.fromarray(mask).save(own_data / "val" / "masks" / "p0.png")
    with pytest.raises(ValueError, match=r"class ids \[9\] have no name"):
        read_semantic_folder(own_data, "val")[0]


def test_what_is_missing_is_named(own_data):
    with pytest.raises(ValueError, match=r"it has|has the splits \['train', 'val'\]"):
        read_semantic_folder(own_data, "test")
    (own_data / "val" / "masks" / "p0.png").unlink()
    with pytest.raises(ValueError, match="1 photographs have no mask, the first .*p0.png"):
        read_semantic_folder(own_data, "val")
    (own_data / "classes.json").unlink()
    with pytest.raises(ValueError, match="classes.json is missing"):
        read_semantic_folder(own_data, "val")


@pytest.mark.parametrize(
    "text",
    [
        '{"classes": ["sky"]}',
        "{}",
        '{"classes": {"0": 5}}',
        '{"classes": {"a": "sky"}}',
        "{",
        '{"classes": {"0": "sky"}, "ignore": null}',
        '{"classes": {"0": "sky"}, "ignore": 1.9}',
        '{"classes": {"0": "sky"}, "ignore": true}',
        '{"classes": {"0": "sky", "00": "sea"}}',
        "[" * 100_000,
        '{"classes": {"0": "sky", "1": "Sky"}}',
    ],
)
def test_a_list_of_classes_that_cannot_be_understood_names_its_file(own_data, text):
    (own_data / "classes.json").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json"):
        read_semantic_folder(own_data, "val")


def test_a_damaged_mask_names_its_file(own_data):
    path = own_data / "val" / "masks" / "p0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"p0\.png"):
        read_semantic_folder(own_data, "val")[0]


def test_a_byte_order_mark_is_no_damage(own_data):
    path = own_data / "classes.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_semantic_folder(own_data, "val").class_names == ("red", "blue")
