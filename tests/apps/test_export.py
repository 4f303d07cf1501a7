import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg import registry
from lexiseg.apps.cli import app
from lexiseg.onnx import export as library
from lexiseg.onnx.description import Description


@pytest.fixture(autouse=True)
def folder(registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save("photo.png")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the library is asked for, instead of an export that takes its time."""
    asked: list[dict] = []

    def export(model: object, folder: Path, **choices: object) -> Description:
        asked.append({"model": model, "folder": folder, **choices})
        return Description(
            *(choices["name"], "softmax", True, 0.5, ("{}",), "wordpiece", 128, {}),
            int8=("text",),
            parity={"logits": 2e-6, "agreement": 0.9987},
        )

    monkeypatch.setattr(library, "export", export)
    return asked


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["export", *words])


def test_what_is_said(calls: list[dict]) -> None:
    result = run("painter", "--onnx", "out", "--int8", "--photo", "photo.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "graphs: out",
        "int8: text",
        "largest difference of a logit from torch: 2e-06",
        "same label: 99.87% of all places",
    ]
    (call,) = calls
    assert (call["folder"], call["name"], call["int8"]) == (Path("out"), "painter", True)
    assert [picture.shape for picture in call["pictures"]] == [(8, 9, 3)]


def test_json(calls: list[dict]) -> None:
    record = json.loads(run("painter", "--onnx", "out", "--json").stdout)
    expected = {"folder": "out", "model": "painter", "int8": ["text"]}
    assert record == {**expected, "logits": 2e-6, "agreement": 0.9987}
    assert calls[0]["int8"] is False


def test_complaints() -> None:
    for words, message, exit_code in (
        (("paintr", "--onnx", "out"), "did you mean 'painter", 2),
        (("painter", "--onnx", "out"), "Painter has no graphs", 2),
        (("painter", "--onnx", "out", "--photo", "no.png"), "no such file", 1),
    ):
        result = run(*words)
        assert result.exit_code == exit_code, result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_is_no_export_is_told() -> None:
    words = ["segment", "photo.png", "--labels", "dog", "--model", "."]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "holds no exported model" in result.stderr
    assert "painter" in registry._BUILDERS
