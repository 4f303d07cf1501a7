"""The annotations of a whole folder in one file, read by pycocotools."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from lexiseg.jobs import job, merged
from tests.jobs.conftest import content

Run = Callable[..., "object"]


@pytest.mark.parametrize(("kind", "name"), [("coco", "coco"), ("polygons", "polygons")])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_all_label_maps_back(
    kind: str,
    name: str,
    run: Run,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run("--format", f"png,{kind}", "--background", "0.6")
    merged = tmp_path / "out" / f"lexiseg_{name}.json"
    assert f"all photos in one file: out/lexiseg_{name}.json" in result.stderr
    coco = COCO(str(merged))
    assert [coco.cats[n]["name"] for n in (1, 2)] == ["red", "green"]
    assert list(coco.imgs) == list(range(1, 10))  # nine photos; the tenth is damaged
    keys = [image["file_name"] for image in coco.imgs.values()]
    assert keys == sorted(keys)
    assert {"a/photo_0.png", "a/b/photo_1.png", "c/photo_5.bmp", "c/photo_5.png"} <= set(keys)
    assert list(coco.anns) == list(range(1, len(coco.anns) + 1))
    results = {
        record["image"]: record["files"]["labels"]
        for record in map(json.loads, result.stdout.splitlines())
    }
    for number, image in coco.imgs.items():
        with Image.open(tmp_path / results[f"photos/{image['file_name']}"]) as file:
            expected = np.array(file)
        assert (image["height"], image["width"]) == expected.shape
        label_map = np.full(expected.shape, 255, dtype=np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            label_map[mask] = annotation["category_id"] - 1
        np.testing.assert_array_equal(label_map, expected)
    capsys.readouterr()  # pycocotools prints


def test_the_last_part_writes_it(run: Run, photos: Path, tmp_path: Path) -> None:
    run("--format", "coco")
    merged = tmp_path / "out" / "lexiseg_coco.json"
    whole = merged.read_bytes()
    shutil.rmtree(tmp_path / "out")
    for part in ("2/3", "1/3"):
        run("--format", "coco", "--shard", part)
        assert not merged.exists()
    run("--format", "coco", "--shard", "3/3")
    assert merged.read_bytes() == whole
    merged.unlink()
    run("--format", "coco", "--shard", "1/3")  # nothing to do but that
    assert merged.read_bytes() == whole


def test_it_is_of_what_is_there_now(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--format", "coco")
    merged = tmp_path / "out" / "lexiseg_coco.json"
    Image.new("RGB", (5, 7), "red").save(photos / "a" / "photo_0.png")
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_files", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        run("--format", "coco")
    assert not merged.exists()  # a photo is still to be done
    run("--format", "coco")
    sizes = {each["file_name"]: each["height"] for each in json.loads(merged.read_text())["images"]}
    assert sizes["a/photo_0.png"] == 7
    (photos / "a" / "photo_0.png").unlink()
    run("--format", "coco")
    names = [each["file_name"] for each in json.loads(merged.read_text())["images"]]
    assert names == sorted(set(sizes) - {"a/photo_0.png"})
    run("--format", "png", "--no-resume")
    assert not merged.exists()


def test_foreign_files_stay(run: Run, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 7), "red").save(photos / "lexiseg.png")  # of the same name
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lexiseg_coco.json").write_text("{}")
    result = run("--format", "coco")
    assert result.exit_code == 2
    assert "no job wrote it; move it, or choose another --out" in result.stderr
    assert (tmp_path / "out" / "lexiseg_coco.json").read_text() == "{}"
    (tmp_path / "out" / "lexiseg_coco.json").unlink()
    run("--format", "coco")
    assert {"lexiseg_coco.json", "lexiseg-2_coco.json"} <= set(content(tmp_path / "out"))


def test_a_result_that_was_changed_is_named(run: Run, photos: Path, tmp_path: Path) -> None:
    run("--format", "coco")
    (tmp_path / "out" / "a" / "photo_0_coco.json").write_text("{}")
    result = run("--format", "coco")
    assert result.exit_code == 2
    assert "photo_0_coco.json: is not what this job wrote" in result.stderr
    assert "delete it and give the command again" in result.stderr


def test_a_disk_that_fills_up_meanwhile_is_left_clean(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, *_: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(merged, "_write", full)
        run("--format", "coco")
    names = [name.rpartition("/")[2] for name in content(tmp_path / "out")]
    assert not [name for name in names if name.startswith(".") or name == "lexiseg_coco.json"]
    run("--format", "coco")
    assert (tmp_path / "out" / "lexiseg_coco.json").is_file()
