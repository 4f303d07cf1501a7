"""ESC-Net's published run: where it starts, what it trains, at which rates."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from lexiseg.data.mixture import TrainingSample
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.training.recipes import escnet as recipe
from lexiseg.weights import read_metadata, read_weights, save_weights
from tests.methods import contract
from tests.methods.escnet.test_checkpoints import sam_file
from tests.training.recipes.colours import groups_by_name, learn, write_stuff


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recipe, "builder_of", lambda arch: contract.tiny_escnet)
    torch.manual_seed(7)
    clip = build_clip(contract.TINY_CLIP, dense="catseg")
    save_weights(tmp_path / "clip.safetensors", to_openai(clip.state_dict()))
    torch.save(sam_file(), tmp_path / "sam.pth")
    return write_stuff(tmp_path)


def settings(folder: Path, *, sam: bool) -> recipe.PublishedConfig:
    return recipe.PublishedConfig(
        steps=2,
        batch_size=1,
        clip=str(folder / "clip.safetensors"),
        sam=str(folder / "sam.pth") if sam else "",
    )


def test_the_published_run_trains_attention_at_the_small_rate(files: Path) -> None:
    job = recipe.escnet_vitb16(files, settings(files, sam=True))
    rates = {name: rate for name, (rate, _) in groups_by_name(job).items()}
    assert rates["encoder.text.blocks.0.attention.q_proj_weight"] == pytest.approx(2e-6)
    layer = "rounds.blocks.1.sam.layers.0."
    assert rates[f"{layer}self_attention.q.weight"] == pytest.approx(2e-6)
    assert f"{layer}mlp.0.weight" not in rates
    assert rates["rounds.decoder.head.weight"] == pytest.approx(2e-4)
    sam = sam_file()["mask_decoder.transformer.layers.0.self_attn.q_proj.weight"]
    state = job.objective.model.state_dict()
    assert torch.equal(state[f"{layer}self_attention.q.weight"], sam)
    assert len(job.objective.prompts) == 171
    assert job.samples[0].label_map.shape == (384, 384)
    optim = recipe.ESCNET_VITB16.config.optim
    assert (optim.lr, optim.weight_decay, optim.clip_norm) == (2e-4, 1e-4, 0.01)


def test_without_sam_its_blocks_train_like_the_head(files: Path) -> None:
    job = recipe.escnet_vitl14(files, settings(files, sam=False))
    rates = {name: rate for name, (rate, _) in groups_by_name(job).items()}
    assert rates["rounds.blocks.1.sam.layers.0.mlp.0.weight"] == pytest.approx(2e-4)
    assert job.samples[0].label_map.shape == (336, 336)


class Corners(Dataset[TrainingSample]):
    """A part of each sample: 171 classes on a whole one take gigabytes."""

    def __init__(self, samples: Dataset[TrainingSample]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> TrainingSample:
        whole = self.samples[index]
        return replace(whole, image=whole.image[:, :96, :96], label_map=whole.label_map[:96, :96])


def test_a_step_trains_and_the_whole_model_is_saved(files: Path) -> None:
    job = recipe.escnet_vitb16(files, settings(files, sam=True))
    model = job.objective.model
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    learn(replace(job, samples=Corners(job.samples)), steps=1, batch_size=1)
    changed = {name for name, p in model.named_parameters() if name in before}
    changed = {n for n in changed if not torch.equal(before[n], model.get_parameter(n))}
    assert any(name.startswith("encoder.text.") for name in changed)
    assert any(name.startswith("rounds.decoder.") for name in changed)
    path = job.save(files / "escnet.safetensors")
    assert read_metadata(path)["model"] == "escnet_vitb16"
    assert read_weights(path).keys() == model.state_dict().keys()
