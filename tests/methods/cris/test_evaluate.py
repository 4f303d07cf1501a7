"""``lexiseg evaluate`` with a tiny random CRIS on a tiny referring set."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lexiseg import registry
from lexiseg.apps.cli import app
from lexiseg.data.referring import read_referring_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.metrics import overlap, referring_scores
from lexiseg.segmenter import Segmenter
from lexiseg.weights import save_weights
from tests.methods import contract


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures with two objects each; and a tiny CRIS under the name "tiny"."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "things"
    root.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for index, (height, width) in enumerate([(40, 64), (60, 45), (33, 71)]):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
        for side, sentences in (("left", ["left one", "the LEFT one"]), ("right", ["right"])):
            mask = np.zeros((height, width), np.uint8)
            columns = slice(0, width // 2) if side == "left" else slice(width // 2, width)
            mask[5:-5, columns] = 1
            Image.fromarray(mask).save(root / f"{index}_{side}.png")
            rows.append({"image": f"{index}.png", "expressions": sentences, "split": "val"})
            rows[-1]["mask"] = f"{index}_{side}.png"
    (root / "refs.json").write_text(json.dumps(rows))
    torch.manual_seed(3)
    model = contract.tiny_cris()
    with torch.no_grad():  # about half of the pixels, so that there is something to count
        model.projector.kernel.bias[-1] = -0.6
    save_weights("tiny.safetensors", model.state_dict())
    monkeypatch.setitem(registry._BUILDERS, "tiny", contract.tiny_cris)
    return root


@pytest.mark.parametrize("protocol", ["default", "published"])
def test_the_table_is_what_masks_one_by_one_give(folder: Path, protocol: str) -> None:
    words = ["evaluate", "tiny=tiny.safetensors", str(folder), "--protocol", protocol, "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert (row["items"], row["split"]) == (6, "val")
    model = registry.create_model("tiny", weights="tiny.safetensors")
    segmenter = Segmenter(model, protocol=protocol, device="cpu")
    dataset = read_referring_folder(folder, "val")
    overlaps = [
        overlap(segmenter.refer(sample.image, [sentence]).masks[0], sample.mask)
        for sample in (dataset[index] for index in range(len(dataset)))
        for sentence in sample.expressions
    ]
    expected = referring_scores(overlaps)
    assert len(expected.iou) == 9
    assert row["mIoU"] == pytest.approx(expected.mean_iou, abs=1e-3)
    assert row["oIoU"] == pytest.approx(expected.overall_iou, abs=1e-3)
    assert set(row["prec"]) == {"0.5", "0.6", "0.7", "0.8", "0.9"}


def test_an_object_is_looked_at_once_for_all_its_expressions(folder: Path) -> None:
    model = registry.create_model("tiny", weights="tiny.safetensors")
    looks = []
    look = model.look
    model.look = lambda images: looks.append(1) or look(images)
    evaluate(Segmenter(model, device="cpu"), read_referring_folder(folder, "val"))
    assert len(looks) == 6


def test_a_threshold_of_ones_own(folder: Path) -> None:
    model = registry.create_model("tiny", weights="tiny.safetensors")
    dataset = read_referring_folder(folder, "val")
    everything = evaluate(Segmenter(model, device="cpu"), dataset, background=0.0)
    shares = [dataset[index].mask.mean() for index in range(len(dataset))]
    expected = np.repeat(shares, [2, 1] * 3)
    np.testing.assert_allclose(everything.iou, expected)
