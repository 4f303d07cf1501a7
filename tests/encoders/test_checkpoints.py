import pytest
import torch

from lexiseg.encoders import clip
from lexiseg.encoders.checkpoints import (
    OPENAI,
    from_huggingface,
    from_open_clip,
    from_openai,
    from_published,
    infer_config,
    layout_of,
    load_clip,
    to_huggingface,
    to_openai,
)
from lexiseg.weights import load_state
from tests.encoders.test_clip_resnet import TINY_RESNET, tiny_clip_resnet
from tests.encoders.tiny_clip import TINY, tiny_clip
from tests.parity import cases


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def as_open_clip(state, *, text_apart):
    theirs = to_openai(state)
    towers = ("visual.", "logit_scale")
    prefix = "text." if text_apart else ""
    return {
        f"module.{key}" if key.startswith(towers) else f"module.{prefix}{key}": value
        for key, value in theirs.items()
    }


def test_openai_names_there_and_back():
    state = tiny_clip().state_dict()
    theirs = to_openai(state)
    extras = {
        name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")
    }
    assert layout_of(theirs) == "openai"
    assert_same(from_openai(theirs | extras), state)
    assert_same(to_openai(from_openai(theirs)), theirs)


def test_openai_names_are_those_of_the_recording():
    with torch.device("meta"):
        theirs = to_openai(clip.clip_vitb16().state_dict())
    rows = cases("clip", "compact").json("manifest_vitb16.json")
    assert {key: list(value.shape) for key, value in theirs.items()} == {
        key: row["shape"] for key, row in rows.items()
    }


def test_split_projections_are_taken_as_catseg_holds_them():
    state = tiny_clip().state_dict()
    theirs = to_openai(state, fused=False)
    assert "visual.transformer.resblocks.0.attn.q_proj_weight" in theirs
    assert_same(from_openai(theirs), state)


@pytest.mark.parametrize("text_apart", [False, True])
def test_open_clip_names(text_apart):
    state = tiny_clip().state_dict()
    theirs = as_open_clip(state, text_apart=text_apart)
    assert layout_of(theirs) == "open_clip"
    assert_same(from_open_clip(theirs), state)


def test_huggingface_names_there_and_back():
    state = tiny_clip().state_dict()
    theirs = to_huggingface(state)
    for key in (
        "vision_model.pre_layrnorm.weight",
        "vision_model.encoder.layers.2.self_attn.k_proj.bias",
        "text_model.encoder.layers.1.mlp.fc2.weight",
        "text_model.embeddings.position_embedding.weight",
    ):
        assert key in theirs
    assert theirs["visual_projection.weight"].shape == (24, 64)
    assert layout_of(theirs) == "huggingface"
    extras = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    assert_same(from_huggingface(theirs | extras), state)
    assert_same(to_huggingface(from_huggingface(theirs)), theirs)


@pytest.mark.parametrize("layout", ["lexiseg", "openai", "open_clip", "huggingface"])
def test_load_clip_finds_the_layout_and_the_variant(layout, tmp_path):
    model = tiny_clip()
    state = {
        "lexiseg": lambda s: s,
        "openai": to_openai,
        "open_clip": lambda s: as_open_clip(s, text_apart=True),
        "huggingface": to_huggingface,
    }[layout](model.state_dict())
    torch.save({"state_dict": dict(state)}, tmp_path / "clip.pt")
    loaded = load_clip(tmp_path / "clip.pt", dense="value")
    assert loaded.visual.dense == "value"
    assert_same(loaded.state_dict(), model.state_dict())


@pytest.mark.parametrize("name", list(OPENAI))
def test_variants_are_inferred_from_shapes(name):
    with torch.device("meta"):
        state = getattr(clip, name)().state_dict()
    configs = {
        "clip_rn50": clip.RN50,
        "clip_rn101": clip.RN101,
        "clip_vitb32": clip.VITB32,
        "clip_vitb16": clip.VITB16,
        "clip_vitl14": clip.VITL14,
        "clip_vitl14_336": clip.VITL14_336,
    }
    assert infer_config(state) == configs[name]
    assert OPENAI[name].sha256 in OPENAI[name].url


def test_inferred_configuration_of_the_tiny_model():
    assert infer_config(tiny_clip().state_dict()) == TINY
    assert infer_config(tiny_clip_resnet().state_dict()) == TINY_RESNET


def test_openai_names_of_a_resnet_there_and_back():
    state = tiny_clip_resnet().state_dict()
    theirs = to_openai(state)
    assert "visual.layer2.1.conv3.weight" in theirs
    assert "visual.attnpool.c_proj.bias" in theirs
    assert layout_of(theirs) == "openai"
    assert layout_of(state) == "lexiseg"
    assert_same(from_openai(theirs), state)
    assert_same(to_openai(from_openai(theirs)), theirs)
    assert_same(load_clip(theirs).state_dict(), state)
    spatial = tiny_clip_resnet(dense="spatial").state_dict()
    assert "visual.attnpool.connect.1.running_mean" in to_openai(spatial)
    assert_same(from_openai(to_openai(spatial)), spatial)
    assert load_clip(spatial, dense="spatial").visual.dense == "spatial"
    del theirs["visual.attnpool.positional_embedding"]
    with pytest.raises(ValueError, match="the weights lack .'visual.attention_pool.position_emb"):
        load_clip(theirs)


def test_foreign_and_incomplete_weights_are_refused():
    with pytest.raises(ValueError, match="these are not the names of a CLIP"):
        from_published({"backbone.weight": torch.zeros(1)})
    state = to_openai(tiny_clip().state_dict())
    del state["text_projection"]
    with pytest.raises(ValueError, match=r"the weights lack \['text.projection'\]"):
        load_clip(state)


def test_a_key_too_many_and_one_too_few_are_reported():
    state = to_openai(tiny_clip().state_dict())
    state["visual.extra"] = state.pop("visual.ln_pre.bias")
    with pytest.raises(
        ValueError, match="1 missing: visual.norm_pre.bias\n.*1 unexpected: visual.extra"
    ):
        load_state(tiny_clip(), state, from_openai)
