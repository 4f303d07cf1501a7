"""CAT-Seg's runs: the published ones against recordings, one's own on made photographs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.catseg.checkpoints import from_published
from lexiseg.registry import builder_of
from lexiseg.segmenter import Segmenter
from lexiseg.training.optim import schedule_of
from lexiseg.training.recipes import catseg as recipe
from lexiseg.training.run import Batch, Job, OptimConfig
from lexiseg.weights import read_metadata, read_weights, save_weights
from tests import parity
from tests.methods import contract
from tests.methods.catseg import recordings
from tests.methods.catseg.test_catseg_training_parity import published_names
from tests.parity import SOURCES, cases

FAST = OptimConfig(lr=3e-3, weight_decay=0.0)
COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (40, 200, 40)}


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    parity.forget()


def write_data(root: Path, splits: Sequence[str], names: Sequence[str] = tuple(COLOURS)) -> Path:
    """Photographs of two colours side by side, four in a split; "" writes no splits."""
    for split in splits:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.full((48, 64), index % 3, np.uint8)
            mask[:, 32:] = (index + 1) % 3
            mask[:4] = 255
            pixels = np.array(list(COLOURS.values()), np.uint8)[mask % 3]
            Image.fromarray(pixels).save(root / split / "images" / f"p{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"p{index}.png")
    classes = {str(index): name for index, name in enumerate(names)}
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignore": 255}))
    return root


def groups_by_name(job: Job) -> dict[str, list[float]]:
    return {
        name: [group["lr"], group["weight_decay"]]
        for group in job.groups
        for name in group["names"]
    }


def optimiser_of(job: Job) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in job.groups]
    )


def learn(job: Job, steps: int, batch_size: int) -> list[float]:
    """The losses of some steps without a schedule."""
    optimiser, losses = optimiser_of(job), []
    for number in range(steps):
        samples = [job.samples[number * batch_size + i] for i in range(batch_size)]
        (loss,) = job.objective(Batch(samples)).values()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def write_stuff(root: Path) -> Path:
    """COCO-Stuff of one photograph."""
    for kind, suffix in (("images", "jpg"), ("annotations_detectron2", "png")):
        folder = root / "coco-stuff" / kind / "train2017"
        folder.mkdir(parents=True)
        shape = (300, 400, 3) if suffix == "jpg" else (300, 400)
        Image.fromarray(np.full(shape, 7, np.uint8)).save(folder / f"000000000009.{suffix}")
    return root


@pytest.mark.parametrize("source", SOURCES)
def test_the_published_groups_are_those_of_the_authors(source: str, tmp_path: Path) -> None:
    recorded = cases("catseg", source).json("finetune_modes.json")
    data = read_semantic_folder(write_data(tmp_path, ["train"]), "train")
    for mode in ("attention", "full"):
        with torch.device("meta"):
            model = builder_of("catseg_vitb16")()
            config = recipe.PublishedConfig(finetune=mode)
            job = recipe.catseg_job(
                model, "catseg_vitb16", data, config, augmentation=recipe.catseg_crop
            )
        ours = groups_by_name(job)
        expected = {**recorded["always"], **recorded["modes"][mode]}
        places = {
            next(iter(from_published({name: torch.empty(0, device="cpu")}))): name
            for name in expected
        }
        assert {places[name] for name in ours} == set(expected)
        for name, (rate, decay) in ours.items():
            factor, recorded_decay = expected[places[name]]
            assert rate == pytest.approx(2e-4 * factor, rel=1e-9)
            assert decay == pytest.approx(recorded_decay, rel=1e-9)


def test_a_step_of_the_published_recipe_is_the_recorded_one(tmp_path: Path) -> None:
    case = recordings.inputs_of("train")
    names = [str(name) for name in case["class_names"]]
    data = read_semantic_folder(write_data(tmp_path, ["train"], names), "train")
    with torch.device("meta"):
        model = builder_of("catseg_vitb16")()
    shared = recordings.published_model().state_dict()
    model.load_state_dict({name: value.clone() for name, value in shared.items()}, assign=True)
    config = recipe.PublishedConfig()
    job = recipe.catseg_job(
        model,
        "catseg_vitb16",
        data,
        config,
        augmentation=recipe.catseg_crop,
        protocol="published_whole",
    )
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    samples = [
        TrainingSample(
            image=job.samples.preprocess.normalise(torch.from_numpy(image).movedim(-1, 0).float()),
            label_map=torch.from_numpy(labels.astype(np.int64)),
            class_names=tuple(names),
        )
        for image, labels in zip(case["images"], case["labels"], strict=True)
    ]
    optimiser = optimiser_of(job)
    (loss,) = job.objective(Batch(samples)).values()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(list(model.parameters()), config.optim.clip_norm)
    optimiser.step()
    assert loss.item() == pytest.approx(float(case["loss"]), abs=1e-6)
    assert norm.item() == pytest.approx(float(case["total_grad_norm"]), rel=1e-3)
    places = published_names(model)
    changes = {
        places[name]: float((parameter.detach() - before[name]).norm())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    ours = [changes[name] for name in case["grad_names"].tolist()]
    np.testing.assert_allclose(ours, case["step1_delta_norms"], rtol=1e-3, atol=1e-9)


def test_the_published_run_starts_from_clip_and_learns_171_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "builder_of", lambda arch: contract.tiny_catseg)
    torch.manual_seed(7)
    clip = build_clip(contract.TINY_CLIP, dense="catseg")
    save_weights(tmp_path / "clip.safetensors", to_openai(clip.state_dict()))
    config = recipe.PublishedConfig(steps=2, batch_size=1, clip=str(tmp_path / "clip.safetensors"))
    job = recipe.catseg_vitb16(write_stuff(tmp_path), config)
    model = job.objective.model
    for name, value in clip.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value), name
    assert job.objective.prompts[:2] == [
        ["A photo of a person in the scene"],
        ["A photo of a bicycle in the scene"],
    ]
    assert len(job.objective.prompts) == 171
    assert model.class_pooling == 2
    assert (len(job.samples), job.epoch, job.validate) == (2, 1, None)
    sample = job.samples[0]
    assert sample.image.shape == (3, 32, 32)  # the size at which the stand-in's CLIP works
    assert sample.label_map.shape == (384, 384)
    assert (sample.label_map == 7).all()
    before = [p.clone() for p in model.encoder.text.parameters() if p.requires_grad]
    assert before
    learn(job, steps=1, batch_size=1)
    after = [p for p in model.encoder.text.parameters() if p.requires_grad]
    assert all((one != other).any() for one, other in zip(before, after, strict=True))


def test_the_published_settings_are_those_of_the_authors() -> None:
    for made in (recipe.CATSEG_VITB16, recipe.CATSEG_VITL14):
        config, optim = made.config, made.config.optim
        assert (config.steps, config.batch_size, config.average) == (80_000, 4, 0.0)
        assert (config.precision, config.loss) == ("float32", "published")
        assert (optim.lr, optim.weight_decay, optim.clip_norm) == (2e-4, 1e-4, 0.01)
        factors = [schedule_of(optim, 80_000)(step) for step in (0, 40_000, 79_999)]
        assert factors == pytest.approx([1.0, 0.5, 0.0], abs=1e-8)


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
