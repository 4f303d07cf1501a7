"""CAT-Seg's published runs against recordings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.methods.catseg.checkpoints import from_published
from lexiseg.registry import builder_of
from lexiseg.training.optim import schedule_of
from lexiseg.training.recipes import catseg as recipe
from lexiseg.training.run import Batch
from lexiseg.weights import save_weights
from tests import parity
from tests.methods import contract
from tests.methods.catseg import recordings
from tests.methods.catseg.test_catseg_training_parity import published_names
from tests.parity import SOURCES, cases
from tests.training.recipes.colours import (
    groups_by_name,
    learn,
    optimiser_of,
    write_data,
    write_stuff,
)


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    parity.forget()


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
