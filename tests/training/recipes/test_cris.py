"""CRIS's runs: the published groups and rates, and the small model on rendered shapes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lexiseg.data.referring import ReferringDataset
from lexiseg.data.referring.shapes import draw_shapes
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.methods.cris import CRISConfig
from lexiseg.methods.cris.finetuning import published_rates
from lexiseg.training.loop import fit
from lexiseg.training.optim import schedule_of
from lexiseg.training.recipes import RECIPES
from lexiseg.training.recipes import cris as recipe
from lexiseg.weights import read_metadata, read_weights, save_weights
from tests.methods import contract


@pytest.fixture
def shapes() -> ReferringDataset:
    return draw_shapes(6, size=(64, 80))


def test_the_published_runs() -> None:
    names = [name for name in RECIPES if name.startswith("cris_r")]
    assert len(names) == 6
    config = RECIPES["cris_r50.refcoco"].config
    assert (config.batch_size, config.steps) == (64, 33128)
    assert RECIPES["cris_r101.refcoco+"].config.steps == 33030
    optim = config.optim
    assert (optim.lr, optim.weight_decay, optim.clip_norm) == (1e-4, 0, 0)
    assert recipe.PUBLISHED["refcocog_umd"][1:] == (22, "val")


def test_rates_epoch_by_epoch_are_the_published_ones(shapes: ReferringDataset) -> None:
    config = recipe.PublishedConfig(steps=500, batch_size=4)
    slow, fast = recipe.published_groups(contract.tiny_cris(), config, epoch=40)
    assert all(name.startswith("encoder.") for name in slow["names"])
    tables = [name for name in fast["names"] if name.startswith("encoder.")]
    assert sorted(tables) == [
        "encoder.text.position_embedding",
        "encoder.visual.attention_pool.position_embedding",
    ]
    for epoch in (1, 2, 35, 36, 50):
        for step in (10 * epoch - 10, 10 * epoch - 1):
            rates = tuple(group["lr"] * group["schedule"](step) for group in (slow, fast))
            assert rates == pytest.approx(published_rates(epoch)), epoch
    assert schedule_of(config.optim, 500)(349) == 1


def test_a_published_run_from_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: ReferringDataset
) -> None:
    built: list[CRISConfig] = []

    def build(**changes):
        model = contract.tiny_cris(replace(contract.TINY_CRIS, **changes))
        built.append(model.config)
        return model

    asked = []
    monkeypatch.setattr(recipe, "builder_of", lambda arch: build)
    monkeypatch.setattr(
        recipe, "read_refer", lambda name, root, split: asked.append((name, split)) or shapes
    )
    torch.manual_seed(9)
    clip = contract.tiny_cris().encoder.state_dict()
    save_weights(tmp_path / "clip.safetensors", to_openai(clip))
    config = replace(
        RECIPES["cris_r50.refcoco+"].config,
        steps=2,
        batch_size=4,
        accumulate=2,
        clip=str(tmp_path / "clip.safetensors"),
        checkpoint_every=2,
    )
    job = RECIPES["cris_r50.refcoco+"].build(tmp_path, config)
    assert asked == [("refcoco+", "train"), ("refcoco+", "testB")]
    assert (built[0].word_length, built[0].hide_id_zero, built[0].dropout) == (17, True, 0.1)
    state = job.objective.model.state_dict()
    key = "encoder.text.token_embedding.weight"
    assert torch.equal(state[key], clip[key.removeprefix("encoder.")])
    weights = fit(job, config, tmp_path / "run")
    assert read_metadata(weights)["model"] == "cris_r50"
    assert not torch.equal(read_weights(weights)[key], clip[key.removeprefix("encoder.")])


def test_an_epoch_is_chosen_by_first_sentences(shapes: ReferringDataset) -> None:
    assert recipe.first_sentences(shapes).references == shapes.references  # drawn ones stay
    files = contract_files()
    assert recipe.first_sentences(files).references[0].expressions == ("a",)


def contract_files() -> ReferringDataset:
    from lexiseg.data.referring.references import FileReference, MaskPicture

    reference = FileReference("x", Path("x.jpg"), ("a", "b"), MaskPicture(Path("x.png")))
    return ReferringDataset("files", "val", (reference,))
