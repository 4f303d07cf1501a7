import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.data import app
from lexiseg.data.catalog import BENCHMARKS
from lexiseg.data.referring import REFERRING_BENCHMARKS
from tests.data.test_catalog import make_tree
from tests.data.test_refer_files import ROWS, write_refer


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Two photographs of Cityscapes as they are downloaded, less the label maps."""
    for name in ("ulm_000000_000019", "ulm_000001_000019"):
        photograph = tmp_path / "cityscapes/leftImg8bit/val/ulm" / f"{name}_leftImg8bit.png"
        polygons = tmp_path / "cityscapes/gtFine/val/ulm" / f"{name}_gtFine_polygons.json"
        for file in (photograph, polygons):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(photograph)
        content = {"imgHeight": 2, "imgWidth": 3, "objects": []}
        polygons.write_text(json.dumps(content))
    return tmp_path


def test_list_names_every_benchmark() -> None:
    done = invoke("list", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == [*BENCHMARKS, *REFERRING_BENCHMARKS]
    assert rows["refcoco"]["references"]["testA"] == 1975
    assert (rows["ade847"]["classes"], rows["ade847"]["images"]["val"]) == (847, [2000])
    assert rows["object81"]["classes"] == 81
    assert "context459" in invoke("list").stdout


def test_prepare_says_what_it_did_and_goes_on(streets: Path) -> None:
    done = invoke("prepare", "cityscapes", streets, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout == "cityscapes19 val: 2 written, 0 kept, 0 failed\n"
    made = sorted(streets.rglob("*_labelTrainIds.png"))
    made[0].unlink()
    again = invoke("prepare", "cityscapes19", streets)
    assert again.stdout == "cityscapes19 val: 1 written, 1 kept, 0 failed\n"


def test_prepare_names_what_failed_and_does_the_rest(streets: Path) -> None:
    first = min(streets.rglob("*_polygons.json"))
    first.write_text("{")
    done = invoke("prepare", "cityscapes19", streets)
    assert done.exit_code == 1
    assert done.stdout == "cityscapes19 val: 1 written, 0 kept, 1 failed\n"
    assert f"error: {first}: is damaged" in done.stderr
    assert len(list(streets.rglob("*_labelTrainIds.png"))) == 1


def test_prepare_says_what_to_download(tmp_path: Path) -> None:
    done = invoke("prepare", "ade847", tmp_path)
    assert done.exit_code == 1
    assert "images/ADE/validation is missing; get it from https://groups.csail" in done.stderr
    for name in ("voc21", "refcoco"):
        done = invoke("prepare", f" {name.upper()}", tmp_path)
        assert (done.exit_code, done.stdout) == (0, f"{name} is read as it is downloaded\n")


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Lets the system refuse to read a file."""

    def refuse(refused: Path) -> Path:
        def opened(path: Path, *rest: object, **more: object) -> object:
            if path == refused:
                raise PermissionError(13, "Permission denied", str(path))
            return open(path, *rest, **more)

        monkeypatch.setattr(Path, "open", opened)
        return refused

    return refuse


def test_files_that_may_not_be_read_are_named(
    tmp_path: Path, unreadable: Callable[[Path], Path]
) -> None:
    listing = make_tree(tmp_path, "voc20") / "ImageSets/Segmentation/val.txt"
    write_refer(tmp_path, ROWS)
    for verb, name, refused in (
        ("check", "voc20", listing),
        ("prepare", "voc20", listing),
        ("check", "refcoco", tmp_path / "refcoco" / "refs(unc).p"),
    ):
        unreadable(refused)
        done = invoke(verb, name, tmp_path)
        assert done.exit_code == 1, done.output
        (line,) = done.output.strip().splitlines()
        assert str(refused) in line
        assert line.endswith("(Permission denied)")


@pytest.mark.parametrize("verb", ["check", "prepare"])
def test_what_the_system_refuses_ends_with_one_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_tree(tmp_path, "voc20")
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.name == "val.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    done = invoke(verb, "voc20", tmp_path)
    assert done.exit_code == 1
    listing = place / "ImageSets/Segmentation/val.txt"
    assert done.stderr == f"error: {listing}: Permission denied\n"


@pytest.mark.parametrize("verb", ["check", "prepare"])
def test_names_of_300_characters_end_with_one_line(verb: str, tmp_path: Path) -> None:
    long = "x" * 300
    place = make_tree(tmp_path, "voc20")
    listing = place / "ImageSets/Segmentation/val.txt"
    listing.write_text(f"a_1\nb_2\n{long}\n")
    done = invoke(verb, "voc20", tmp_path)
    assert done.exit_code == 1
    assert long[:50] in done.output
    done = invoke(verb, "voc20", tmp_path / long)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is no folder" in done.stderr


def test_check_tells_what_is_missing(streets: Path) -> None:
    done = invoke("check", "cityscapes19", streets)
    assert done.exit_code == 1
    assert "gtFine/val holds no *_gtFine_label" in done.stdout
    invoke("prepare", "cityscapes19", streets)
    done = invoke("check", "cityscapes19", streets)
    assert done.exit_code == 1
    assert done.stdout.endswith("cityscapes: 2 photographs; cityscapes19 val has 500\n")


def test_check_finds_nothing_missing(streets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS["cityscapes19"].counts, "val", (2,))
    invoke("prepare", "cityscapes19", streets)
    done = invoke("check", "cityscapes19", streets)
    assert (done.exit_code, done.stdout) == (0, "cityscapes19 val: all is there\n")


@pytest.mark.parametrize("verb", ["check", "prepare"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cityscape", "."], "did you mean 'cityscapes'"),
        (["ade150", ".", "--split", "test"], "split 'test' of ade150"),
        (["ade150", "nowhere"], "nowhere is no folder"),
    ],
)
def test_wrong_use_gets_one_line(verb: str, words: list[str], message: str) -> None:
    done = invoke(verb, *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1
