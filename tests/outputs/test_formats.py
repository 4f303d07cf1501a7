import json
import os
from pathlib import Path

import numpy as np
import pytest

from lexiseg.outputs import FORMATS, PICTURE_ENDINGS, output_files, parse_formats
from lexiseg.outputs.formats import letters
from lexiseg.result import Segmentation

HOSTILE = (
    "../../etc/passwd",
    "/abs",
    "a\0b",
    "👩‍🚀 🐈",
    "x" * 300,
    "猫" * 200,
    "..",
    "con|nul",
    "a\\b",
)


def test_formats_by_name() -> None:
    assert parse_formats("coco, PNG,json,png") == ("labels", "coco", "json")
    with pytest.raises(ValueError, match="unknown format 'gif'; allowed are labels, overlay"):
        parse_formats("png,gif")
    with pytest.raises(ValueError, match="no formats came"):
        parse_formats([])


def test_hostile_labels_stay_in_the_folder(tmp_path: Path) -> None:
    """All formats, with labels that would be paths: every file lies in the folder itself."""
    folder = tmp_path / "out"
    label_map = np.arange(len(HOSTILE), dtype=np.uint8)[None].repeat(2, axis=0)
    scores = np.zeros((len(HOSTILE), 2, len(HOSTILE)), dtype=np.float32)
    result = Segmentation(HOSTILE, label_map, scores[0], scores)
    files = result.save(folder, "photo", formats=list(FORMATS))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != folder] == []
    assert len(set(files.values())) == len(files) == len(list(folder.iterdir()))
    assert set(folder.iterdir()) == set(files.values())
    record = json.loads(files["json"].read_text(encoding="utf-8"))
    assert tuple(row["label"] for row in record["labels"]) == HOSTILE
    assert record["files"] == {kind: path.name for kind, path in files.items()}
    assert all(len(os.fsencode(letters(label))) <= 60 for label in HOSTILE)


def test_results_are_told_from_photographs() -> None:
    files = output_files(Path("x"), "dog", parse_formats(list(FORMATS)), ["a/b", "…"])
    pictures = [path.name for path in files.values() if path.suffix in {".png", ".jpg"}]
    assert len(pictures) == 5
    assert all(PICTURE_ENDINGS.search(name) for name in pictures)
    for name in ("labels.png", "my_map.png", "map_1.jpg", "dog_overlay.png", "dog_labels.jpg"):
        assert not PICTURE_ENDINGS.search(name), name


@pytest.mark.parametrize(
    ("path", "formats", "message"),
    [
        ("a.gif", None, "cannot save as 'a.gif'; allowed are .png, .jpg"),
        ("a.png", ["coco"], "'a.png' cannot hold coco; .png is for one of labels"),
        ("a.json", ["coco", "json"], "cannot hold coco, json"),
        ("a.json", ["exe"], "unknown format 'exe'"),
    ],
)
def test_what_a_file_cannot_hold(
    path: str, formats: list[str] | None, message: str, result: Segmentation, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        result.save(tmp_path / path, formats=formats)
    assert not list(tmp_path.iterdir())
