"""Conversions that stop, go on, or find something damaged."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from lexiseg.data.prepare import Job, SourceError, plan, run
from tests.data.downloads import (
    ALL,
    ade150,
    ade_full,
    context,
    objects,
    prepare,
    save,
    street,
    voc,
    write,
)


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
