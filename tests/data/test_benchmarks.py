"""The benchmarks' names, sizes, classes and words."""

import numpy as np
import pytest

from lexiseg.data import catalog
from lexiseg.data.catalog import BENCHMARKS


def test_sizes_are_those_of_the_papers():
    sizes = {name: benchmark.counts["val"] for name, benchmark in BENCHMARKS.items()}
    assert sizes == {
        "ade150": (2000,),
        "ade847": (2000,),
        "context59": (5104, 5105),
        "context60": (5104, 5105),
        "context459": (5104, 5105),
        "voc20": (1449,),
        "voc20b": (1449,),
        "voc21": (1449,),
        "stuff171": (5000,),
        "object81": (5000,),
        "cityscapes19": (500,),
    }
    assert catalog.size_note("stuff171", "train", 118287) is None
    assert catalog.size_note("ade20k", "val", 1999) == "1999 photographs; ade150 val has 2000"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("pc59", "context59"),
        ("PC459", "context459"),
        ("coco_stuff", "stuff171"),
        ("voc21", "voc21"),
    ],
)
def test_aliases(alias, name):
    assert catalog.find(alias).name == name
    assert alias.lower() in catalog.names()
    assert set(catalog.ALIASES.values()) <= set(BENCHMARKS)


def test_unknown_names_get_the_nearest_one(tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark 'contxt59'; did you mean 'context59'"):
        catalog.read_benchmark("contxt59", tmp_path)
    with pytest.raises(ValueError, match="split 'test' of voc20; allowed are 'train' and 'val'"):
        catalog.read_benchmark("voc20", tmp_path, "test")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_classes_colours_and_words_belong_together(name):
    benchmark = BENCHMARKS[name]
    classes = benchmark.class_names
    words = benchmark.vocabularies()
    assert len(classes) == int("".join(c for c in name if c.isdigit())) + (name == "voc20b")
    assert len(benchmark.palette) == len(classes)
    assert set(words) == {"default", *benchmark.authors}
    for vocabulary in words.values():
        judged = {vocabulary.none} - {None} | set(vocabulary.classes)
        assert judged == set(range(len(classes)))
        first = 1 if benchmark.background == "first" else 0
        for label, position in zip(vocabulary.labels.labels, vocabulary.classes, strict=True):
            if position - first < 20 or name != "voc20b":
                assert classes[position] == label


def test_background_is_class_0_for_segclip_and_freeda():
    for name, count in (("voc21", 39), ("context60", 390), ("object81", 91)):
        benchmark = BENCHMARKS[name]
        assert benchmark.class_names[0] == "background"
        assert benchmark.palette[0] == (0, 0, 0)
        for vocabulary in benchmark.vocabularies().values():
            assert vocabulary.none == 0
            assert vocabulary.classes == tuple(range(1, len(benchmark.class_names)))
            assert "background" not in vocabulary.labels.labels
            assert len(vocabulary.background) >= count
            taken = {n.casefold() for names in vocabulary.labels.names for n in names}
            assert not taken & {n.casefold() for n in vocabulary.background}
    assert "unknown" not in BENCHMARKS["context60"].vocabularies()["default"].background
    assert {"sky", "brick wall"} <= set(BENCHMARKS["object81"].vocabularies()["freeda"].background)


def test_voc20b_asks_for_59_words_and_takes_39_of_them_for_background():
    benchmark = BENCHMARKS["voc20b"]
    words = benchmark.vocabularies()["catseg"]
    assert benchmark.class_names[19:] == ("tv monitor", "background")
    assert words.classes == (*range(20), *[20] * 39)
    assert (words.none, words.background) == (20, ())
    names = [each[0] for each in words.labels.names]
    assert names[10] == "diningtable"
    assert names[20:24] == ["bag", "bed", "bedclothes", "bench"]
    label_map = np.array([[0, 19, 20, 58, 255]], np.uint8)
    np.testing.assert_array_equal(words.to_classes(label_map, 255), [[0, 19, 20, 20, 20]])


def test_authors_use_their_own_names():
    voc = BENCHMARKS["voc21"].vocabularies()
    assert [voc[a].labels.names[10] for a in ("default", "segclip", "freeda")] == [
        ("dining table",),
        ("table",),
        ("diningtable",),
    ]
    context = BENCHMARKS["context60"].vocabularies()
    assert context["segclip"].labels.names[0] == ("airplane",)
    assert context["freeda"].labels.names[49] == ("table",)
    city = BENCHMARKS["cityscapes19"].vocabularies()
    assert city["freeda"].labels.names[0] == ("road",)
    assert len(city["default"].labels.names[0]) == 2
