"""``fast:MODEL``: exported once, and again when the weights change."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lexiseg.apps import terminal
from lexiseg.apps.cli import app
from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.preset import fast_folder, fast_segmenter
from tests.test_import import loaded_after

EXPORT = importlib.import_module("lexiseg.onnx.export")
PHOTO = str(Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg")


@pytest.fixture
def exports(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were exported, into a cache of this test's own."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    names: list[str] = []

    def write(model: SegmentationModel, folder: Path, *, name: str, int8: bool) -> None:
        assert int8
        names.append(name)
        shutil.copytree(exported, folder)

    monkeypatch.setattr(EXPORT, "export", write)
    return names


def test_it_is_exported_once_for_these_weights(
    model: SegmentationModel, exports: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "a b.pth"
    file.write_bytes(b"weights")
    name = f"tiny={file}"
    first = fast_segmenter(name, lambda: model)
    second = fast_segmenter(name, lambda: pytest.fail("asked for the model again"))
    assert exports == [name]
    assert first.folder == second.folder == fast_folder(name)
    assert first.folder.name.startswith("a_b.pth-")
    file.write_bytes(b"others!")
    assert fast_folder(name) != first.folder
    assert fast_folder("tiny") != fast_folder("small")


def test_what_is_there_needs_no_torch(exports: list[str], model: SegmentationModel) -> None:
    fast_segmenter("tiny", lambda: model)
    out = fast_folder("tiny").parent / "out"
    words = ["segment", PHOTO, "--labels", "red, green", "--model", "fast:tiny", "--out", str(out)]
    code = f"from lexiseg.apps.cli import app\napp({words!r}, standalone_mode=False)"
    assert "torch" not in loaded_after(code)
    assert len(list(out.iterdir())) == 3


def test_half_an_export_is_not_taken_for_one(
    model: SegmentationModel, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(model: SegmentationModel, folder: Path, **_: object) -> None:
        folder.mkdir()
        (folder / "image.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(EXPORT, "export", die)
        with pytest.raises(KeyboardInterrupt):
            fast_segmenter("tiny", lambda: model)
    assert not list(fast_folder("tiny").parent.iterdir())
    assert isinstance(fast_segmenter("tiny", lambda: model), OnnxSegmenter)


def test_one_that_another_process_wrote_meanwhile_is_taken(
    model: SegmentationModel, exports: list[str], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EXPORT.export

    def overtaken(model: SegmentationModel, folder: Path, **about: object) -> None:
        write(model, folder, **about)
        shutil.copytree(exported, fast_folder("tiny"))

    monkeypatch.setattr(EXPORT, "export", overtaken)
    assert fast_segmenter("tiny", lambda: model).folder == fast_folder("tiny")


def test_commands_take_it(
    registered_painter: str, exports: list[str], exported: Path, tmp_path: Path
) -> None:
    command = ["segment", PHOTO, "--labels", "red, green", "--out", str(tmp_path / "out")]
    for times in (1, 0):
        result = CliRunner().invoke(app, [*command, "--model", "fast:painter"])
        assert result.exit_code == 0, result.output
        assert result.stderr.count("is exported once") == times
    assert exports == ["painter"]
    expected = OnnxSegmenter(exported)(PHOTO, "red, green").label_map
    from PIL import Image

    with Image.open(tmp_path / "out" / "coffee_labels.png") as labels:
        np.testing.assert_array_equal(np.array(labels), expected)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("fast:no_such_model", "no_such_model"),
        ("fast:painter", "Painter has no graphs"),
        (".", "holds no exported model"),
        ("fast:.", "is exported already"),
    ],
)
def test_what_cannot_be_is_told(registered_painter: str, model: str, said: str) -> None:
    command = ["segment", PHOTO, "--labels", "red", "--model", model]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == terminal.MISUSE
    assert said in result.stderr
