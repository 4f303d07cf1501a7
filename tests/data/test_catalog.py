"""Small made trees in every layout of every benchmark; 4 x 6 pictures of a few known pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data import catalog
from lexiseg.data.catalog import BENCHMARKS
from lexiseg.data.semantic import SemanticDataset

NAMES = ("a_1", "b_2")
CASES = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name, benchmark in BENCHMARKS.items()
    for number in range(len(benchmark.layouts))
]
# What classes the two pictures hold, and where nobody judged; the last class is in both.
POSITIONS = {
    "ade150": (0, 7, 149),
    "ade847": (0, 300, 846),
    "context59": (0, 40, 58),
    "context60": (0, 1, 40, 59),
    "context459": (0, 255, 458),
    "voc20": (0, 14, 19),
    "voc20b": (0, 19, 20),
    "voc21": (0, 1, 20),
    "stuff171": (0, 11, 80, 170),
    "object81": (0, 1, 12, 80),
    "cityscapes19": (0, 5, 18),
}
# GroupViT's maps of COCO-Object and mmsegmentation's of Context-60 count every pixel.
NOTHING_IGNORED = ("object81", "context60")


def write_mask(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        Image.fromarray(numbers.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(numbers.astype(np.uint8))
    if path.parent.name == "SegmentationClass":  # VOC's are palette pictures
        image = image.convert("P")
        image.putdata(numbers.ravel().tolist())
    image.save(path)


def positions_of(name: str) -> list[np.ndarray]:
    """The label maps that the made trees stand for, in positions; -1 where nobody judged."""
    maps = []
    for shift in range(len(NAMES)):
        flat = np.resize(np.roll(POSITIONS[name], shift), 24)
        if name not in NOTHING_IGNORED:
            flat[-6:] = -1
        maps.append(flat.reshape(4, 6))
    return maps


def make_tree(root: Path, name: str, number: int = 0, split: str = "val") -> Path:
    """Two pictures in a benchmark's layout of this number, under its first place."""
    benchmark = BENCHMARKS[name]
    layout = benchmark.layouts[number]
    place = root / benchmark.places[0]
    paths = layout.paths(place, split)
    number_of = {position: stored for stored, position in layout.ids.items()}
    number_of[-1] = min(layout.ignored, default=-1)
    inner = ["frankfurt/", "lindau/"] if name == "cityscapes19" else ["", ""]
    for stem, folder, positions in zip(NAMES, inner, positions_of(name), strict=True):
        photograph = paths["images"] / f"{folder}{stem}{layout.image_suffix}"
        photograph.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (9, 9, 9)).save(photograph)
        numbers = np.vectorize(number_of.__getitem__)(positions)
        write_mask(paths["masks"] / f"{folder}{stem}{layout.mask_suffix}", numbers)
    if "listing" in paths:
        paths["listing"].parent.mkdir(parents=True, exist_ok=True)
        paths["listing"].write_text("".join(f"{stem}\n" for stem in NAMES))
    return place


def label_maps(dataset: SemanticDataset) -> list[np.ndarray]:
    maps = [dataset[i].label_map.astype(np.int64) for i in range(len(dataset))]
    return [np.where(each == dataset.ignore_index, -1, each) for each in maps]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_layout_gives_the_same_label_maps(tmp_path, name, number):
    make_tree(tmp_path, name, number)
    dataset = catalog.read_benchmark(name, tmp_path)
    assert dataset.name == name
    assert dataset.split == "val"
    assert len(dataset) == 2
    np.testing.assert_array_equal(label_maps(dataset), positions_of(name))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_folder_of_the_benchmark_itself_is_a_root_too(tmp_path, name):
    place = make_tree(tmp_path, name, split="train")
    assert place != tmp_path
    assert len(catalog.read_benchmark(name, place, "train")) == 2


# What the authors' own converters make of the numbers in the downloads, a few of each by hand: the
# stored number, and the position it gets (None: ignored).
@pytest.mark.parametrize(
    ("name", "number", "pairs"),
    [
        # 182 numbers less 11 gaps: 11, 25, 28, 29, 44, 65, 67, 68, 70, 82 and 90 stand for nothing.
        (
            "stuff171",
            0,
            {0: 0, 10: 10, 12: 11, 24: 23, 26: 24, 27: 25, 30: 26, 43: 39, 45: 40, 64: 59}
            | {66: 60, 69: 61, 71: 62, 81: 72, 83: 73, 89: 79, 91: 80, 148: 137, 181: 170}
            | {255: None, 11: None, 90: None},
        ),
        ("stuff171", 3, {0: 0, 170: 170, 255: None}),
        ("object81", 0, {0: 1, 10: 11, 11: 0, 12: 12, 89: 80, 90: 0, 91: 0, 181: 0, 255: 0}),
        ("object81", 3, {0: 0, 1: 1, 80: 80}),
        ("object81", 4, {0: 1, 79: 80, 80: 0, 170: 0, 255: 0}),
        ("ade150", 0, {0: None, 1: 0, 150: 149}),
        ("ade150", 1, {0: 0, 149: 149, 255: None}),
        ("ade847", 0, {0: 0, 256: 256, 846: 846, 65535: None}),
        ("context459", 0, {0: 0, 458: 458, 459: None}),
        ("context59", 0, {0: 0, 58: 58, 255: None}),
        ("context59", 1, {0: None, 1: 0, 59: 58}),
        ("context60", 0, {0: 0, 1: 1, 59: 59}),
        ("context60", 1, {255: 0, 0: 1, 58: 59}),
        ("voc20", 0, {0: None, 1: 0, 20: 19, 255: None}),
        ("voc20", 2, {0: 0, 19: 19, 20: None, 255: None}),
        ("voc20b", 0, {0: 20, 1: 0, 20: 19, 255: None}),
        ("voc20b", 1, {0: 0, 19: 19, 20: 20, 255: None}),
        ("voc21", 0, {0: 0, 1: 1, 20: 20, 255: None}),
        ("voc21", 1, {20: 0, 0: 1, 19: 20, 255: None}),
        (
            "cityscapes19",
            0,
            {7: 0, 8: 1, 11: 2, 17: 5, 19: 6, 23: 10, 26: 13, 28: 15, 31: 16, 33: 18}
            | {0: None, 9: None, 18: None, 29: None, 30: None},
        ),
        ("cityscapes19", 1, {0: 0, 18: 18, 255: None}),
    ],
)
def test_numbers_become_positions_as_the_authors_convert_them(tmp_path, name, number, pairs):
    place = make_tree(tmp_path, name, number)
    layout = BENCHMARKS[name].layouts[number]
    folder = layout.paths(place, "val")["masks"]
    inner = "frankfurt/" if name == "cityscapes19" else ""
    numbers = np.resize(np.array(list(pairs)), 24).reshape(4, 6)
    write_mask(folder / f"{inner}a_1{layout.mask_suffix}", numbers)
    expected = [[-1 if pairs[v] is None else pairs[v] for v in row] for row in numbers.tolist()]
    np.testing.assert_array_equal(label_maps(catalog.read_benchmark(name, tmp_path))[0], expected)


@pytest.mark.parametrize(("name", "number"), [("object81", 0), ("stuff171", 0)])
def test_a_number_of_another_benchmark_names_its_file(tmp_path, name, number):
    place = make_tree(tmp_path, name, number)
    write_mask(place / "annotations" / "val2017" / "a_1.png", np.full((4, 6), 200))
    with pytest.raises(ValueError, match=r"a_1\.png.*200"):
        catalog.read_benchmark(name, tmp_path)[0]


def test_converted_maps_may_lie_beside_the_raw_ones(tmp_path):
    for number in (0, 3):
        make_tree(tmp_path, "stuff171", number)
        make_tree(tmp_path, "object81", number)
    assert len(catalog.read_benchmark("stuff171", tmp_path)) == 2
    assert len(catalog.read_benchmark("object81", tmp_path)) == 2


def test_photographs_of_other_splits_are_left_out(tmp_path):
    place = make_tree(tmp_path, "voc20", 1)
    Image.new("RGB", (6, 4)).save(place / "JPEGImages" / "of_train.jpg")
    assert [p.stem for p in catalog.read_benchmark("voc20", tmp_path).images] == list(NAMES)
    make_tree(tmp_path, "voc20", 0)
    assert [p.stem for p in catalog.read_benchmark("voc20", tmp_path).images] == list(NAMES)


@pytest.mark.parametrize(
    ("name", "number", "gone", "message"),
    [
        ("ade150", 0, "annotations/validation/a_1.png", r"1 names without a label map.*a_1\.png"),
        ("ade150", 0, "images/validation/a_1.jpg", r"1 names without a photograph.*a_1\.jpg"),
        (
            "voc21",
            0,
            "JPEGImages/b_2.jpg",
            r"val\.txt names 1 names without a photograph.*b_2\.jpg",
        ),
        ("voc21", 0, "SegmentationClass/b_2.png", r"val\.txt.*without a label map.*b_2\.png"),
        ("voc21", 1, "JPEGImages/b_2.jpg", r"_bg/val holds 1 names without a photograph.*b_2\.jpg"),
    ],
)
def test_a_file_without_its_other_half_is_named(tmp_path, name, number, gone, message):
    (make_tree(tmp_path, name, number) / gone).unlink()
    with pytest.raises(ValueError, match=message):
        catalog.read_benchmark(name, tmp_path)
    findings = catalog.check(name, tmp_path)
    assert len(findings) == 2  # and the number of photographs
    assert gone.rpartition("/")[2] in findings[0]


def test_cities_may_be_links(tmp_path):
    place = make_tree(tmp_path, "cityscapes19")
    for kind in ("leftImg8bit", "gtFine"):
        city = place / kind / "val" / "lindau"
        city.rename(tmp_path / f"{kind}_lindau")
        city.symlink_to(tmp_path / f"{kind}_lindau")
    assert len(catalog.read_benchmark("cityscapes19", tmp_path)) == 2


def test_a_listing_may_begin_with_a_byte_order_mark(tmp_path):
    listing = make_tree(tmp_path, "voc21") / "ImageSets/Segmentation/val.txt"
    listing.write_bytes(b"\xef\xbb\xbf" + listing.read_bytes())
    assert len(catalog.read_benchmark("voc21", tmp_path)) == 2


def test_an_empty_listing_is_refused(tmp_path):
    place = make_tree(tmp_path, "voc21")
    (place / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt names no photograph"):
        catalog.read_benchmark("voc21", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_empty_root_is_told_what_it_needs(tmp_path, name):
    with pytest.raises(
        ValueError, match=f"has no {name} val; looked in .*lexiseg data check {name}"
    ):
        catalog.read_benchmark(name, tmp_path)
    findings = catalog.check(name, tmp_path)
    layout = BENCHMARKS[name].layouts[0]
    paths = layout.paths(tmp_path / BENCHMARKS[name].places[0], "val")
    assert [line.split(" is missing: ")[0] for line in findings] == [str(p) for p in paths.values()]
    assert all("http" in line for line in findings)
    made = [f"`lexiseg data prepare {name} {tmp_path}` makes it" in line for line in findings]
    assert made == [kind in layout.prepared for kind in paths]


def test_a_half_root_is_told_the_other_half(tmp_path):
    place = make_tree(tmp_path, "ade150")
    for file in (place / "images" / "validation").iterdir():
        file.unlink()
    folder = place / "images" / "validation"
    assert catalog.check("ade150", tmp_path) == [
        f"{folder} holds no *.jpg: get {BENCHMARKS['ade150'].images_from}"
    ]
    assert catalog.check("ade150", tmp_path / "nowhere") == [
        f"{tmp_path / 'nowhere'} is no folder; give the one that holds the data sets"
    ]


def test_check_is_about_the_layout_whose_label_maps_are_there(tmp_path):
    place = make_tree(tmp_path, "voc20", 1)
    for file in (place / "JPEGImages").iterdir():
        file.unlink()
    (finding,) = catalog.check("voc20", tmp_path)
    assert finding.startswith(f"{place / 'JPEGImages'} holds no *.jpg: get http")


def test_the_number_of_photographs_is_told_but_refuses_nothing(tmp_path, monkeypatch):
    make_tree(tmp_path, "context60")
    (finding,) = catalog.check("context60", tmp_path)
    assert finding.endswith("VOC2010: 2 photographs; context60 val has 5104 or 5105")
    assert len(catalog.read_benchmark("context60", tmp_path)) == 2
    small = replace(BENCHMARKS["context60"], counts={"val": (2,)})
    monkeypatch.setitem(BENCHMARKS, "context60", small)
    assert catalog.check("context60", tmp_path) == []
