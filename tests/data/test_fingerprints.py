"""The fingerprints of every kind of data set, file by file."""

import hashlib
import json
import os
import pickle
from dataclasses import replace

import lmdb
import numpy as np
import pytest
from PIL import Image

from lexiseg.data.catalog import BENCHMARKS, read_benchmark
from lexiseg.data.coco import read_coco_json
from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.referring import read_lmdb, read_referring_folder
from lexiseg.data.semantic import read_semantic_folder
from tests.data.test_catalog import make_tree


def put(path, data):
    """Write a file anew and leave its time of change as it was."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_a_file_is_read_once(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    files = FileDigests()
    assert files.content(path) == hashlib.sha256(b"one").hexdigest()
    stamp = files.stamp(path)
    assert stamp == ("a", 3, path.stat().st_mtime_ns)
    path.unlink()
    assert files.content(path) == hashlib.sha256(b"one").hexdigest()
    assert files.stamp(path) == stamp
    for look in (FileDigests().content, FileDigests().stamp, FileDigests().folder):
        with pytest.raises(ValueError, match="a: cannot be read \\(No such file"):
            look(path)


def test_label_maps_of_one_size_are_told_apart_by_their_content(own_data):
    Image.fromarray(np.full((40, 60), 2, np.uint8)).save(own_data / "val/masks/p0.tif")
    (own_data / "val/masks/p0.png").unlink()
    mask = own_data / "val/masks/p0.tif"
    content = mask.read_bytes()
    first = read_semantic_folder(own_data).fingerprint()
    Image.fromarray(np.full((40, 60), 7, np.uint8)).save(mask)
    assert mask.stat().st_size == len(content)
    assert read_semantic_folder(own_data).fingerprint() != first
    mask.write_bytes(content)
    assert read_semantic_folder(own_data).fingerprint() == first  # whenever it was written


def test_photographs_are_told_apart_by_their_time(own_data):
    first = read_semantic_folder(own_data).fingerprint()
    touch(own_data / "val/images/p0.png")
    assert read_semantic_folder(own_data).fingerprint() != first


def test_an_id_in_coco_json_counts(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    path = tmp_path / "annotations.json"
    square = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }
    path.write_text(json.dumps(content | {"annotations": [square]}))
    first = read_coco_json(path).fingerprint()
    assert read_coco_json(path, background=False).fingerprint() != first
    put(path, json.dumps(content | {"annotations": [square | {"category_id": 4}]}).encode())
    assert read_coco_json(path).fingerprint() != first


def test_what_numbers_stand_for_counts(tmp_path, monkeypatch):
    make_tree(tmp_path, "object81", 0)
    first = read_benchmark("object81", tmp_path).fingerprint()
    layout = BENCHMARKS["object81"].layouts[0]
    swapped = replace(layout, ids={**layout.ids, 0: 2, 1: 1})
    changed = replace(BENCHMARKS["object81"], layouts=(swapped,))
    monkeypatch.setitem(BENCHMARKS, "object81", changed)
    assert read_benchmark("object81", tmp_path).fingerprint() != first


@pytest.fixture
def cups(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / "m.tif")
    row = {"image": "a.png", "expression": "cup", "mask": "m.tif"}
    (tmp_path / "refs.json").write_text(json.dumps([row]))
    return tmp_path


def test_masks_of_expressions_count_by_their_content(cups):
    first = read_referring_folder(cups).fingerprint()
    mask = cups / "m.tif"
    size = mask.stat().st_size
    Image.fromarray(np.eye(6, 8, k=1, dtype=np.uint8)).save(mask)
    assert mask.stat().st_size == size
    assert read_referring_folder(cups).fingerprint() != first


def test_photographs_of_expressions_count_by_their_time(cups):
    first = read_referring_folder(cups).fingerprint()
    touch(cups / "a.png")
    assert read_referring_folder(cups).fingerprint() != first


@pytest.mark.parametrize("subdir", [True, False])
def test_databases_and_masks_beside_them_count_by_their_time(tmp_path, subdir):
    path = tmp_path / "val.lmdb"
    with (
        lmdb.open(str(path), subdir=subdir, map_size=2**20) as database,
        database.begin(write=True) as transaction,
    ):
        for key, value in {b"__keys__": [b"0"], b"__len__": 1, b"0": {}}.items():
            transaction.put(key, pickle.dumps(value, protocol=4))
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "1.png").touch()
    first, outside = read_lmdb(path).fingerprint(), read_lmdb(path, masks).fingerprint()
    assert first != outside
    touch(masks / "1.png")
    assert read_lmdb(path).fingerprint() == first
    assert read_lmdb(path, masks).fingerprint() != outside
    touch(path / "data.mdb" if subdir else path)
    assert read_lmdb(path).fingerprint() != first
