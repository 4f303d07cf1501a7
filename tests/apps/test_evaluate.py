import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexiseg.apps.cli import app


@pytest.fixture
def flags(tmp_path: Path, flag: np.ndarray) -> Path:
    for kind in ("images", "masks"):
        (tmp_path / "val" / kind).mkdir(parents=True)
    Image.fromarray(flag).save(tmp_path / "val" / "images" / "flag.png")
    mask = np.repeat([[0, 1, 1]], 10, axis=-1).repeat(20, axis=0).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "val" / "masks" / "flag.png")
    classes = {"classes": {"0": "red", "1": "green", "2": "blue"}}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    return tmp_path


def test_one_json_object_a_model(registered_painter: str, flags: Path) -> None:
    words = ["evaluate", registered_painter, str(flags), "--json", "--per-class"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert (row["model"], row["dataset"]) == (registered_painter, flags.name)
    assert row["mIoU"] == 0.75
    assert row["class_IoU"] == {"red": 1.0, "green": 0.5}


def test_a_table(registered_painter: str, flags: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", registered_painter, str(flags)])
    assert done.exit_code == 0
    assert "0.750" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["painter"], "name one or more models, then the folder"),
        (["painter", "nowhere"], "classes.json is missing"),
        (["panter", "FLAGS"], "did you mean 'painter'"),
        (["painter", "FLAGS", "--split", "test"], "has the splits ['val']"),
        (["painter", "FLAGS", "--protocol", "windws"], "did you mean 'windows'"),
    ],
)
def test_wrong_use_gets_one_line(
    words: list[str], message: str, registered_painter: str, flags: Path
) -> None:
    words = [str(flags) if word == "FLAGS" else word for word in words]
    done = CliRunner().invoke(app, ["evaluate", *words])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing"], 2, "unknown recipe 'nothing'; there are catseg_lite, lite"),
        (["catseg_lite", "--set", "steps=0"], 2, "steps 0 came"),
        (["catseg_lite", "--set", "optim.lr=nan"], 2, "optim.lr nan came"),
        (["catseg_lite"], 1, "is missing; the recipe needs"),
    ],
)
def test_train_says_what_is_wrong(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    places = ["--data", str(tmp_path), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["train", *words, *places])
    assert done.exit_code == code, done.output
    assert message in done.stderr
