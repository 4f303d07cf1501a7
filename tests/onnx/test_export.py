"""What is exported computes what the model computes."""

import json
import shutil
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.export import export, quantise
from lexiseg.onnx.parity import compare, made_up_pictures
from lexiseg.onnx.segmenter import GRAPHS
from lexiseg.registry import create_model
from tests.conftest import Painter

SIZES = ((32, 32), (48, 33), (20, 90), (128, 31), (70, 70))
VOCABULARIES = (
    ("dog",),
    ("dog", "grass", "bright blue sky", "person"),
    tuple(f"thing number {number}" for number in range(11)),
)


@pytest.mark.parametrize("labels", VOCABULARIES, ids=len)
def test_logits_are_those_of_the_model(
    model: SegmentationModel, exported: Path, labels: tuple[str, ...]
) -> None:
    parity = compare(model, OnnxSegmenter(exported), made_up_pictures(SIZES, seed=3), [labels])
    assert parity["logits"] <= 1e-4
    assert parity["agreement"] >= 0.999


def test_the_measure_sees_a_difference(model: SegmentationModel, exported: Path) -> None:
    other = type(model)(model.encoder, model.config, protocols=model.protocols)
    parity = compare(other, OnnxSegmenter(exported), made_up_pictures(), VOCABULARIES)
    assert parity["logits"] > 1e-2
    assert parity["agreement"] < 1


def test_the_description_says_what_was_measured(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "model.json",
        *(f"{name}.onnx" for name in GRAPHS),
    }
    content = json.loads((exported / "model.json").read_text())
    assert (content["model"], content["format"]) == ("tiny", 1)
    assert content["parity"]["logits"] <= 1e-4
    assert content["parity"]["agreement"] >= 0.999


def test_matrices_as_int8(model: SegmentationModel, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(exported, folder)
    assert quantise(folder) == ("image", "head")
    for name in GRAPHS:
        same = (folder / f"{name}.onnx").read_bytes() == (exported / f"{name}.onnx").read_bytes()
        assert same == (name == "text")
    parity = compare(model, OnnxSegmenter(folder), made_up_pictures(), VOCABULARIES)
    assert parity["logits"] > 1e-6
    assert parity["agreement"] > 0.8  # of weights drawn at random, which no label wins clearly


def test_graphs_of_which_some_are_int8_are_no_export(
    model: SegmentationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: SegmentationModel, folder: Path, *_: object) -> dict[str, float]:
        (folder / "model.json").write_text("{}")
        return {"logits": 0.0, "agreement": 1.0}

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lexiseg.onnx.export.open_graphs", lambda *_: [])
    monkeypatch.setattr("lexiseg.onnx.export._measured", measured)
    monkeypatch.setattr("lexiseg.onnx.export.quantise", killed)
    with pytest.raises(KeyboardInterrupt):
        export(model, tmp_path, name="tiny", int8=True)
    assert not (tmp_path / "model.json").exists()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Painter has no graphs; those that can be exported"):
        export(Painter(), tmp_path / "a", name="painter")
    with pytest.raises(ValueError, match="TwoStage has no graphs"):
        export(create_model("two_stage_lite"), tmp_path / "a", name="two_stage_lite")
    assert not (tmp_path / "a").exists()


def test_made_up_pictures_are_the_same_at_every_call() -> None:
    first, second = made_up_pictures(), made_up_pictures()
    assert [picture.shape for picture in first] == [(240, 320, 3), (300, 200, 3)]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maskclip_lite", "catseg_lite"])
def test_bundled_models(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five sizes and three vocabularies in float32; int8 keeps 99 of 100 labels."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in conftest.py
    model = create_model(name).eval()
    export(model, tmp_path, name=name)
    sizes = ((64, 96), (240, 320), (500, 333), (333, 1000), (448, 448))
    labels = (*VOCABULARIES[:2], tuple(f"thing number {number}" for number in range(40)))
    pictures = made_up_pictures(sizes, seed=4)
    parity = compare(model, OnnxSegmenter(tmp_path), pictures, labels)
    assert parity["logits"] <= 1e-4
    assert parity["agreement"] >= 0.999
    quantise(tmp_path)
    parity = compare(model, OnnxSegmenter(tmp_path), pictures, labels[:2])
    assert parity["agreement"] >= 0.99
