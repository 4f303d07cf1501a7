"""Names of photographs, labels and expressions that would like to be paths."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import Result

from lexiseg import Segmentation, Segmenter
from lexiseg.jobs.manifest import manifests, read_manifest
from lexiseg.jobs.photos import fitting
from lexiseg.outputs import FORMATS, output_files
from lexiseg.referral import referral_files
from tests.conftest import Judge, Painter

LABELS = [
    *("../up", "../../../../up", "/etc/passwd", "a/b/c", "..", ".", "~/x", "C:\\x", "..\\..\\y"),
    *("%2e%2e%2fz", "$HOME", "`id`", "; rm -rf *", "-rf", ".hidden", "CON", "nul.png", "🦊"),
    *("猫 и كلب", "x" * 256, "🦊" * 256, "a\u202egnp.exe", "e\u0301", "dog/../../dog", "con."),
]
STEMS = [
    *("plain", "🦊", "猫 и كلب", "-rf", "a b;c&d", "x" * 250, "%2e%2e%2f", "a\\b", "CON"),
    *("name.png", "Case", "case", "line\nbreak", "tab\t", "$(touch pwned)", "lexiseg_manifest"),
    os.fsdecode(b"\xff\xfe"),
]


@pytest.fixture
def around(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """What lies in the folder of the test, but for the output folder."""
    (tmp_path / "up").write_text("mine")

    def snapshot() -> dict[str, bytes]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in files
            if path.relative_to(tmp_path).parts[0] != "out"
        }

    return snapshot


def test_labels(around: Callable[[], dict[str, bytes]], tmp_path: Path, flag: np.ndarray) -> None:
    out, before = tmp_path / "out" / "deep" / "deeper", around()
    segmenter = Segmenter(Painter(), device="cpu")
    result = segmenter(flag, LABELS, scores=True)
    written = [*result.save(out, "photo", formats=FORMATS).values()]
    written += segmenter.explain(flag, LABELS).save(out)
    written += Segmenter(Judge(), device="cpu").refer(flag, LABELS).save(out, "it").values()
    assert len({str(path).casefold() for path in written}) == len(written)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in written)
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.parent != out and path.is_file()
    ]
    assert around() == before
    labels = [row["label"] for row in json.loads((out / "photo.json").read_text())["labels"]]
    assert labels == list(result.labels)
    assert len(labels) == len(LABELS)


def test_photographs_in_a_folder(
    around: Callable[[], dict[str, bytes]],
    run: Callable[..., Result],
    flag_file: Path,
    tmp_path: Path,
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for stem in STEMS:
        (photos / f"{stem}.png").write_bytes(flag_file.read_bytes())
    (tmp_path / "elsewhere.png").write_bytes(flag_file.read_bytes())
    (photos / "link.png").symlink_to(tmp_path / "elsewhere.png")
    before, count = around(), len(STEMS) + 1
    words = ("segment", photos, "--labels", "red, ../up", "--model", "painter", "--out", "out")
    result = run(*words, "--format", "labels,maps", "--json")
    assert result.exit_code == 0, result.output
    assert around() == before
    (file,) = manifests(tmp_path / "out")
    entries = read_manifest(file)[1]
    assert [os.fsencode(entry.photo) for entry in entries] == sorted(
        (os.fsencode(path.name) for path in photos.iterdir()), key=lambda name: os.fsdecode(name)
    )
    files = [tmp_path / "out" / name for entry in entries for name in entry.outputs.values()]
    assert len({str(path).casefold() for path in files}) == len(files) == 4 * count
    there = {path for path in (tmp_path / "out").rglob("*") if path.is_file()} - {file}
    assert there == set(files)


def test_photographs_one_by_one(
    around: Callable[[], dict[str, bytes]],
    run: Callable[..., Result],
    flag_file: Path,
    tmp_path: Path,
) -> None:
    photos = [tmp_path / f"{stem}.png" for stem in STEMS]
    for photo in photos:
        photo.write_bytes(flag_file.read_bytes())
    before = around()
    result = run("segment", *photos, "--labels", "red", "--model", "painter", "--out", "out")
    assert result.exit_code == 0, result.output
    assert around() == before
    tables = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert sorted(table["image"] for table in tables) == sorted(map(str, photos))


def test_a_link_where_a_result_goes_is_replaced_and_not_followed(
    tmp_path: Path, flag: np.ndarray
) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("mine")
    out.mkdir()
    for name in ("photo_labels.png", "photo.json"):
        (out / name).symlink_to(victim)
    Segmenter(Painter(), device="cpu")(flag, ["red"]).save(out, "photo")
    assert victim.read_text() == "mine"
    assert not any(path.is_symlink() for path in out.iterdir())


@pytest.mark.parametrize("name", ["../up", "/up", "a/b", "", "up\0", "."])
def test_a_name_that_is_a_path_is_refused(name: str, tmp_path: Path, flag: np.ndarray) -> None:
    out = tmp_path / "out"
    result = Segmenter(Painter(), device="cpu")(flag, ["red"])
    referral = Segmenter(Judge(), device="cpu").refer(flag, ["red"])
    for save in (result.save, referral.save):
        with pytest.raises(ValueError, match="give a file name without folders"):
            save(out, name)
    assert not out.exists()


TEXT = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=300)


@settings(max_examples=300)
@given(TEXT, st.lists(st.text(max_size=256), min_size=1, max_size=4))
def test_any_name_and_labels_give_files_of_the_folder(stem: str, labels: list[str]) -> None:
    folder = Path("/somewhere")
    try:
        name = fitting(stem)
    except UnicodeEncodeError:  # halves of surrogate pairs are no file's name
        return
    files = [*output_files(folder, name, tuple(FORMATS), labels).values()]
    files += referral_files(folder, name, len(labels)).values()
    assert all(file.parent == folder for file in files)
    assert all(os.path.normpath(file) == str(file) for file in files)
    assert all(len(os.fsencode(file.name)) <= 255 and "\0" not in file.name for file in files)


def test_results_keep_what_they_were_called(tmp_path: Path) -> None:
    """Reversible: the manifest and the table know the name and the labels as they were given."""
    pixels = np.zeros((2, 2), dtype=np.uint8)
    result = Segmentation(("../up",), pixels, np.ones((2, 2), np.float32), source="/a/../b.png")
    record = json.loads(result.save(tmp_path, formats=["json"])["json"].read_text())
    assert (record["image"], record["labels"][0]["label"]) == ("/a/../b.png", "../up")
