import io
import json
import logging
import os
import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader

from lexiseg.data.captions import read_captions, shrink
from lexiseg.data.captions.files import Texts
from lexiseg.superpixels import SuperpixelCache, superpixels
from tests.data.tars import listed, picture, write_tar


def test_several_worker_processes_read_the_same(tar, tmp_path):
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "p.png").write_bytes(picture("red", size=(40, 50)))
    rows = {"p": {"captions": ["one", "two", "three"]}}
    (tmp_path / "own" / "captions.json").write_text(json.dumps(rows))
    cache = SuperpixelCache(tmp_path / "cache")
    dataset = ConcatDataset(
        [read_captions(source, superpixels=cache) for source in (tar, tmp_path / "own")]
    )
    direct = [dataset[index] for index in reversed(range(7))][::-1]
    for context in (None, "spawn"):
        loader = DataLoader(
            dataset,
            batch_size=3,
            shuffle=False,
            num_workers=2,
            collate_fn=list,
            multiprocessing_context=context,
        )
        loaded = [sample for batch in loader for sample in batch]
        for one, other in zip(loaded, direct, strict=True):
            assert (one.name, one.caption) == (other.name, other.caption)
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.superpixels, other.superpixels)


def test_the_fingerprint_follows_the_pairs_and_their_preparation(tar, tmp_path):
    dataset = read_captions(tar)
    first = dataset.fingerprint()
    assert pickle.loads(pickle.dumps(dataset)).fingerprint() == first
    os.utime(tar, ns=(1, 1))
    assert read_captions(tar).fingerprint() == first
    others = {
        first,
        read_captions(tar, shorter=8).fingerprint(),
        read_captions(tar, superpixels=SuperpixelCache(tmp_path)).fingerprint(),
        read_captions(tar, superpixels=SuperpixelCache(tmp_path, min_size=5)).fingerprint(),
    }
    write_tar(tar, [("k.png", picture("red")), ("k.txt", b"another")])
    others.add(read_captions(tar).fingerprint())
    assert len(others) == 5


def test_superpixels_are_those_of_the_shrunken_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 81, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path = write_tar(tmp_path / "s.tar", [("k.png", buffer.getvalue()), ("k.txt", b"noise")])
    cache = SuperpixelCache(tmp_path / "cache", min_size=20)
    sample = read_captions(path, shorter=40, superpixels=cache)[0]
    assert sample.image.shape == (40, 54, 3)
    expected = Image.fromarray(pixels).resize((54, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(sample.image, np.asarray(expected))
    np.testing.assert_array_equal(sample.superpixels, superpixels(sample.image, min_size=20))


@pytest.mark.parametrize(
    ("size", "shrunken"),
    [
        ((448, 667), (224, 333)),
        ((667, 448), (333, 224)),
        ((500, 500), (224, 224)),
        ((224, 900), (224, 900)),
        ((100, 900), (100, 900)),
        ((225, 225), (224, 224)),
    ],
)
def test_shrinking_keeps_the_ratio_and_never_enlarges(size, shrunken):
    assert shrink(np.zeros((*size, 3), np.uint8), 224).shape == (*shrunken, 3)


def test_texts_come_back():
    texts = ["", "a", "ü蓝", "", "x" * 300, "lone \ud800"]
    kept = Texts.of(texts)
    assert list(kept) == [*texts[:-1], "lone ?"]
    assert len(Texts.of([])) == 0


@pytest.fixture
def coco(tmp_path):
    """Two photographs of train2014 and one of val2014, with both kinds of JSON."""
    names = ["train2014/c1.jpg", "train2014/c2.jpg", "val2014/c3.jpg"]
    for name, colour in zip(names, ("red", "blue", "white"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(colour, "PNG"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2014.json").write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "c2.jpg"}, {"id": 5, "file_name": "c1.jpg"}],
                "annotations": [
                    {"id": 1, "image_id": 5, "caption": "Red.\n"},
                    {"id": 2, "image_id": 7, "caption": "Blue."},
                    {"id": 3, "image_id": 5, "caption": "A red one."},
                ],
            }
        )
    )
    rows = [
        {
            "split": split,
            "filepath": name.split("/")[0],
            "filename": name.split("/")[1],
            "sentences": [{"raw": f"{split} {number}", "tokens": []} for number in range(2)],
        }
        for name, split in zip(names, ("train", "restval", "val"), strict=True)
    ]
    (tmp_path / "karpathy").mkdir()
    karpathy = {"images": rows, "dataset": "coco"}
    (tmp_path / "karpathy" / "dataset_coco.json").write_text(json.dumps(karpathy))
    return tmp_path


def test_captions_of_coco(coco):
    path = coco / "annotations" / "captions_train2014.json"
    expected = [
        ("c2", "Blue.", (0, 0, 255)),
        ("c1", "Red.", (255, 0, 0)),
        ("c1", "A red one.", (255, 0, 0)),
    ]
    assert listed(path) == listed(str(path), images=coco / "train2014") == expected
    with pytest.raises(ValueError, match="has no split 'train'; it has none, leave it out"):
        read_captions(path, split="train")


def test_splits_of_karpathy(coco):
    path = coco / "karpathy" / "dataset_coco.json"
    red = (255, 0, 0)
    assert listed(path, split="train") == [("c1", "train 0", red), ("c1", "train 1", red)]
    assert len(read_captions(path)) == 6
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['restval', 'train', 'val'\]"):
        read_captions(path, split="test")


def test_photographs_that_are_missing_are_named(coco):
    path = coco / "karpathy" / "dataset_coco.json"
    (coco / "val2014" / "c3.jpg").unlink()
    assert len(read_captions(path, split="train")) == 2
    with pytest.raises(ValueError, match=r"dataset_coco\.json: 1 photographs are missing.*c3\.jpg"):
        read_captions(path)
    (coco / "train2014" / "c1.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"'train2014/c1\.jpg' is not near it; say where by images"
    ):
        read_captions(path)
    with pytest.raises(ValueError, match=r"missing, the first .*nowhere.*c1\.jpg"):
        read_captions(path, images=coco / "nowhere")


@pytest.mark.parametrize("name", ["../c1.jpg", "/c1.jpg", "a/../../c1.jpg"])
def test_photographs_outside_the_folder_are_refused(coco, name):
    path = coco / "annotations" / "captions_train2014.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="leads outside of"):
        read_captions(path, images=coco / "train2014")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"images": [{"id": 1}], "annotations": []}',
        '{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}',
        '{"images": [{"split": "train", "filename": "x.jpg", "sentences": [{"tokens": []}]}]}',
        '{"images": [{"split": "train", "filename": "x.jpg", "sentences": [{"raw": 3}]}]}',
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, text):
    path = tmp_path / "captions_train2014.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"captions_train2014\.json cannot be (read|understood)"):
        read_captions(path)


def test_a_file_without_captions_or_without_itself(tmp_path):
    (tmp_path / "c.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"c\.json holds no captions"):
        read_captions(tmp_path / "c.json")
    with pytest.raises(ValueError, match=r"d\.json is missing"):
        read_captions(tmp_path / "d.json")


@pytest.fixture
def folder(tmp_path):
    """captions.json with two splits."""
    for name in ("train/images/p0.png", "train/images/p1.png", "val/images/p2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture("red"))
    rows = {
        "p0": {"captions": ["a", "b"], "split": "train"},
        "p2": {"captions": ["c"], "split": "val"},
        "p1": {"captions": ["d"], "split": "train"},
    }
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    return tmp_path


def test_a_folder_with_splits(folder):
    assert [row[:2] for row in listed(folder)] == [
        ("p0", "a"),
        ("p0", "b"),
        ("p2", "c"),
        ("p1", "d"),
    ]
    assert [row[1] for row in listed(folder, split="train")] == ["a", "b", "d"]
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['train', 'val'\]"):
        read_captions(folder, split="test")


def test_a_folder_without_splits(folder, caplog):
    (folder / "train" / "images").rename(folder / "images")
    rows = {"p1": {"captions": ["one"]}, "p0": {"captions": [" "]}}
    (folder / "captions.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING):
        assert [row[:2] for row in listed(folder)] == [("p1", "one")]
    assert "1 photographs have no caption and are left out" in caplog.text


def test_what_a_folder_lacks_is_named(folder):
    (folder / "train" / "images" / "p1.png").unlink()
    with pytest.raises(
        ValueError, match=r"captions\.json: 1 photographs are missing, the first p1"
    ):
        read_captions(folder)
    (folder / "val" / "images").rename(folder / "val" / "pictures")
    with pytest.raises(ValueError, match=r"images is missing: it holds photographs of"):
        read_captions(folder, split="val")


@pytest.mark.parametrize(
    "text", ['{"p0": ["a"]}', '{"p0": {}}', '{"p0": {"captions": "a"}}', '["p0"]',
             '{"p0": {"captions": ["a"], "split": 3}}']
)  # fmt: skip
def test_captions_json_of_another_form_is_named(folder, text):
    (folder / "captions.json").write_text(text)
    with pytest.raises(ValueError, match=r"captions\.json cannot be understood"):
        read_captions(folder)


def test_shards_have_no_splits(tar):
    with pytest.raises(ValueError, match="tar shards have no splits, but split is 'train'"):
        read_captions(tar, split="train")


def test_words_are_those_of_the_pair_without_its_photograph(tmp_path):
    tars = [
        write_tar(tmp_path / f"s{n}.tar", [(f"k{n}.png", b"no picture"), (f"k{n}.txt", b"said")])
        for n in range(2)
    ]
    pairs = read_captions(tars).pairs
    assert [pairs.words(index) for index in range(2)] == [("said", "k0"), ("said", "k1")]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no picture")
    said = {"a": {"captions": ["one", "two"]}}
    (tmp_path / "captions.json").write_text(json.dumps(said))
    pairs = read_captions(tmp_path).pairs
    assert [pairs.words(index) for index in range(2)] == [("one", "a"), ("two", "a")]
