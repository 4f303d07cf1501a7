"""CAT-Seg on one's own data: made photographs of colours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.segmenter import Segmenter
from lexiseg.training.recipes import catseg_own as recipe
from lexiseg.training.run import Batch, Job, OptimConfig
from lexiseg.weights import read_metadata, read_weights
from tests.methods import contract
from tests.training.recipes.colours import COLOURS, groups_by_name, learn, write_data

FAST = OptimConfig(lr=3e-3, weight_decay=0.0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    data = write_data(tmp_path / "own", ["train", "val"])
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make("catseg_lite"))
    config = recipe.OwnConfig(steps=8, batch_size=2, crop=64, optim=FAST)
    return recipe.catseg_own(data, config)


def test_ones_own_data_is_learned_by_the_head_alone(own: Job) -> None:
    model = own.objective.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not model.encoder.training
    assert model.decoder.training
    losses = learn(own, steps=8, batch_size=2)
    assert losses[-1] < 0.95 * losses[0]
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert not any(name.startswith("encoder.") for name in changed)


def test_the_score_is_that_of_the_model_in_use(own: Job, tmp_path: Path) -> None:
    model = own.objective.model
    torch.nn.init.normal_(model.decoder.head.weight)  # a new head says nothing yet
    model.class_pooling = 4
    score = own.validate()
    assert model.class_pooling == 4
    model.class_pooling = 1
    data = read_semantic_folder(tmp_path / "own", "val")
    assert score == evaluate(Segmenter(model), data).mean_iou
    model.class_pooling = 4
    assert score != evaluate(Segmenter(model), data).mean_iou


def test_the_encoder_is_tuned_too_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "own", ["train", "val"])
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make(name))
    monkeypatch.setattr(recipe, "pretrained_name", lambda name: name)
    config = recipe.OwnConfig(steps=1, batch_size=1, model="catseg_vitb16", finetune="attention")
    job = recipe.catseg_own(data, config)
    rates = {name: rate for name, (rate, _) in groups_by_name(job).items()}
    assert rates["encoder.text.blocks.0.attention.q_proj_weight"] == pytest.approx(2e-6)
    assert rates["decoder.head.weight"] == pytest.approx(2e-4)
    losses = job.objective(Batch([job.samples[0]]))
    losses["bce"].backward()
    trained = dict(job.objective.model.named_parameters())
    assert trained["encoder.text.blocks.0.attention.q_proj_weight"].grad.abs().sum() > 0
    job.save(tmp_path / "whole.safetensors")
    assert read_metadata(tmp_path / "whole.safetensors")["model"] == "catseg_vitb16"
    state = read_weights(tmp_path / "whole.safetensors")
    assert state.keys() == job.objective.model.state_dict().keys()


def test_weights_on_the_bundled_encoder_can_be_used_and_trained_further(tmp_path: Path) -> None:
    data = write_data(tmp_path / "own", ["train", "val"])
    job = recipe.catseg_own(data, recipe.OwnConfig(steps=1, batch_size=1, crop=64))
    learn(job, steps=1, batch_size=1)
    path = job.save(tmp_path / "own.safetensors")
    assert not any(name.startswith("encoder.") for name in read_weights(path))
    trained = Segmenter(job.objective.model)
    image = data / "val" / "images" / "p0.png"
    expected = trained(image, list(COLOURS), scores=True).scores
    loaded = Segmenter.from_pretrained(path)(image, list(COLOURS), scores=True).scores
    np.testing.assert_allclose(loaded, expected, atol=1e-6)
    further = recipe.catseg_own(data, recipe.OwnConfig(steps=1, crop=64, weights=str(path)))
    for name, value in job.objective.model.state_dict().items():
        assert torch.equal(further.objective.model.state_dict()[name], value), name


def test_without_splits_every_tenth_photograph_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make("catseg_lite"))
    job = recipe.catseg_own(write_data(tmp_path, [""]), recipe.OwnConfig(steps=1, crop=64))
    assert job.epoch == 3
    assert 0 <= job.validate() <= 1


def test_outlines_of_coco_are_learned_against_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make("catseg_lite"))
    images = [{"id": i, "file_name": f"p{i}.png", "height": 40, "width": 60} for i in range(11)]
    outline = [[0, 0, 30, 0, 30, 40, 0, 40]]
    objects = [
        {"id": i, "image_id": i, "category_id": 5, "segmentation": outline} for i in range(11)
    ]
    tables = {
        "images": images,
        "categories": [{"id": 5, "name": "door"}],
        "annotations": objects,
    }
    data = tmp_path / "doors"
    data.mkdir()
    (data / "annotations.json").write_text(json.dumps(tables))
    for row in images:
        Image.new("RGB", (60, 40), (9, 9, 9)).save(data / str(row["file_name"]))
    job = recipe.catseg_own(data, recipe.OwnConfig(steps=1, batch_size=4, crop=64))
    assert job.objective.prompts == [["door"], ["background"]]
    assert job.epoch == 10
    shares = torch.stack([job.samples[i].label_map for i in range(4)]).flatten().bincount()
    assert shares[0] > 0
    assert shares[1] > 0
    assert shares[2:255].sum() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "ade150"}, "ADEChallengeData2016"),
        ({"model": "catseg_lit"}, "unknown model 'catseg_lit'; did you mean 'catseg_lite'"),
        ({"model": "maskclip_lite"}, "'maskclip_lite' came; the recipe trains CAT-Seg's models"),
        ({"finetune": "full", "batch_size": 1}, "batch norms need two samples at once or more"),
        ({"finetune": "full", "accumulate": 8}, "batch_size 8 came with accumulate 8 and finetune"),
        ({"finetune": "attention"}, "Lite has no attention blocks"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    data = write_data(tmp_path, ["train", "val"])
    with pytest.raises(ValueError, match=message):
        recipe.catseg_own(data, recipe.OwnConfig(steps=1, **changes))


def test_splits_with_other_classes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = read_semantic_folder(write_data(tmp_path / "a", ["train"]), "train")
    val = read_semantic_folder(write_data(tmp_path / "b", ["val"], ["x", "y", "z"]), "val")
    monkeypatch.setattr(
        recipe, "open_dataset", lambda name, *, split, root: train if split == "train" else val
    )
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make("catseg_lite"))
    with pytest.raises(ValueError, match="both splits need the same"):
        recipe.catseg_own(tmp_path, recipe.OwnConfig(steps=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "dice"}, "loss 'dice' came; choose one of masked, published"),
        ({"finetune": "prompt"}, "finetune 'prompt' came; choose one of attention, full, freeze"),
        ({"class_pooling": 0}, "class_pooling 0 came; it must be at least 1"),
        ({"crop": 0}, "crop 0 came; it must be at least 1"),
        ({"crop": -5}, "crop -5 came; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.OwnConfig(**changes)


def test_the_fingerprint_is_that_of_photographs_label_maps_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "create_model", lambda name, weights: contract.make("catseg_lite"))
    data = write_data(tmp_path, ["train", "val"])

    def fingerprint() -> str:
        return recipe.catseg_own(data, recipe.OwnConfig(steps=1, crop=64)).fingerprint

    found = [fingerprint(), fingerprint()]
    assert found[0] == found[1] != ""
    classes = (data / "classes.json").read_text()
    (data / "classes.json").write_text(classes.replace("red", "zebra"))
    found.append(fingerprint())
    (data / "classes.json").write_text(classes)
    for split in ("train", "val"):
        path = data / split / "masks" / "p0.png"
        before = path.read_bytes()
        Image.new("L", (64, 48), 1).save(path)
        found.append(fingerprint())
        path.write_bytes(before)
    assert len(set(found)) == 4
