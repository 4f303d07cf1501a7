from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import (
    LITE_WEAK_WEIGHTS,
    LITE_WEIGHTS,
    head_metadata,
    pack,
    read_encoder,
)
from lexiseg.registry import create_model
from lexiseg.training.loop import fit
from lexiseg.training.recipes import lite_heads
from lexiseg.training.run import Recipe
from lexiseg.weights import metadata_of, read_weights, save_weights
from tests.training.recipes.halves import Halves


@pytest.mark.parametrize("recipe", [lite_heads.CATSEG_LITE, lite_heads.ESCNET_LITE])
def test_the_head_alone_is_trained(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_heads, "lite_samples", lambda data, config, **_: Halves())
    config = replace(recipe.config, steps=2, batch_size=2)
    job = recipe.build(tmp_path, config)
    assert not any("encoder." in name for group in job.groups for name in group["names"])
    weights = fit(job, config, tmp_path / "run")
    state = read_weights(weights)
    assert state
    assert not any(name.startswith("encoder.") for name in state)
    assert metadata_of(state) == head_metadata(recipe.name, bundled())


def bundled() -> Lite:
    encoder = Lite()
    encoder.load_state_dict(read_weights(LITE_WEIGHTS))
    return encoder


def test_a_head_on_another_encoder_is_stored_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_heads, "lite_samples", lambda data, config, **_: Halves())
    state = read_weights(LITE_WEIGHTS)
    state["logit_scale"] = state["logit_scale"] + 0.125
    encoder = Lite()
    encoder.load_state_dict(state)
    other = tmp_path / "other.safetensors"
    save_weights(other, pack(encoder))
    config = replace(lite_heads.CATSEG_LITE.config, steps=1, batch_size=2, encoder=str(other))
    weights = fit(lite_heads.catseg_lite(tmp_path, config), config, tmp_path / "run")
    model = create_model("catseg_lite", weights=weights)
    assert model.encoder.logit_scale == encoder.logit_scale.half()


def test_a_head_on_the_twin_is_stored_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_heads, "lite_samples", lambda data, config, **_: Halves())
    config = replace(lite_heads.CATSEG_LITE.config, steps=1, batch_size=2, encoder="lite_weak")
    weights = fit(lite_heads.catseg_lite(tmp_path, config), config, tmp_path / "run")
    assert not any(name.startswith("encoder.") for name in read_weights(weights))
    own = create_model("catseg_lite", weights=weights).encoder.state_dict()
    twin = read_encoder(LITE_WEAK_WEIGHTS)
    assert all(own[key].equal(value) for key, value in twin.items())
    assert any(not own[key].equal(value) for key, value in bundled().state_dict().items())


def test_the_last_layer_is_stored_by_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_heads, "lite_samples", lambda data, config, **_: Halves())
    whole, half = (
        read_weights(fit(lite_heads.catseg_lite(tmp_path, config), config, tmp_path / str(part)))
        for part in (1.0, 0.5)
        for config in [replace(lite_heads.CATSEG_LITE.config, steps=1, batch_size=2, part=part)]
    )
    changed = [key for key in whole if not whole[key].equal(half[key])]
    assert changed == ["decoder.head.bias", "decoder.head.weight"]
    assert half[changed[1]].equal((whole[changed[1]] / 2).half().float())
    assert whole[changed[1]].abs().max() > 0


def test_a_part_above_the_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="part 1.5 came"):
        replace(lite_heads.CATSEG_LITE.config, part=1.5)


def test_variants_of_esc_net_are_trained_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_heads, "lite_samples", lambda data, config, **_: Halves())
    plain = replace(lite_heads.ESCNET_LITE.config, steps=1, batch_size=2)
    changes = {"blocks": 3, "class_fusion": "none", "prompts": False, "boundary_refinement": True}
    for config in (plain, replace(plain, **changes)):
        job = lite_heads.escnet_lite(tmp_path, config)
        rounds = job.objective.model.rounds
        assert len(rounds.blocks) == config.blocks
        assert rounds.texts_apart == (config.class_fusion == "none")
        assert (rounds.boundary is not None) == config.boundary_refinement
        prompts = rounds.blocks[0].generate(torch.rand(1, 2, 8, 8))
        assert bool(prompts.valid.any()) == config.prompts
    with pytest.raises(ValueError, match="unknown class_fusion 'sum'"):
        lite_heads.escnet_lite(tmp_path, replace(plain, class_fusion="sum"))
