"""CLIP against recordings of openai/CLIP, for the tokenizer and the ViT."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from lexiseg.encoders.byte_pairs import decode, encode
from lexiseg.encoders.checkpoints import from_openai, load_clip
from lexiseg.encoders.clip import CLIP, MEAN, STD, VITB16, build_clip, centre_crop
from lexiseg.encoders.tokenizer import tokenize
from tests.parity import SOURCES, Case, cases

MANIFEST = "manifest_vitb16.json"
ROUNDED_BY_OPENAI = (
    *("conv1.weight", "in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"),
    *("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias", "proj", "text_projection"),
)


def open_case(source: str) -> Case:
    return cases("clip", source).open("case_vitb16.npz")


@lru_cache(maxsize=1)
def build_model(*, rounded: bool) -> CLIP:
    """The recorded model; ``rounded`` to float16 where OpenAI's loader does that."""
    state = cases("clip", "compact").weights(MANIFEST)
    if rounded:
        state = {
            key: value.half() if key.endswith(ROUNDED_BY_OPENAI) else value
            for key, value in state.items()
        }
    return load_clip(state).eval()


def normalise(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels.float() - mean) / std


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_manifest_fits_the_model(source: str) -> None:
    rows = cases("clip", source).json(MANIFEST)
    assert rows == cases("clip", "compact").json(MANIFEST)
    with torch.device("meta"):
        own = build_clip(VITB16).state_dict()
        state = from_openai({key: torch.empty(row["shape"]) for key, row in rows.items()})
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in own.items()}


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_tokenizer_ids(source: str) -> None:
    rows = cases("clip", source).json("tokenizer.json")["rows"]
    ids = tokenize([row["text"] for row in rows], truncate=True)
    for row, found in zip(rows, ids.tolist(), strict=True):
        assert found == row["ids"], row["text"]


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_tokenizer_length_and_decoding(source: str) -> None:
    for row in cases("clip", source).json("tokenizer.json")["rows"]:
        ids = encode(row["text"])
        assert len(ids) == row["bpe_length_without_specials"], row["text"]
        assert decode(ids) == row["decoded"], row["text"]


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_tokenizer_refuses_what_is_too_long(source: str) -> None:
    rows = cases("clip", source).json("tokenizer.json")["rows"]
    assert any(row["raises_without_truncate"] for row in rows)
    for row in rows:
        if row["raises_without_truncate"]:
            with pytest.raises(ValueError, match=r"at most 77 are allowed; shorten it or pass"):
                tokenize([row["text"]])
        else:
            assert tokenize([row["text"]])[0].tolist() == row["ids"]


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_token_ids(source: str) -> None:
    case = open_case(source)
    assert tokenize(list(case["texts"])).tolist() == case["token_ids"].tolist()


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_preprocessing(source: str) -> None:
    case = open_case(source)
    raw = [key for key in case if key.startswith("raw_")]
    assert raw
    for key in raw:
        square = rearrange(centre_crop(case[key], 224), "H W C -> C H W")
        np.testing.assert_array_equal(square, case["image_u8"][int(key[-1])])
    normalised = normalise(case.tensor("image_u8"))
    case.check("image", normalised[:, :, ::4, ::4], absolute=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_image_features(source: str) -> None:
    case = open_case(source)
    with torch.inference_mode():
        features = build_model(rounded=False).encode_images(normalise(case.tensor("image_u8")))
    case.check("image_features", features.pooled)


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_visual_tokens_before_the_last_norm(source: str) -> None:
    case = open_case(source)
    model = build_model(rounded=False)
    seen: list[Tensor] = []
    hook = model.visual.norm_post.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        features = model.encode_images(normalise(case.tensor("image_u8"))[:1], intermediates=[11])
    hook.remove()
    case.check("visual_tokens_before_ln_post_sub", seen[0][:, ::8, ::8])
    patches = rearrange(features.intermediates[0], "B C h w -> B (h w) C")
    assert torch.equal(patches, seen[0][:, 1:])


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_text_features(source: str) -> None:
    case = open_case(source)
    with torch.inference_mode():
        features = build_model(rounded=False).encode_prompts(list(case["texts"]))
    case.check("text_features", features.pooled)


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_text_tokens_padding_included(source: str) -> None:
    """A long prompt in the batch keeps the padding of the others from being cut off."""
    case = open_case(source)
    long_prompt = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    with torch.inference_mode():
        features = build_model(rounded=False).encode_prompts([*case["texts"], long_prompt])
    case.check("text_tokens_after_ln_final_sub", features.words[:3, :16, ::8])
    case.check("text_features", features.pooled[:3])


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_logits(source: str) -> None:
    case = open_case(source)
    model = build_model(rounded=False)
    assert model.logit_scale.item() == pytest.approx(float(case["logit_scale"]), abs=1e-6)
    with torch.inference_mode():
        logits = model(normalise(case.tensor("image_u8")), list(case["texts"]))
    case.check("logits_per_image", logits, absolute=2e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_half_precision_weights(source: str) -> None:
    case = open_case(source)
    model = build_model(rounded=True)
    images, texts = normalise(case.tensor("image_u8")), list(case["texts"])
    with torch.inference_mode():
        case.check("image_features_fp16_weights", model.encode_images(images).pooled)
        case.check("text_features_fp16_weights", model.encode_prompts(texts).pooled)
        case.check("logits_per_image_fp16_weights", model(images, texts), absolute=2e-5)


def test_clip_parity_every_array_is_checked() -> None:
    checked = {
        *("raw_0", "raw_1", "image", "image_u8", "texts", "token_ids", "logit_scale", "pillow"),
        *("image_features", "text_features", "logits_per_image"),
        *("visual_tokens_before_ln_post_sub", "text_tokens_after_ln_final_sub"),
        *("image_features_fp16_weights", "text_features_fp16_weights"),
        "logits_per_image_fp16_weights",
    }
    assert set(open_case("compact")) <= checked
