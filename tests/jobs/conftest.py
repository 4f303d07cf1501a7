import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures in folders, two of one name, one cut short."""
    folder = tmp_path / "photos"
    for number in range(8):
        place = folder / ("a", "a/b", "c")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"photo_{number}.png")
    shutil.copy(folder / "c" / "photo_2.png", folder / "c" / "photo_5.bmp")
    (folder / "c" / "photo_8.png").write_bytes((folder / "a" / "photo_0.png").read_bytes()[:60])
    return folder


@pytest.fixture
def run(registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """``lexiseg segment photos --recursive --out out`` with the tiny model."""
    monkeypatch.chdir(tmp_path)

    def invoke(*options: object, labels: str = "red, green", model: str = "painter") -> Result:
        words = ["segment", "photos", "--recursive", "--out", "out", "--labels", labels]
        words += ["--model", model, "--json", *map(str, options)]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    return invoke


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
