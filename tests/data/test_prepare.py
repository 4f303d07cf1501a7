from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.catalog import read_benchmark
from lexiseg.data.prepare import plan, run
from lexiseg.data.prepare.ade_full import shrink_image, shrink_label_map, small_size
from tests.data.downloads import (
    ALL,
    LEFT,
    TOP,
    U8,
    ade150,
    ade_full,
    context,
    detail,
    objects,
    prepare,
    read,
    save,
    street,
    stuff,
    voc,
    write,
)


def test_ade150_moves_down_by_one(tmp_path: Path) -> None:
    ade150(tmp_path)
    assert prepare("ade150", tmp_path) == []
    made = tmp_path / "ADEChallengeData2016" / "annotations_detectron2" / "validation"
    assert read(made / "ADE_val_00000002.png") == [[255, 0], [149, 1]]
    assert len(list(made.iterdir())) == 3


def test_the_root_may_be_the_data_set_itself(tmp_path: Path) -> None:
    ade150(tmp_path)
    prepare("ade150", tmp_path / "ADEChallengeData2016")
    made = tmp_path / "ADEChallengeData2016" / "annotations_detectron2" / "validation"
    assert read(made / "ADE_val_00000001.png") == [[255, 0], [149, 0]]


def test_ade847_reads_classes_out_of_colours(tmp_path: Path) -> None:
    # wall is number 2978 = 11 * 256 + 162, class 0; blue is the object. 8 is in no class.
    folder = ade_full(tmp_path, (4, 6), [[119, 162, 7], [0, 8, 9]])
    assert prepare("ade847", tmp_path) == []
    label_map = folder / "annotations_detectron2" / "validation" / "ADE_val_00000001.tif"
    assert read(label_map) == [[0, 0, 0, 65535, 65535, 65535]] * 4
    with Image.open(label_map) as image:
        assert image.mode == "I;16"
    with Image.open(folder / "images_detectron2/validation/ADE_val_00000001.jpg") as image:
        assert (image.size, image.getpixel((1, 1))) == ((6, 4), (90, 90, 90))


def test_ade847_makes_the_shorter_side_512(tmp_path: Path) -> None:
    # adding machine is number 3148 = 12 * 256 + 76, the last class; building 312 = 256 + 56 is 1
    folder = ade_full(tmp_path, (1024, 1030), [[120, 76, 1], [10, 56, 2]])
    prepare("ade847", tmp_path)
    label_map = read(folder / "annotations_detectron2/validation/ADE_val_00000001.tif")
    assert label_map == [[846] * 258 + [1] * 257] * 512  # column i is 2 * i of 1030, here 515 on
    with Image.open(folder / "images_detectron2/validation/ADE_val_00000001.jpg") as image:
        assert image.size == (515, 512)


@pytest.mark.parametrize(
    ("size", "small"),
    [((512, 700), (512, 700)), ((513, 700), (512, 699)), ((900, 600), (768, 512))],
)
def test_small_sizes(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert small_size(*size) == small


def test_shrinking_takes_single_pixels() -> None:
    row = np.array([[0, 10, 20, 30, 40, 50]], U8)
    assert shrink_label_map(row, (1, 4)).tolist() == [[0, 10, 30, 40]]  # 0, 1.5, 3, 4.5
    colours = np.stack([row] * 3, axis=-1)
    # centres of 4 in 6: 0.25, 1.75, 3.25, 4.75; halves go to the even number
    assert shrink_image(colours, (1, 4))[0, :, 0].tolist() == [2, 18, 32, 48]


@pytest.mark.parametrize(
    ("name", "made", "background"),
    [("voc20", "annotations_detectron2", 255), ("voc20b", "annotations_detectron2_bg", 20)],
)
def test_voc(name: str, made: str, background: int, tmp_path: Path) -> None:
    folder = voc(tmp_path)
    assert prepare(name, tmp_path) == []
    assert read(folder / made / "val" / "2007_000033.png") == [[background, 0, 255]]
    assert read(folder / made / "val" / "2007_000042.png") == [[19, background, background]]


def test_the_augmented_masks_of_voc_come_first(tmp_path: Path) -> None:
    folder = voc(tmp_path)
    for name in ("2007_000033", "2007_000042"):
        save(folder / "SegmentationClassAug" / f"{name}.png", [[2, 2, 2]])
    prepare("voc20", tmp_path)
    assert read(folder / "annotations_detectron2" / "val" / "2007_000033.png") == [[1, 1, 1]]


def test_a_listing_with_a_byte_order_mark(tmp_path: Path) -> None:
    listing = voc(tmp_path) / "ImageSets" / "Segmentation" / "val.txt"
    listing.write_bytes(b"\xef\xbb\xbf" + listing.read_bytes())
    assert prepare("voc20", tmp_path) == []


def test_voc21_is_read_as_downloaded(tmp_path: Path) -> None:
    assert plan("voc21", tmp_path) == ()


def test_stuff171_closes_the_gaps(tmp_path: Path) -> None:
    stuff(tmp_path)
    assert prepare("stuff171", tmp_path) == []
    made = tmp_path / "coco-stuff" / "annotations_detectron2" / "val2017" / "000000000139.png"
    assert read(made) == [[0, 11, 79], [80, 170, 255]]


def test_object81_out_of_stuff(tmp_path: Path) -> None:
    folder = stuff(tmp_path)
    assert prepare("object81", tmp_path) == []
    assert read(folder / "000000000139_instanceTrainIds.png") == [[1, 12, 80], [0, 0, 0]]
    prepare("stuff171", tmp_path)  # does not take the new file for a downloaded one
    assert len(list((tmp_path / "coco-stuff/annotations_detectron2/val2017").iterdir())) == 1


@pytest.mark.parametrize("name", ["stuff171", "object81"])
def test_the_maps_of_stuff_may_lie_in_a_folder_of_their_own(name: str, tmp_path: Path) -> None:
    stuff(tmp_path, "stuffthingmaps")
    (tmp_path / "coco-stuff" / "annotations" / "val2017").mkdir(parents=True)
    (outcome,) = run(plan(name, tmp_path))
    assert outcome.state == "written"
    assert "stuffthingmaps" not in outcome.file.parts


def test_object81_out_of_annotations(tmp_path: Path) -> None:
    write(tmp_path / "coco" / "annotations" / "instances_val2017.json", objects())
    assert prepare("object81", tmp_path) == []
    folder = tmp_path / "coco" / "annotations" / "val2017"
    label_map = read(folder / "000000000139_instanceTrainIds.png")
    # a stop sign (category 13 is the 12th) on a larger person; a car, as a crowd of the sign's
    # size but later; a toothbrush on it, though earlier
    assert label_map == [[1, 1, 12, 3, 80]] * 2 + [[1, 1, 12, 3, 3]] * 2
    assert read(folder / "000000000007_instanceTrainIds.png") == [[0, 0]]


def test_context459(tmp_path: Path) -> None:
    folder = context(tmp_path)
    assert prepare("context459", tmp_path) == []
    made = folder / "annotations_detectron2" / "pc459_val"
    assert read(made / "2008_000002.tif") == [[1, 457, 458]]
    assert read(made / "2008_000003.tif") == [[0, 459, 439]]


def test_context59_and_60_out_of_matlab_files(tmp_path: Path) -> None:
    folder = context(tmp_path)
    assert prepare("context59", tmp_path) + prepare("context60", tmp_path) == []
    made = folder / "annotations_detectron2" / "pc59_val"
    assert read(made / "2008_000002.png") == [[0, 58, 255]]
    assert read(made / "2008_000003.png") == [[255, 255, 55]]  # wall is the 56th of 59
    assert read(folder / "SegmentationClassContext" / "2008_000002.png") == [[1, 59, 0]]
    listing = folder / "ImageSets" / "SegmentationContext" / "val.txt"
    assert listing.read_text() == "2008_000002\n2008_000003\n"


def test_context59_and_60_out_of_pascal_in_detail(tmp_path: Path) -> None:
    folder = detail(tmp_path)
    assert prepare("context59", tmp_path) + prepare("context60", tmp_path) == []
    made = folder / "annotations_detectron2" / "pc59_val"
    assert [file.name for file in made.iterdir()] == ["2008_000008.png"]
    assert read(made / "2008_000008.png") == [[55, 55, 0], [255, 255, 255]]
    made = folder / "SegmentationClassContext" / "2008_000008.png"
    assert read(made) == [[56, 56, 1], [0, 0, 0]]
    listing = folder / "ImageSets" / "SegmentationContext" / "val.txt"
    assert listing.read_text() == "2008_000008\n"
    assert prepare("context60", tmp_path, split="train") == []
    assert read(made.with_name("2008_000009.png")) == [[2, 2, 2], [0, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], [[255] * 4] * 3),
        ([("sky", ALL), ("road", LEFT)], [[0, 0, 10, 10]] * 3),  # the corners lie inside
        ([("road", LEFT), ("sky", ALL)], [[10] * 4] * 3),
        ([("sky", ALL), ("cargroup", LEFT)], [[13, 13, 10, 10]] * 3),
        ([("sky", ALL), ("polegroup", LEFT)], [[255, 255, 10, 10]] * 3),  # not a pole
        ([("car", ALL), ("license plate", LEFT)], [[13] * 4] * 3),
        ([("building", ALL), ("out of roi", TOP)], [[255] * 4, [2] * 4, [2] * 4]),
    ],
)
def test_cityscapes(rows: list[tuple[str, list]], expected: list, tmp_path: Path) -> None:
    folder = tmp_path / "cityscapes" / "gtFine" / "val" / "ulm"
    write(folder / "ulm_000000_000019_gtFine_polygons.json", street(*rows))
    assert prepare("cityscapes19", tmp_path) == []
    assert read(folder / "ulm_000000_000019_gtFine_labelTrainIds.png") == expected


def test_deleted_objects_are_not_painted(tmp_path: Path) -> None:
    content = street(("sky", ALL), ("car", LEFT))
    content["objects"][1]["deleted"] = 1
    file = write(tmp_path / "gtFine" / "val" / "ulm" / "a_polygons.json", content)
    prepare("cityscapes19", tmp_path)
    assert read(file.with_name("a_labelTrainIds.png")) == [[10] * 4] * 3


def city(root: Path) -> Path:
    folder = root / "cityscapes" / "gtFine" / "val" / "ulm"
    content = street(("sky", ALL), ("cargroup", LEFT))
    return write(folder / "ulm_000000_000019_gtFine_polygons.json", content).parents[3]


def photographs(root: Path) -> None:
    """The photographs of the raw trees in this file, but for ADE20K's, which are there."""
    ade, voc2012 = root / "ADEChallengeData2016/images/validation", root / "VOCdevkit/VOC2012"
    for number in (1, 2, 3):
        save(ade / f"ADE_val_0000000{number}.jpg", np.zeros((2, 2, 3)))
    for name in ("2007_000033", "2007_000042"):
        save(voc2012 / "JPEGImages" / f"{name}.jpg", np.zeros((1, 3, 3)))
    for name, height in {"2008_000002": 1, "2008_000003": 1, "2008_000008": 2}.items():
        folder = root / "VOCdevkit" / "VOC2010" / "JPEGImages"
        save(folder / f"{name}.jpg", np.zeros((height, 3, 3)))
    save(root / "coco-stuff/images/val2017/000000000139.jpg", np.zeros((2, 3, 3)))
    street_view = root / "cityscapes/leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
    save(street_view, np.zeros((3, 4, 3)))


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (ade150, "ade150", [[255, 0], [149, 0]]),
        (
            lambda root: ade_full(root, (2, 4), [[120, 76, 1], [0, 8, 2]]),
            "ade847",
            [[846, 846, 65535, 65535]] * 2,
        ),
        (context, "context59", [[0, 58, 255]]),
        (context, "context60", [[1, 59, 0]]),
        (detail, "context59", [[55, 55, 0], [255, 255, 255]]),
        (detail, "context60", [[56, 56, 1], [0, 0, 0]]),
        (context, "context459", [[1, 457, 458]]),
        (voc, "voc20", [[255, 0, 255]]),
        (voc, "voc20b", [[20, 0, 255]]),
        (voc, "voc21", [[0, 1, 255]]),
        (stuff, "stuff171", [[0, 11, 79], [80, 170, 255]]),
        (stuff, "object81", [[1, 12, 80], [0, 0, 0]]),
        (city, "cityscapes19", [[13, 13, 10, 10]] * 3),
    ],
)
def test_the_catalogue_reads_what_is_made(
    make: Callable[[Path], Path | None], name: str, expected: list[list[int]], tmp_path: Path
) -> None:
    make(tmp_path)
    photographs(tmp_path)
    assert prepare(name, tmp_path) == []
    if name != "voc21":  # what the download holds must not be read in place of what is made
        jobs = plan(name, tmp_path)
        sources = {source for job in jobs for source in job.sources}
        for source in sources:
            source.unlink()
    dataset = read_benchmark(name, tmp_path)
    assert dataset[0].label_map.tolist() == expected
