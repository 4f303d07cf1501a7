import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.data import app
from lexiseg.data.catalog import BENCHMARKS
from lexiseg.data.referring import REFERRING_BENCHMARKS


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
    assert invoke("prepare", "voc21", tmp_path).stdout == "voc21 is read as it is downloaded\n"


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
