"""An exported model wherever a model goes: folders, tiles, video, server, comparison, page."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from lexiseg.jobs.video import VideoReader, VideoWriter
from lexiseg.onnx import OnnxSegmenter

WORDS = ["--labels", "red, green", "--json"]


@pytest.fixture
def place(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the export and two pictures, in which commands run."""
    shutil.copytree(exported, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number, size in enumerate([(40, 48), (56, 40)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--model", "model"], env={"COLUMNS": "200"})


def test_a_folder_and_then_other_graphs(place: Path) -> None:
    first = run("segment", "photos", *WORDS, "--out", "out")
    assert first.exit_code == 0, first.output
    segmenter = OnnxSegmenter("model")
    for record in map(json.loads, first.stdout.splitlines()):
        expected = segmenter(record["image"], "red, green").label_map
        with Image.open(record["files"]["labels"]) as labels:
            np.testing.assert_array_equal(np.array(labels), expected)
    again = run("segment", "photos", *WORDS, "--out", "out")
    assert "2 of 2 photos are settled already" in again.stderr
    before = segmenter.fingerprint()
    description = json.loads(Path("model/model.json").read_text())
    Path("model/model.json").write_text(json.dumps({**description, "templates": ["a {}"]}))
    assert OnnxSegmenter("model").fingerprint() != before
    other = run("segment", "photos", *WORDS, "--out", "out")
    assert other.exit_code == 2
    assert 'whose weights was "' in other.stderr


def test_tiles_and_maps(place: Path) -> None:
    Image.fromarray(np.zeros((70, 200, 3), np.uint8)).save("wide.png")
    done = run("segment", "wide.png", *WORDS, "--tile", "64", "--out", "out", "--background", "0.3")
    assert done.exit_code == 0, done.output
    with Image.open("out/wide_labels.png") as labels:
        assert labels.size == (200, 70)
    done = run("segment", "photos", *WORDS, "--format", "maps", "--out", "maps")
    assert done.exit_code == 0, done.output
    assert Path("maps/0_map_2_green.png").is_file()


def test_a_video(place: Path) -> None:
    with VideoWriter("in.mp4", (32, 48), Fraction(5)) as writer:
        for level in (0, 120, 240):
            writer.write(np.full((32, 48, 3), level, np.uint8))
    done = run("video", "in.mp4", "--labels", "red, green", "--out", "out.mp4", "--smooth", "0.5")
    assert done.exit_code == 0, done.output
    with VideoReader("out.mp4") as reader:
        assert len(list(reader)) == 3


def test_several_models_and_what_an_export_cannot(place: Path) -> None:
    words = ["compare", "photos/0.png", "--labels", "red, green", "--models", "model", "--json"]
    done = CliRunner().invoke(app, words)
    assert json.loads(done.stdout)["agreement"] == 1
    done = run("refer", "photos/0.png", "the red one")
    assert (done.exit_code, done.stderr.count("is an exported model, which takes labels")) == (2, 1)
    done = run("segment", "photos", *WORDS, "--out", "seen", "--explain", "seen")
    assert done.exit_code == 1
    assert "an exported model does not tell what it saw" in done.stderr


def test_a_server(place: Path) -> None:
    from fastapi.testclient import TestClient

    from lexiseg.apps.server import create_app

    with TestClient(create_app({"graphs": OnnxSegmenter("model")})) as client:
        photo = Path("photos/1.png").read_bytes()
        asked = {"files": {"image": photo}, "data": {"labels": "red, green"}}
        answer = client.post("/segment", **asked)
        assert answer.status_code == 200, answer.text
        assert client.get("/models").json()["models"][0]["refers"] is False
        asked["data"] = {"expressions": ["the red one"]}
        answer = client.post("/refer", **asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_model")
