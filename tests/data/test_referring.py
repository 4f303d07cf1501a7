"""Referring data sets: one's own layout, REFER files and databases, all made on the spot."""

import io
import json
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest
from PIL import Image

from lexiseg._checkpoint.machine import UnsafeCheckpointError
from lexiseg.data.masks import RunLengths
from lexiseg.data.referring import (
    REFERRING_BENCHMARKS,
    check_refer,
    read_lmdb,
    read_refer,
    read_referring_folder,
)
from lexiseg.encoders.tokenizer import tokenize
from tests.parity import SOURCES, cases

HEIGHT, WIDTH = 6, 8
DOWNLOAD = "https://github.com/lichengunc/refer"
SQUARE = [1, 2, 4, 2, 4, 5, 1, 5]  # three by three pixels


def square_mask():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:5, 1:4] = True
    return mask


def photograph(path, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 8, 7)).save(path)


class Command:
    """Pickles into a call that leaves a canary."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


# One's own data


@pytest.fixture
def own(tmp_path):
    root = tmp_path / "cups"
    photograph(root / "a.png")
    photograph(root / "deep" / "b.png")
    mask = square_mask()
    Image.fromarray(mask).save(root / "black_and_white.png")
    Image.fromarray(mask.astype(np.uint8) * 3).save(root / "grey.png")
    palette = Image.fromarray(mask.astype(np.uint8) * 255, mode="L").convert("P")
    palette.save(root / "palette.png")
    return root


def write_refs(root, *rows):
    (root / "refs.json").write_text(json.dumps(rows))


def row(**changes):
    made = {"image": "a.png", "expression": "the cup", "mask": "grey.png", "split": "val"}
    return {key: value for key, value in (made | changes).items() if value is not None}


@pytest.mark.parametrize(
    "where",
    [
        {"mask": "black_and_white.png"},
        {"mask": "grey.png"},
        {"mask": "palette.png"},
        {"mask": None, "polygon": SQUARE},
        {"mask": None, "polygon": [SQUARE]},
        {"mask": None, "polygon": [SQUARE[:6], [1, 2, 4, 5, 1, 5]]},
    ],
)
def test_masks_and_polygons_of_ones_own(own, where):
    write_refs(own, row(**where))
    sample = read_referring_folder(own)[0]
    if isinstance(where.get("polygon", [0])[0], list):
        expected = RunLengths.of_polygons(where["polygon"], (HEIGHT, WIDTH)).mask()
    else:
        expected = square_mask()
    np.testing.assert_array_equal(sample.mask, expected)
    assert sample.mask.dtype == bool
    assert sample.expressions == ("the cup",)
    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.image[0, 0].tolist() == [9, 8, 7]


def test_splits_order_and_counts(own):
    write_refs(
        own,
        row(expression=None, expressions=[" left cup ", "rouge \u00e9"]),
        row(split="train"),
        row(image="deep/b.png", split=None),
        row() | {"split": None, "image": "deep/b.png"},
    )
    dataset = read_referring_folder(own)
    assert (dataset.name, dataset.split) == ("cups", "val")
    assert len(dataset) == 3
    assert dataset.expression_count == 4
    assert [dataset[index].name for index in range(3)] == ["a_0", "b_2", "b_3"]
    assert dataset[0].expressions == ("left cup", "rouge \u00e9")
    assert len(read_referring_folder(own, "train")) == 3
    assert len(read_referring_folder(own, "test")) == 2


def test_the_fingerprint_follows_words_masks_and_files(own):
    prints = []
    for changes in ({}, {"expression": "a cup"}, {"mask": "palette.png"}, {"image": "deep/b.png"}):
        write_refs(own, row(**changes))
        prints.append(read_referring_folder(own).fingerprint())
        assert prints[-1] == read_referring_folder(own).fingerprint()
    for polygon in (SQUARE, SQUARE[::-1]):
        write_refs(own, row(mask=None, polygon=polygon))
        prints.append(read_referring_folder(own).fingerprint())
    assert len(set(prints)) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "../a.png"}, r"refs\.json: row 0: the path '\.\./a\.png' leads outside"),
        ({"image": "/a.png"}, "leads outside"),
        ({"mask": "deep/../../x.png"}, "leads outside"),
        ({"image": None}, "row 0: a file is called None"),
        ({"image": "none.png"}, r"refs\.json: 1 of its files are missing, the first .*none\.png"),
        ({"mask": "none.png"}, r"the first .*none\.png"),
        ({"mask": None}, 'row 0: give it "mask", a file, or "polygon"'),
        ({"polygon": SQUARE}, 'row 0: give it "mask", a file, or "polygon"'),
        ({"mask": None, "polygon": "x"}, "row 0: its polygon is 'x'"),
        ({"mask": None, "polygon": []}, r"row 0: its polygon is \[\]"),
        ({"expressions": ["a"]}, 'row 0: give it "expression", a text, or "expressions"'),
        ({"expression": None}, 'row 0: give it "expression", a text, or "expressions"'),
        ({"expression": " "}, "row 0: an expression is ' '"),
        ({"expression": 3}, "row 0: an expression is 3"),
        ({"expression": "x" * 257}, r"refs\.json: row 0: expression 'x+'\.\.\. has 257 char"),
        ({"expression": "red\ncup"}, r"row 0: expression 'red\\ncup' has control characters"),
        ({"expression": "cup \ud800"}, r"row 0: expression 'cup \\ud800' has control characters"),
        ({"split": 3}, "row 0: its split is 3; give a text or none"),
        ({"expression": None, "expressions": "cup"}, "row 0: its expressions are 'cup'"),
        ({"expression": None, "expressions": []}, "row 0: has no expression"),
        ({"split": "train"}, r"has no rows of the split 'val'; it has \['train'\]"),
    ],
)
def test_errors_name_the_row_and_the_rule(own, changes, message):
    write_refs(own, row(**changes))
    with pytest.raises(ValueError, match=message):
        read_referring_folder(own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "is not what it should be; it holds rows"),
        ("[1]", "is not what it should be; it holds rows"),
        ("[]", "has no rows of the split 'val'"),
    ],
)
def test_other_files_are_told(own, text, message):
    with pytest.raises(ValueError, match=r"refs\.json is missing; it holds rows"):
        read_referring_folder(own)
    (own / "refs.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_referring_folder(own)


def test_masks_that_do_not_fit_are_told_when_they_are_read(own):
    Image.new("L", (5, 5)).save(own / "small.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(own / "colour.png")
    write_refs(
        own, row(mask="small.png"), row(mask="colour.png"), row(mask=None, polygon=[1, 2, 3])
    )
    dataset = read_referring_folder(own)
    with pytest.raises(ValueError, match=r"small\.png \(a\.png\): a mask of \(5, 5\) .* \(6, 8\)"):
        dataset[0]
    with pytest.raises(ValueError, match=r"colour\.png: mode RGB"):
        dataset[1]
    with pytest.raises(ValueError, match=r"refs\.json: row 2: a polygon has 3 numbers"):
        dataset[2]


# REFER files


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
    assert dataset.expression_count == 3
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


# Databases


def png(size):
    buffer = io.BytesIO()
    Image.new("L", size[::-1]).save(buffer, "PNG")
    return buffer.getvalue()


def write_database(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(path), subdir=False, map_size=2**24) as database,
        database.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)
    return path


def recorded_entries(case):
    return {
        str(case[f"key_{i}"]).encode(): case[f"value_{i}"].tobytes()
        for i in range(sum(key.startswith("key_") for key in case))
    }


@pytest.mark.parametrize("source", SOURCES)
def test_cris_parity_lmdb_records(tmp_path, source):
    case = cases("cris", source).open("lmdb_records.npz")
    masks = tmp_path / "masks"
    masks.mkdir()
    for index, name in enumerate(case["val_mask_file"].tolist()):
        (masks / name).write_bytes(case[f"mask_png_{index}"].tobytes())
    path = write_database(tmp_path / "refcoco" / "train.lmdb", recorded_entries(case))
    dataset = read_lmdb(path)
    assert (dataset.name, dataset.split, len(dataset)) == ("refcoco", "train", 3)
    assert dataset.expression_count == 6
    outside = read_lmdb(path, masks)
    for index in range(3):
        sample = dataset[index]
        assert list(sample.mask.shape) == case["val_ori_size"][index].tolist()
        assert f"{sample.name}.png" == case["val_mask_file"][index]
        np.testing.assert_array_equal(outside[index].mask, sample.mask)
        ids = tokenize(sample.expressions[:1], context_length=17)
        np.testing.assert_array_equal(ids[0], case["val_word_ids"][index])
    # The first fits the input of 64 without a change of scale: 8 rows above and below.
    np.testing.assert_array_equal(dataset[0].mask, case["train_mask"][0, 8:56] == 1)
    assert dataset[0].expressions == ("left cat", "the cat on the left", "kitty")
    assert dataset.fingerprint() != outside.fingerprint()


@pytest.fixture
def entries():
    entries = recorded_entries(cases("cris", "compact").open("lmdb_records.npz"))
    return {key: pickle.loads(value) for key, value in entries.items()}


def dump(entries):
    return {key: pickle.dumps(value, protocol=5) for key, value in entries.items()}


def test_masks_beside_the_database_count_when_they_are_asked_for(tmp_path, entries):
    path = write_database(tmp_path / "d" / "val.lmdb", dump(entries))
    with pytest.raises(ValueError, match="masks is missing; it holds the masks, named after"):
        read_lmdb(path, tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    dataset = read_lmdb(path, tmp_path / "masks")
    with pytest.raises(ValueError, match=r"record '0': .*100\.png: no such file"):
        dataset[0]
    Image.new("L", (64, 48), 255).save(tmp_path / "masks" / "100.png")
    assert dataset[0].mask.all()


def test_databases_of_pyarrow_are_told(tmp_path):
    old = {b"__keys__": b"\x00\x00\x00\x00\x01", b"__len__": b"\x00\x00\x00\x00\x01"}
    path = write_database(tmp_path / "val.lmdb", old)
    with pytest.raises(ValueError, match=r"pyarrow\.serialize, .*again with .*folder2lmdb\.py"):
        read_lmdb(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({b"__keys__": None}, "record '__keys__' is missing"),
        ({b"__keys__": 3}, "its list of records is no list of keys"),
        ({b"__keys__": ["0"]}, "its list of records is no list of keys"),
        ({b"__len__": 2}, "it lists 3 records, but counts 2"),
        ({b"__keys__": [], b"__len__": 0}, "has no references"),
    ],
)
def test_other_databases_are_told(tmp_path, entries, changes, message):
    entries = {key: value for key, value in (entries | changes).items() if value is not None}
    path = write_database(tmp_path / "val.lmdb", dump(entries))
    with pytest.raises(ValueError, match=message):
        read_lmdb(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seg_id": "../../x"}, r"record '0': seg_id is '\.\./\.\./x'"),
        ({"img": None}, "record '0': img is no picture but None"),
        ({"img": b"GIF"}, "record '0': the bytes: "),
        ({"mask": png((5, 5))}, r"record '0': the mask of 100: a mask of \(5, 5\)"),
        ({"mask": []}, r"record '0': mask is no picture but \[\]"),
        ({"sents": []}, "record '0': has no expression"),
        ({"sents": [b"x"]}, "record '0': an expression is b'x'"),
    ],
)
def test_damaged_records_are_told(tmp_path, entries, changes, message):
    entries[b"0"] |= changes
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    assert dataset[1].name == "101"
    with pytest.raises(ValueError, match=message):
        dataset[0]


def test_records_that_are_no_dictionary_or_are_gone(tmp_path, entries):
    entries[b"0"] = [1]
    del entries[b"1"]
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with pytest.raises(ValueError, match="record '0' is no dictionary"):
        dataset[0]
    with pytest.raises(ValueError, match="record '1' is missing"):
        dataset[1]


def test_no_code_of_a_database_is_run(tmp_path, entries):
    canary = tmp_path / "canary"
    entries[b"0"]["cat"] = Command(canary)
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with pytest.raises(UnsafeCheckpointError, match="record '0': the file asks for .*system"):
        dataset[0]
    assert not canary.exists()


def test_files_that_are_no_database(tmp_path):
    with pytest.raises(ValueError, match=r"val\.lmdb is missing; give a database"):
        read_lmdb(tmp_path / "val.lmdb")
    (tmp_path / "val.lmdb").write_bytes(b"x" * 10_000)
    with pytest.raises(ValueError, match=r"val\.lmdb cannot be read \(.*not an LMDB file"):
        read_lmdb(tmp_path / "val.lmdb")


def test_a_database_is_read_from_many_threads(tmp_path, entries):
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda i: dataset[i % 3].name, range(60)))
    assert names == ["100", "101", "102"] * 20
