"""The bundled lists of class names, against the facts of the papers' own lists."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import lexiseg
from lexiseg.prompts import LabelSet, parse_labels, standard_list
from lexiseg.vocabularies import list_names, standard_palette

FOLDER = Path(lexiseg.__file__).parent / "assets" / "class_lists"
COUNTS = {
    "ade150": 150,
    "ade847": 847,
    "cityscapes19": 19,
    "coco80": 80,
    "msrc21": 21,
    "pc459": 459,
    "pc59": 59,
    "stuff171": 171,
    "voc20": 20,
}


def content(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_counts():
    assert {name: len(standard_list(name)) for name in list_names()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_a_list_is_whole(name):
    given = content(name)
    assert given["title"]
    assert given["origin"]
    labels = standard_list(name).labels
    assert len({label.casefold() for label in labels}) == len(labels)
    assert all(len(names) == len(labels) for names in given.get("published", {}).values())
    palette = standard_palette(name)
    if name == "msrc21":
        assert palette is None
        return
    assert given["licence"]
    assert len(palette) == len(labels)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in given["palette"])


@pytest.mark.parametrize("name", COUNTS)
def test_synonyms_of_a_label_differ_and_are_tidy(name):
    for names in standard_list(name).names:
        assert len({each.casefold() for each in names}) == len(names)
        assert all(each == each.strip() for each in names)


def test_ade847_has_synonyms_and_repeated_names_as_published():
    published = standard_list("ade847", "catseg")
    assert published.labels == standard_list("ade847").labels
    assert sum(len(names) > 1 for names in published.names) == 217
    firsts = Counter(names[0] for names in published.names)
    assert len(firsts) == 837
    repeated = {name for name, count in firsts.items() if count > 1}
    assert repeated == {
        *("bag", "pot", "basket", "screen", "pier", "control panel", "pipe", "grill", "patio")
    }
    assert firsts["bag"] == 3
    assert published.names[147] == ("screen", "crt screen")
    assert published.labels[147] == "CRT screen"
    assert "c p u " in published.names[782]


def test_blanks_are_kept_where_authors_have_them():
    assert standard_list("ade150").names[7] == ("bed",)
    assert standard_list("ade150", "catseg").names[7] == ("bed ",)
    assert standard_list("ade150", "freeda").names[7] == ("bed ",)


@pytest.mark.parametrize(
    ("name", "authors", "at"),
    [
        ("voc20", "catseg", {10: "diningtable", 15: "pottedplant", 19: "tvmonitor"}),
        ("voc20", "segclip", {0: "aeroplane", 10: "table", 15: "plant", 19: "monitor"}),
        ("pc59", "catseg", {0: "aeroplane", 39: "pottedplant", 49: "diningtable", 54: "tvmonitor"}),
        ("pc59", "segclip", {0: "airplane", 39: "plant", 49: "table", 54: "monitor"}),
        ("pc59", "freeda", {0: "aeroplane", 39: "pottedplant", 49: "table", 54: "tvmonitor"}),
        ("pc459", "catseg", {7: "babycarriage", 430: "unknown", 458: "wool"}),
        ("stuff171", "catseg", {0: "person", 84: "building-other", 170: "wood"}),
        ("stuff171", "freeda", {79: "toothbrush", 80: "banner"}),
        ("cityscapes19", "freeda", {0: "road", 8: "vegetation", 18: "bicycle"}),
        ("coco80", "segclip", {0: "person", 78: "hair drier"}),
    ],
)
def test_names_as_authors_publish_them(name, authors, at):
    names = standard_list(name, authors).names
    assert {position: names[position] for position in at} == {p: (n,) for p, n in at.items()}


def test_things_of_coco_stuff_are_those_of_coco():
    things = standard_list("stuff171", "catseg").names[:80]
    assert things == standard_list("coco80", "segclip").names
    assert standard_palette("stuff171")[:80] == standard_palette("coco80")


def test_colours():
    assert standard_palette("voc20")[14] == (192, 128, 128)
    assert standard_palette("ade150")[0] == (120, 120, 120)
    assert standard_palette("pc59")[0] == (180, 120, 120)
    assert standard_palette("cityscapes19")[0] == (128, 64, 128)


@pytest.mark.parametrize(("alias", "name"), [("context59", "pc59"), ("PC59", "pc59")])
def test_lists_by_the_names_of_benchmarks(alias, name):
    assert parse_labels(alias) == LabelSet.of(name) == standard_list(name)
