"""Referring data of one's own, made on the spot."""

import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.masks import RunLengths
from lexiseg.data.referring import read_referring_folder
from tests.data.squares import HEIGHT, SQUARE, WIDTH, photograph, square_mask


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
    assert sum(len(each.read_expressions()) for each in dataset.references) == 4
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
