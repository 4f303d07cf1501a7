"""A photograph that a camera stored lying down gives the mask of the upright one, everywhere."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import Result

from lexiseg import Segmenter
from lexiseg.apps.demo import Page
from lexiseg.apps.server import Settings, create_app
from lexiseg.apps.server.service import Service
from lexiseg.data.datasets import open_dataset
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.images import read_label_map
from lexiseg.jobs.large import segment_large
from tests.conftest import Painter, stored

ORIENTATION = 0x0112
LABELS = ["red", "green", "blue"]
# No turn or mirror image of it is like it: a row of blue over red and green of unequal widths.
MAP = np.zeros((40, 60), dtype=np.uint8)
MAP[:, 33:] = 1
MAP[:13] = 2
PIXELS = np.eye(3, dtype=np.uint8)[MAP] * 255


@pytest.fixture(params=range(1, 9))
def photo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = request.param
    path = tmp_path / "photos" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(stored(PIXELS, request.param)).save(path, exif=exif)
    return path


def test_the_picture_is_not_its_own_mirror_image() -> None:
    turns = [stored(MAP, orientation) for orientation in range(1, 9)]
    for index, one in enumerate(turns):
        assert not any(np.array_equal(one, other) for other in turns[:index])


def test_the_library(photo: Path) -> None:
    segmenter = Segmenter(Painter(), device="cpu")
    with Image.open(photo) as image:
        for source in (photo, photo.read_bytes(), image):
            np.testing.assert_array_equal(segmenter(source, LABELS).label_map, MAP)
    masks = segmenter.refer(photo, LABELS, background=["black"]).masks
    np.testing.assert_array_equal(masks, [index == MAP for index in range(3)])
    tiled = segment_large(segmenter, photo, LABELS, tile=32)
    np.testing.assert_array_equal(tiled.label_map, MAP)
    np.testing.assert_array_equal(np.asarray(tiled.image), PIXELS)


def test_the_command_line(photo: Path, run: Callable[..., Result]) -> None:
    words = ("--labels", ",".join(LABELS), "--model", "painter", "--json")
    for place, more in ((photo, []), (photo.parent, []), (photo, ["--tile", "64"])):
        result = run("segment", place, *words, *more, "--out", f"out{len(more)}{place.name}")
        assert result.exit_code == 0, result.output
        (file,) = (json.loads(line)["files"]["labels"] for line in result.stdout.splitlines())
        np.testing.assert_array_equal(read_label_map(file), MAP)
    result = run(
        "refer", photo, "blue", "--model", "painter", "--background", "red,green", "--json"
    )
    assert result.exit_code == 0, result.output
    file = json.loads(result.stdout)["files"]["mask 1"]
    np.testing.assert_array_equal(read_label_map(file) > 0, MAP == 2)


def test_the_server(photo: Path) -> None:
    png = {"Accept": "image/png"}
    asked: dict[str, Any] = {"image": base64.b64encode(photo.read_bytes()).decode()}
    with TestClient(create_app(Segmenter(Painter(), device="cpu"))) as client:
        answers = [
            client.post("/segment", json={**asked, "labels": LABELS}, headers=png),
            client.post(
                "/segment",
                files={"image": ("a.png", photo.read_bytes())},
                data={"labels": "red,green,blue"},
                headers=png,
            ),
        ]
    for answer in answers:
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(answer.content))), MAP)


def test_the_page(photo: Path, tmp_path: Path) -> None:
    service = Service({"painter": Segmenter(Painter(), device="cpu")}, Settings())
    service.worker.start()
    try:
        page = Page(service, tmp_path / "files")
        found = page.run(str(photo), "words", "red, green, blue", "painter", "no other")
    finally:
        service.worker.stop(10.0)
    (file,) = (path for path in found[3] if path.endswith("_labels.png"))
    np.testing.assert_array_equal(read_label_map(file), MAP)


def test_evaluation(photo: Path, tmp_path: Path) -> None:
    """Masks are drawn on the upright picture."""
    root = tmp_path / "flags"
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    photo.rename(root / "val" / "images" / "photo.png")
    Image.fromarray(MAP).save(root / "val" / "masks" / "photo.png")
    classes = {"classes": {"0": "red", "1": "green", "2": "blue"}}
    (root / "classes.json").write_text(json.dumps(classes))
    scores = evaluate(Segmenter(Painter(), device="cpu"), open_dataset(str(root)))
    assert scores.mean_iou == 1
