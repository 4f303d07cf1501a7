import json
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from pycocotools import mask as coco_api

from lexiseg.data.catalog import read_benchmark
from lexiseg.data.prepare import Job, Outcome, SourceError, plan, run
from lexiseg.data.prepare.ade_full import shrink_image, shrink_label_map, small_size

U8 = np.uint8


def save(file: Path, pixels: Any, dtype: type = U8, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype)).save(file, **options)
    return file


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def read(file: Path) -> list[list[int]]:
    with Image.open(file) as image:
        pixels = np.array(image)
    assert pixels.ndim == 2
    return pixels.tolist()


def packed(mask: Any) -> dict[str, Any]:
    """COCO's own compressed run lengths, as JSON files hold them."""
    coded = coco_api.encode(np.asfortranarray(mask, dtype=U8))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def prepare(
    name: str,
    root: Path,
    *,
    split: str = "val",
    workers: int = 1,
    on_file: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Does what there is to do, and gives the failures."""
    failures = []
    with closing(run(plan(name, root, split), workers=workers)) as outcomes:
        for outcome in outcomes:
            if on_file is not None:
                on_file(outcome)
            if outcome.state == "failed":
                failures.append(outcome)
    return failures


def ade150(root: Path) -> None:
    folder = root / "ADEChallengeData2016" / "annotations" / "validation"
    for number in (1, 2, 3):
        save(folder / f"ADE_val_0000000{number}.png", [[0, 1], [150, number]])


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


def ade_full(root: Path, size: tuple[int, int], colours: list[list[int]]) -> Path:
    """A photograph and a mask whose left and right halves have two colours."""
    folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / "validation" / "home" / "bedroom"
    height, width = size
    mask = np.zeros((height, width, 3), U8)
    mask[:, : width // 2], mask[:, width // 2 :] = colours
    save(folder / "ADE_val_00000001.jpg", np.full((height, width, 3), 90))
    save(folder / "ADE_val_00000001_seg.png", mask)
    return root / "ADE20K_2021_17_01"


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


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    write(folder / "ImageSets" / "Segmentation" / "val.txt", "2007_000033\n2007_000042\n")
    palette = [0, 0, 0, 128, 0, 0]
    for name, pixels in {"2007_000033": [[0, 1, 255]], "2007_000042": [[20, 0, 0]]}.items():
        mask = Image.fromarray(np.array(pixels, U8))
        mask.putpalette(palette + [7] * (768 - len(palette)))
        file = folder / "SegmentationClass" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        mask.save(file)
    return folder


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


def stuff(root: Path, kind: str = "annotations") -> Path:
    folder = root / "coco-stuff" / kind / "val2017"
    # person, stop sign (after the first gap), toothbrush, banner, wood, nobody's
    save(folder / "000000000139.png", [[0, 12, 89], [91, 181, 255]])
    return folder


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


def objects() -> dict[str, Any]:
    crowd = np.zeros((4, 5), U8)
    crowd[:, 3:] = 1
    column_runs = [8, 8, 4]  # columns 2 and 3 of 5, four pixels high
    rows = [
        {"category_id": 90, "segmentation": [[4, 0, 5, 0, 5, 2, 4, 2]], "iscrowd": 0},
        {"category_id": 13, "segmentation": {"size": [4, 5], "counts": column_runs}},
        {"category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]], "iscrowd": 0},
        {"category_id": 3, "segmentation": packed(crowd), "iscrowd": 1},
    ]
    return {
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": 4, "width": 5},
            {"id": 7, "file_name": "000000000007.jpg", "height": 1, "width": 2},
        ],
        "annotations": [{"image_id": 139, **row} for row in rows],
    }


def test_object81_out_of_annotations(tmp_path: Path) -> None:
    write(tmp_path / "coco" / "annotations" / "instances_val2017.json", objects())
    assert prepare("object81", tmp_path) == []
    folder = tmp_path / "coco" / "annotations" / "val2017"
    label_map = read(folder / "000000000139_instanceTrainIds.png")
    # a stop sign (category 13 is the 12th) on a larger person; a car, as a crowd of the sign's
    # size but later; a toothbrush on it, though earlier
    assert label_map == [[1, 1, 12, 3, 80]] * 2 + [[1, 1, 12, 3, 3]] * 2
    assert read(folder / "000000000007_instanceTrainIds.png") == [[0, 0]]


def context(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2010"
    write(folder / "pascalcontext_val.txt", "2008_000002\n2008_000003\n")
    (folder / "trainval").mkdir()
    # aeroplane (2), wood (458), the last class (459), accordion (1), nobody's (0)
    for name, row in {"2008_000002": [2, 458, 459], "2008_000003": [1, 0, 440]}.items():
        content = {"LabelMap": np.array([row], np.uint16)}
        scipy.io.savemat(folder / "trainval" / f"{name}.mat", content, do_compression=True)
    return folder


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


def detail(root: Path) -> Path:
    """The annotations of PASCAL in Detail: of each photograph one mask a class."""
    above, corner = np.zeros((2, 3), U8), np.zeros((2, 3), U8)
    above[0], corner[0, 2] = 1, 1
    listed = [
        {"image_id": 1, "file_name": "2008_000008.jpg", "phase": "val", "height": 2, "width": 3},
        {"image_id": 2, "file_name": "2008_000009.jpg", "phase": "train", "height": 2, "width": 3},
    ]
    rows = [
        {"image_id": 1, "category_id": 440, "segmentation": packed(above)},
        {"image_id": 2, "category_id": 9, "segmentation": packed(above)},
        {"image_id": 1, "category_id": 2, "segmentation": packed(corner)},
    ]
    folder = root / "VOCdevkit" / "VOC2010"
    content = {"images": listed, "annos_segmentation": rows, "annos_boundary": []}
    write(folder / "trainval_merged.json", content)
    return folder


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


def street(*rows: tuple[str, list[list[int]]]) -> dict[str, Any]:
    listed = [{"label": label, "polygon": polygon} for label, polygon in rows]
    return {"imgHeight": 3, "imgWidth": 4, "objects": listed}


ALL = [[0, 0], [3, 0], [3, 2], [0, 2]]
LEFT = [[0, 0], [1, 0], [1, 2], [0, 2]]
TOP = [[0, 0], [3, 0], [3, 0], [0, 0]]


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


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    ade150(tmp_path)
    made = []

    def stop(outcome: Any) -> None:
        made.append(outcome)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("ade150", tmp_path, on_file=stop)
    assert [outcome.state for outcome in made] == ["written"]
    before = made[0].file.stat().st_mtime_ns
    outcomes = list(run(plan("ade150", tmp_path)))
    assert outcomes[0].state == "kept"
    assert outcomes[-1].state == "written"
    assert made[0].file.stat().st_mtime_ns == before
    assert {outcome.state for outcome in run(plan("ade150", tmp_path))} == {"kept"}


def test_a_file_older_than_its_source_is_made_again(tmp_path: Path) -> None:
    ade150(tmp_path)
    prepare("ade150", tmp_path)
    source = tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    save(source, [[7, 7]])
    later = source.stat().st_mtime + 10
    os.utime(source, (later, later))
    states = [outcome.state for outcome in run(plan("ade150", tmp_path))]
    assert states == ["written", "kept", "kept"]


def test_workers_change_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "four"]
    for folder, workers in zip(folders, (1, 4), strict=True):
        ade150(folder)
        seen: list[Any] = []
        prepare("ade150", folder, workers=workers, on_file=seen.append)
        assert [outcome.file.name[-5] for outcome in seen] == ["1", "2", "3"]
    one, four = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")} for folder in folders
    )
    assert one == four


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    def broken() -> list[bytes]:
        raise ValueError("half\na file")

    good, bad = tmp_path / "made" / "good.png", tmp_path / "made" / "bad.png"
    jobs = [Job((bad,), (), broken), Job((good,), (), lambda: [b"whole"])]
    outcomes = list(run(jobs, workers=2))
    assert [(o.file, o.state, o.reason) for o in outcomes] == [
        (bad, "failed", "half a file"),
        (good, "written", ""),
    ]
    assert [file.name for file in good.parent.iterdir()] == ["good.png"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "name", "source", "spoil", "message"),
    [
        (ade150, "ade150", "*_val_00000002.png", truncate, "damaged"),
        (ade150, "ade150", "*_val_00000002.png", lambda f: save(f, [[151]]), r"holds \[151\]"),
        (ade150, "ade150", "*_val_00000002.png", lambda f: save(f, [[256]], np.uint16), "8 bits"),
        (voc, "voc20", "*_000042.png", Path.unlink, "no such file"),
        (voc, "voc20", "*_000042.png", lambda f: save(f, [[[1, 2, 3]]]), "mode RGB"),
        (context, "context459", "*_000003.mat", Path.unlink, "no such file"),
        (context, "context459", "*_000003.mat", truncate, "is damaged"),
        (
            context,
            "context59",
            "*_000003.mat",
            lambda f: scipy.io.savemat(f, {"LabelMap": np.array([[460]])}),
            "classes 460 to 460; they are 0 to 459",
        ),
        (
            context,
            "context59",
            "*_000003.mat",
            lambda f: scipy.io.savemat(f, {"labels": np.array([[1]])}),
            "has no LabelMap",
        ),
    ],
)
def test_a_damaged_source_is_named(
    make: Callable[[Path], Any],
    name: str,
    source: str,
    spoil: Callable[[Path], Any],
    message: str,
    tmp_path: Path,
) -> None:
    make(tmp_path)
    (file,) = tmp_path.rglob(source)
    spoil(file)
    seen: list[Any] = []
    (failure,) = prepare(name, tmp_path, on_file=seen.append)
    assert failure.reason.startswith(str(file))
    assert re.search(message, failure.reason)
    assert [outcome.state for outcome in seen].count("written") == len(seen) - 1 > 0


@pytest.mark.parametrize(
    ("colours", "size", "message"),
    [([[0, 8, 0]] * 2, (2, 2), r"\(2, 2\) \(height, width\), but"), (None, None, "no such file")],
)
def test_a_wrong_mask_of_ade847(colours: Any, size: Any, message: str, tmp_path: Path) -> None:
    folder = ade_full(tmp_path, (4, 6), [[0, 8, 0], [0, 8, 0]])
    (mask,) = folder.rglob("*_seg.png")
    mask.unlink()
    if size is not None:
        save(mask, np.zeros((*size, 3)))
    (failure,) = prepare("ade847", tmp_path)
    assert re.search(message, failure.reason)
    assert not list(tmp_path.rglob("*.tif"))


def test_a_damaged_photograph_of_ade847(tmp_path: Path) -> None:
    (photograph,) = ade_full(tmp_path, (64, 64), [[0, 8, 0], [0, 8, 0]]).rglob("*.jpg")
    truncate(photograph)
    (failure,) = prepare("ade847", tmp_path)
    assert failure.reason.startswith(f"{photograph}: is damaged")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "motorway"}, "unknown label 'motorway'"),
        ({"polygon": [[1, 2, 3]]}, "is damaged"),
        ({"polygon": [[1, 2]]}, "no corners"),
        ({"polygon": [[0, 0], [float("nan"), 1]]}, "far outside"),
    ],
)
def test_a_damaged_street(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = street(("sky", ALL))
    content["objects"][0] |= change
    write(tmp_path / "gtFine" / "val" / "ulm" / "a_polygons.json", content)
    (failure,) = prepare("cityscapes19", tmp_path)
    assert message in failure.reason
    assert "a_polygons.json" in failure.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 12}, "category 12 is unknown"),
        ({"segmentation": {"size": [4, 5], "counts": [4, 400]}}, "400"),
        ({"segmentation": {"size": [5, 4], "counts": [20]}}, "5, 4"),
    ],
)
def test_a_damaged_annotation(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = objects()
    content["annotations"][0] |= change
    write(tmp_path / "annotations" / "instances_val2017.json", content)
    (failure,) = prepare("object81", tmp_path)
    assert message in failure.reason
    assert "instances_val2017.json: a mask of 000000000139" in failure.reason


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "..", "a\\b"])
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = voc(root)
    write(folder / "ImageSets" / "Segmentation" / "val.txt", f"{name}\n")
    with pytest.raises(ValueError, match="has no folders"):
        prepare("voc20", root)
    content = objects()
    content["images"][0]["file_name"] = name
    write(root / "coco" / "annotations" / "instances_val2017.json", content)
    with pytest.raises(SourceError, match="has no folders"):
        prepare("object81", root)
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 3, "annotations": []}', "[" * 100_000])
def test_a_json_file_that_cannot_be_understood(content: str, tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "instances_val2017.json", content)
    with pytest.raises(SourceError, match="instances_val2017.json: cannot be understood"):
        prepare("object81", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ade150", r"annotations/validation is missing; get it from .*ADEChallengeData2016.zip"),
        ("ade847", "images/ADE/validation is missing"),
        ("voc20", "SegmentationClassAug or SegmentationClass is missing"),
        ("context59", "trainval_merged.json or trainval is missing"),
        ("context459", "trainval is missing"),
        ("stuff171", "stuffthingmaps_trainval2017.zip"),
        ("object81", "stuffthingmaps_trainval2017.zip"),
        ("cityscapes19", "gtFine_trainvaltest.zip"),
    ],
)
def test_a_missing_download_is_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        plan(name, tmp_path)


def test_an_empty_download_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "annotations" / "validation").mkdir(parents=True)
    with pytest.raises(SourceError, match="has no files of val"):
        prepare("ade150", tmp_path)


def test_a_missing_listing_is_named(tmp_path: Path) -> None:
    (context(tmp_path) / "pascalcontext_val.txt").unlink()
    with pytest.raises(SourceError, match=r"pascalcontext_val.txt or .*val.txt is missing"):
        plan("context459", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ade151"}, "unknown benchmark 'ade151'; did you mean 'ade150'\\?"),
        ({"split": "test"}, "split 'test' of ade150 came; allowed are train and val"),
        ({"root": "nowhere"}, "nowhere is no folder"),
        ({"workers": 0}, "workers 0 came; at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    ade150(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare(**({"name": "ade150", "root": tmp_path} | arguments))


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
