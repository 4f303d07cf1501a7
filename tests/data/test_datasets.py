"""The one door: which data set a name, a folder or a file means."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets import check_dataset, find_name, open_dataset
from tests.data.test_catalog import make_tree
from tests.data.test_refer_files import ROWS, write_refer


def coco(path, image="a.png"):
    """One photograph and COCO's annotations of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path.parent / image)
    row = {"id": 1, "file_name": image, "height": 6, "width": 8}
    path.write_text(
        json.dumps({"images": [row], "categories": [{"id": 1, "name": "cat"}], "annotations": []})
    )
    return path


@pytest.mark.parametrize("name", ["voc20", " VOC20 ", "pas20"])
def test_a_benchmark_is_not_hidden_by_a_folder_of_its_name(tmp_path, monkeypatch, name):
    make_tree(tmp_path / "datasets", "voc20")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert open_dataset(name).name == "voc20"
    coco(tmp_path / name / "annotations.json")
    assert open_dataset(name).name == name
    assert open_dataset(f"./{name}").name == name
    assert open_dataset(tmp_path / name, root="datasets").name == name
    assert open_dataset(name, root="datasets").name == "voc20"


@pytest.mark.parametrize("name", ["refcoco", " RefCOCO", "REFCOCO "])
def test_referring_benchmarks_go_by_any_case(tmp_path, monkeypatch, name):
    write_refer(tmp_path, ROWS)
    monkeypatch.chdir(tmp_path)  # where refcoco is the folder of its own files
    assert find_name(name) == "refcoco"
    for root in (None, tmp_path):
        monkeypatch.setenv("LEXISEG_DATA", str(tmp_path))
        assert len(open_dataset(name, root=root)) == 2
    assert "has 2 references" in check_dataset(name, tmp_path)[0]
    with pytest.raises(ValueError, match="holds no data of the split 'val'; a folder of one's own"):
        open_dataset("./refcoco")


@pytest.mark.parametrize("name", ["refcocoo", "x" * 300, "./nowhere", "a\0b"])
def test_what_is_not_there_is_told(name):
    with pytest.raises(ValueError, match="unknown data set|does not exist"):
        open_dataset(name)


@pytest.mark.parametrize(
    ("file", "splits"),
    [
        ("instances_val2017.json", ["val"]),
        ("instances_train2017.json", ["train"]),
        ("valid/_annotations.coco.json", ["val"]),
        ("train/annotations.json", ["train"]),
        ("annotations.json", ["train", "val"]),
        ("fold_2.json", ["train", "val", "fold", "2"]),
        ("test_data/x.json", ["train", "val"]),
    ],
)
@pytest.mark.parametrize("split", ["train", "val", "test", "fold", "2"])
def test_a_file_is_of_the_split_that_it_is_named_after(tmp_path, file, splits, split):
    path = coco(tmp_path / "own" / file)
    if split in splits:
        assert open_dataset(str(path), split=split).split == split
        return
    with pytest.raises(ValueError, match=f"by its name, but '{split}'|has no split '{split}'"):
        open_dataset(str(path), split=split)


def test_a_database_is_of_its_own_split(tmp_path):
    (tmp_path / "testA.lmdb").write_bytes(b"x" * 10_000)
    with pytest.raises(ValueError, match="of the split 'testA' by its name, but 'val' was asked"):
        open_dataset(tmp_path / "testA.lmdb")
    with pytest.raises(ValueError, match="cannot be read"):
        open_dataset(tmp_path / "testA.lmdb", split="testA")


def test_data_without_splits_is_learned_from_or_scored_on(own_data, tmp_path, caplog):
    flat = tmp_path / "flat"
    (own_data / "val").rename(flat)
    (own_data / "classes.json").rename(flat / "classes.json")
    plain = coco(tmp_path / "plain" / "annotations.json").parent
    for folder in (flat, plain):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert open_dataset(folder).split == "val"
            assert not caplog.text
            train = open_dataset(folder, split="train")
        assert train.split == "train"
        assert "has no splits: 'train' is the same data as 'val'" in caplog.text
        with pytest.raises(ValueError, match="has no split 'test': it has no splits"):
            open_dataset(folder, split="test")


def test_a_folder_with_splits_is_read_by_split(own_data, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(open_dataset(own_data, split="train")) == 3
        assert len(open_dataset(str(own_data))) == 1
    assert not caplog.text
    assert np.unique(open_dataset(own_data)[0].label_map).tolist() == [0, 1, 255]
