"""CAT-Seg against recordings of the authors' code, stage by stage.

Each recorded image is run once; what the stages gave is caught by hooks, laid out as recorded.
"""

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from lexiseg.encoders.tokenizer import tokenize
from lexiseg.methods.base import Texts
from lexiseg.methods.catseg.checkpoints import from_published, to_published
from lexiseg.tiling import activate
from tests.methods.catseg.recordings import (
    LOGITS,
    SCORES,
    caught,
    inputs_of,
    on_both_sources,
    once,
    prompts_of,
    published_model,
    recording,
    with_stats,
)
from tests.parity import cases

STAGES = ("synth_5", "synth_20", "photo_20")
STRIDES = {"synth_5": (4, 8, 16), "synth_20": (8, 16, 32), "photo_20": (6, 16, 32)}

on_all_stages = pytest.mark.parametrize("name", STAGES)


@once
def run_stages(name: str) -> dict[str, Tensor]:
    """Every stage of a run on one image of 384 x 384 pixels."""
    case, model = inputs_of(name), published_model()
    images = model.protocols["published_whole"].preprocess.normalise(
        torch.from_numpy(case["image"]).movedim(-1, 0).float()
    )[None]
    aggregator, decoder = model.aggregator, model.decoder
    parts: dict[str, nn.Module] = {
        "block_a": model.encoder.visual.blocks[3],
        "block_b": model.encoder.visual.blocks[7],
        "guide_up1": model.guidance_upsamples[0],
        "guide_up2": model.guidance_upsamples[1],
        "proj_appearance": aggregator.appearance_projection,
        "proj_text": aggregator.text_projection,
        "proj_decoder0": decoder.guidance_projections[0],
        "proj_decoder1": decoder.guidance_projections[1],
        "corr_embed": aggregator.cost_embedding,
        "decoder1": decoder.stages[0],
        "decoder2": decoder.stages[1],
    }
    for index, layer in enumerate(aggregator.layers):
        parts |= {f"layer{index}_swin": layer.spatial, f"layer{index}_out": layer}
    with torch.no_grad(), caught(parts) as stages:
        texts = model.encode_texts(prompts_of(case))
        logits = model(images, texts)
        features = model.encoder.encode_images(images)
    for key in ("guide_up1", "guide_up2", "proj_appearance", "proj_decoder0", "proj_decoder1"):
        stages[key] = stages[key][0]
    for key in ("block_a", "block_b"):
        stages[key] = stages[key][0]
    for key in [key for key in stages if key.startswith("layer")]:
        stages[key] = rearrange(stages[key], "1 t h w c -> t c h w")
    patches = rearrange(features.patch_features[0], "d h w -> (h w) d")
    return stages | {
        "clip_input": images[0],
        "clip_dense": torch.cat([features.pooled, patches]),
        "text_features": texts.features,
        "logits": logits[0],
    }


def thin_tokens(tokens: Tensor, step: int) -> Tensor:
    """The class token and every ``step``-th cell each way."""
    grid = rearrange(tokens[1:], "(h w) c -> h w c", h=24)[::step, ::step]
    return torch.cat([tokens[:1], rearrange(grid, "h w c -> (h w) c")])


@on_both_sources
def test_catseg_parity_manifest(source: str) -> None:
    """Every official key has its place, and the way back gives the same keys and shapes."""
    manifest = cases("catseg", source).json("manifest_vitb384.json")
    assert manifest == cases("catseg", "compact").json("manifest_vitb384.json")
    published = to_published(published_model().state_dict())
    assert {key: list(value.shape) for key, value in published.items()} == {
        key: row["shape"] for key, row in manifest.items()
    }


def test_catseg_parity_checkpoint_there_and_back() -> None:
    """Each official tensor has its place in ours and comes back bit for bit."""
    official = cases("catseg", "compact").weights("manifest_vitb384.json")
    back = to_published(from_published(official))
    assert all(torch.equal(back[key], value) for key, value in official.items())
    own = published_model().state_dict()
    assert from_published(own).keys() == from_published(to_published(own)).keys() == own.keys()


@on_both_sources
@on_all_stages
def test_catseg_parity_tokens(name: str, source: str) -> None:
    case = recording(name, source)
    ids = tokenize([prompt for (prompt,) in prompts_of(case)], context_length=77)
    recorded = case["tokens"]
    assert np.array_equal(ids.numpy(), recorded[:, : ids.shape[1]])
    assert not recorded[:, ids.shape[1] :].any()


@on_both_sources
@on_all_stages
def test_catseg_parity_text_features(name: str, source: str) -> None:
    recording(name, source).check("text_features", run_stages(name)["text_features"])


@on_both_sources
@on_all_stages
def test_catseg_parity_clip_input(name: str, source: str) -> None:
    whole = run_stages(name)["clip_input"]
    with_stats(recording(name, source), "clip_input", whole, lambda x: x[:, ::16, ::16])


@on_both_sources
@on_all_stages
def test_catseg_parity_clip_dense(name: str, source: str) -> None:
    whole = run_stages(name)["clip_dense"]
    with_stats(recording(name, source), "clip_dense", whole, lambda x: thin_tokens(x, 2))


@on_both_sources
@on_all_stages
@pytest.mark.parametrize("block", ["block_a", "block_b"])
def test_catseg_parity_intermediate_blocks(name: str, source: str, block: str) -> None:
    whole = run_stages(name)[block]
    with_stats(recording(name, source), block, whole, lambda x: thin_tokens(x, 4))


@on_both_sources
@on_all_stages
@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("guide_up1", 6),
        ("guide_up2", 12),
        ("proj_appearance", 3),
        ("proj_decoder0", 6),
        ("proj_decoder1", 12),
    ],
)
def test_catseg_parity_guidance(name: str, source: str, key: str, step: int) -> None:
    case = recording(name, source)
    if name == "synth_20":
        assert key not in case  # that recording leaves the image's guidance out
    else:
        with_stats(case, key, run_stages(name)[key], lambda x: x[:, ::step, ::step])


@on_both_sources
@on_all_stages
def test_catseg_parity_text_guidance(name: str, source: str) -> None:
    recording(name, source).check("proj_text", run_stages(name)["proj_text"])


@on_both_sources
@on_all_stages
def test_catseg_parity_cost(name: str, source: str) -> None:
    stages, case = run_stages(name), recording(name, source)
    with torch.no_grad():
        grid = rearrange(stages["clip_dense"][1:], "(h w) d -> d h w", h=24)
        cosine = torch.nn.functional.normalize(grid, dim=0)
        cost = torch.einsum("dhw,td->thw", cosine, stages["text_features"])
    case.check("corr", cost)


@on_both_sources
@on_all_stages
def test_catseg_parity_cost_embedding(name: str, source: str) -> None:
    step = STRIDES[name][0]
    whole = run_stages(name)["corr_embed"]
    with_stats(recording(name, source), "corr_embed", whole, lambda x: x[:, :, ::step, ::step])


@on_both_sources
@on_all_stages
@pytest.mark.parametrize("key", ["layer0_swin", "layer0_out", "layer1_swin", "layer1_out"])
def test_catseg_parity_aggregation(name: str, source: str, key: str) -> None:
    step = STRIDES[name][0]
    whole = run_stages(name)[key]
    with_stats(recording(name, source), key, whole, lambda x: x[:, :, ::step, ::step])


@on_both_sources
@on_all_stages
@pytest.mark.parametrize("stage", [1, 2])
def test_catseg_parity_decoder(name: str, source: str, stage: int) -> None:
    step, key = STRIDES[name][stage], f"decoder{stage}"
    whole = run_stages(name)[key]
    with_stats(recording(name, source), key, whole, lambda x: x[:, :, ::step, ::step])


@on_both_sources
@on_all_stages
def test_catseg_parity_logits(name: str, source: str) -> None:
    recording(name, source).check("logits", run_stages(name)["logits"], absolute=LOGITS)


@on_both_sources
@on_all_stages
def test_catseg_parity_scores(name: str, source: str) -> None:
    scores = activate(run_stages(name)["logits"][None], "sigmoid")[0]
    full = published_model().preprocess.restore(scores, (384, 384))
    recording(name, source).check("prob384", full[:, ::12, ::12], absolute=SCORES)


@once
def run_again(pooling: int, chunk: int | None, order: tuple[int, ...]) -> Tensor:
    """Logits of ``synth_5`` from its caught stages on, in another setting of the head."""
    model, case = published_model(), inputs_of("synth_5")
    images = run_stages("synth_5")["clip_input"][None]
    texts = Texts(run_stages("synth_5")["text_features"][list(order)])
    assert len(order) == len(case["class_names"])
    model.class_pooling, model.class_chunk = pooling, chunk
    try:
        with torch.no_grad():
            return model(images, texts)[0]
    finally:
        model.class_pooling, model.class_chunk = 1, None


@on_both_sources
def test_catseg_parity_logits_with_pooling(source: str) -> None:
    logits = run_again(2, None, (0, 1, 2, 3, 4))
    recording("synth_5", source).check("logits_pool2", logits, absolute=LOGITS)


@on_both_sources
def test_catseg_parity_class_chunks_and_text_order(source: str) -> None:
    """Two texts at a time, and in another order: the same logits as recorded."""
    order = (3, 0, 4, 1, 2)
    logits = run_again(1, 2, order)[list(np.argsort(order))]
    recording("synth_5", source).check("logits", logits, absolute=LOGITS)


@on_both_sources
@pytest.mark.parametrize("name", [*STAGES, "sliding_rocket", "whole_rocket", "train"])
def test_catseg_parity_no_array_is_left_out(name: str, source: str) -> None:
    """Whatever is recorded is named above, so that no array goes unchecked."""
    inputs = {"image", "images", "labels", "class_names"}
    stages = {
        *("tokens", "text_features", "clip_input", "clip_dense", "block_a", "block_b", "corr"),
        *("guide_up1", "guide_up2", "proj_appearance", "proj_decoder0", "proj_decoder1"),
        *("proj_text", "corr_embed", "layer0_swin", "layer0_out", "layer1_swin", "layer1_out"),
        *("decoder1", "decoder2", "logits", "prob384", "logits_pool2"),
    }
    protocol = {
        *("resized_shape", "resized_s8", "clip_input_s32", "clip_input", "logits_s4", "logits"),
        *("prob_s4", "prob_last_row", "prob_last_col", "prob", "argmax", "margin_s4"),
        *("raw_prob_s4", "raw_prob_last_row", "raw_prob_last_col", "raw_prob", "raw_argmax"),
    }
    training = {
        *("loss", "total_grad_norm", "grad_names", "grad_norms", "all_names", "all_grad_norms"),
        *("logits_s4", "grad_head_weight", "grad_conv1_bias", "grad_padding_tokens0"),
        *("step1_delta_norms", "losses_constant_lr"),
    }
    known = inputs | (stages if name in STAGES else training if name == "train" else protocol)
    assert {key.removesuffix("__stats") for key in recording(name, source)} <= known
