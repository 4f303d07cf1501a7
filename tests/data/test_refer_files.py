"""RefCOCO and its kin from the REFER files."""

import json
import logging
import pickle

import numpy as np
import pytest

from lexiseg._checkpoint.records import UnsafeCheckpointError
from lexiseg.data.referring import REFERRING_BENCHMARKS, check_refer, read_refer
from tests.data.squares import HEIGHT, SQUARE, WIDTH, Command, photograph, square_mask

DOWNLOAD = "https://github.com/lichengunc/refer"


def sentences(*texts):
    return [{"sent": text, "sent_id": 1, "raw": text, "tokens": text.split()} for text in texts]


def reference(identity, split, *texts, annotation=50, **changes):
    return {
        "ref_id": identity,
        "ann_id": annotation,
        "image_id": 7,
        "category_id": 1,
        "split": split,
        "file_name": "COCO_train2014_000000000007_50.jpg",
        "sent_ids": list(range(len(texts))),
        "sentences": sentences(*texts),
    } | changes


def write_refer(root, rows, *, file="refcoco/refs(unc).p", images="images/train2014"):
    """REFER files of one photograph with two objects; ``rows`` is a pickle, or what goes in."""
    photograph(root / images / "COCO_train2014_000000000007.jpg")
    runs = {"size": [HEIGHT, WIDTH], "counts": [36, 12]}
    content = {
        "images": [
            {
                "id": 7,
                "file_name": "COCO_train2014_000000000007.jpg",
                "height": HEIGHT,
                "width": WIDTH,
            }
        ],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 50, "image_id": 7, "category_id": 1, "segmentation": [SQUARE]},
            {"id": 51, "image_id": 7, "category_id": 1, "segmentation": runs},
        ],
    }
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows if isinstance(rows, bytes) else pickle.dumps(rows, protocol=2))
    (path.parent / "instances.json").write_text(json.dumps(content))


ROWS = [
    reference(3, "val", "red cup ", "the cup on the left"),
    reference(1, "train", "a cup"),
    reference(2, "val", "caf\u00e9", annotation=51),
    reference(4, "testA", "cup"),
]


@pytest.mark.parametrize(
    "images", ["images/train2014", "images/mscoco/images/train2014", "train2014"]
)
@pytest.mark.parametrize("protocol", [0, 2])
def test_refer_files_give_their_references_in_order(tmp_path, protocol, images):
    write_refer(tmp_path, pickle.dumps(ROWS, protocol), images=images)
    dataset = read_refer("refcoco", tmp_path, "val")
    assert (dataset.name, dataset.split) == ("refcoco", "val")
    assert [dataset[i].name for i in range(len(dataset))] == ["3", "2"]
    assert sum(len(each.read_expressions()) for each in dataset.references) == 3
    assert dataset[0].expressions == ("red cup", "the cup on the left")
    np.testing.assert_array_equal(dataset[0].mask, square_mask())
    assert dataset[1].expressions == ("caf\u00e9",)
    assert dataset[1].mask[:, 6:].all()
    assert dataset[1].mask.sum() == 12
    assert len(read_refer("refcoco", tmp_path, "testA")) == 1


def test_text_that_python_2_wrote_as_bytes(tmp_path):
    def packed(text):
        return b"U" + bytes([len(text)]) + text

    sentence = b"]}" + packed(b"sent") + packed("caf\u00e9".encode()) + b"sa"
    fields = b"".join(
        packed(key) + value
        for key, value in [
            (b"ref_id", b"K\x05"),
            (b"ann_id", b"K2"),
            (b"image_id", b"K\x07"),
            (b"split", packed(b"test")),
            (b"sentences", sentence),
        ]
    )
    write_refer(tmp_path, b"\x80\x02](}(" + fields + b"ue.", file="refcocog/refs(umd).p")
    sample = read_refer("refcocog_umd", tmp_path, "test")[0]
    assert (sample.name, sample.expressions) == ("5", ("caf\u00e9",))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("refcoco+", "refcoco+/refs(unc).p"),
        ("refcocog_umd", "refcocog/refs(umd).p"),
        ("refcocog_u", "refcocog/refs(umd).p"),
        ("refcocog_google", "refcocog/refs(google).p"),
        ("refcocog_g", "refcocog/refs(google).p"),
    ],
)
def test_each_benchmark_has_its_file(tmp_path, name, file):
    write_refer(tmp_path, ROWS, file=file)
    assert len(read_refer(name, tmp_path)) == 2


def test_counts_other_than_published_are_told(tmp_path, caplog):
    write_refer(tmp_path, ROWS)
    with caplog.at_level(logging.WARNING):
        read_refer("refcoco", tmp_path)
    assert "has 2 references in the split 'val', but 3811 were published" in caplog.text
    (finding,) = check_refer("refcoco", tmp_path)
    assert finding in caplog.text
    caplog.clear()
    write_refer(tmp_path, [reference(i, "testB", "cup") for i in range(1810)])
    assert check_refer("refcoco", tmp_path, "testB") == []
    assert not caplog.text


def test_the_check_names_all_that_is_missing(tmp_path):
    findings = check_refer("refcoco+", tmp_path)
    assert len(findings) == 3
    assert findings[0].endswith("refs(unc).p is missing; get it from " + DOWNLOAD)
    assert "instances.json is missing" in findings[1]
    assert "images/train2014" in findings[2]
    write_refer(tmp_path, b"", file="refcoco+/refs(unc).p")
    (finding,) = check_refer("refcoco+", tmp_path)
    assert "refs(unc).p: a pickle is damaged" in finding


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("refclef", "val", "unknown referring benchmark 'refclef'; known are refcoco, refcoco"),
        ("refcoco", "test", "refcoco has no split 'test'; it has train, val, testA, testB"),
        ("refcocog_google", "test", "has no split 'test'; it has train, val"),
        ("refcocog_umd", "val", r"refs\(umd\)\.p is missing; get it from"),
    ],
)
def test_unknown_names_and_splits(tmp_path, name, split, message):
    write_refer(tmp_path, ROWS)
    with pytest.raises(ValueError, match=message):
        read_refer(name, tmp_path, split)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "is no list of references"),
        ([1], "is no list of references"),
        ([reference(1, "val", "a", annotation=9)], "reference 1: .* no annotation with the id 9"),
        ([reference(1, "val", "a", image_id=[])], r"reference 1: .* no image with the id \[\]"),
        ([reference([[]], "val", "a")], "its ref_id must be a number"),
        ([reference(1, "val")], "reference 1: has no expression"),
        ([reference(1, "val", "")], "reference 1: an expression is ''"),
        ([reference(1, "val", "x" * 257)], r"refs\(unc\)\.p: reference 1: .* has 257 characters"),
        ([reference(1, "val", sentences=3)], "its sentences are no list"),
        ([reference(1, "train", "a")], "refcoco has no references in the split 'val'"),
    ],
)
def test_damaged_references_are_told(tmp_path, rows, message):
    write_refer(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        read_refer("refcoco", tmp_path)


def test_outlines_belong_to_the_size_that_the_file_declares(tmp_path):
    write_refer(tmp_path, ROWS)
    photo = tmp_path / "images/train2014/COCO_train2014_000000000007.jpg"
    photograph(photo, (2 * HEIGHT, 2 * WIDTH))
    dataset = read_refer("refcoco", tmp_path)
    for index in (0, 1):  # a polygon, and run lengths
        with pytest.raises(
            ValueError, match=r"annotation 5. \(COCO.*: a mask of \(6, 8\) .* is \(12, 16\)"
        ):
            dataset[index]
    path = tmp_path / "refcoco" / "instances.json"
    content = json.loads(path.read_text())
    content["images"][0]["height"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances\.json: image 7 has height None"):
        read_refer("refcoco", tmp_path)


def test_photographs_must_be_there(tmp_path):
    write_refer(tmp_path, ROWS)
    photo = tmp_path / "images/train2014/COCO_train2014_000000000007.jpg"
    photo.unlink()
    with pytest.raises(ValueError, match=r"instances\.json: 1 of its files are missing, the first"):
        read_refer("refcoco", tmp_path)
    photo.parent.rmdir()
    with pytest.raises(ValueError, match=r"photographs are missing; put http.*train2014\.zip"):
        read_refer("refcoco", tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_of_a_refer_file_is_run(tmp_path, protocol):
    canary = tmp_path / "canary"
    rows = [reference(1, "val", "a", category_id=Command(canary))]
    write_refer(tmp_path, pickle.dumps(rows, protocol))
    with pytest.raises(UnsafeCheckpointError, match=r"refs\(unc\)\.p: the file asks for .*system"):
        read_refer("refcoco", tmp_path)
    assert not canary.exists()


def test_published_counts_are_complete():
    assert sum(REFERRING_BENCHMARKS["refcoco"].references.values()) == 50_000
    assert sum(REFERRING_BENCHMARKS["refcoco+"].references.values()) == 49_856
    assert sum(REFERRING_BENCHMARKS["refcocog_umd"].references.values()) == 49_822
    assert sum(REFERRING_BENCHMARKS["refcocog_google"].references.values()) == 49_822
