"""CLIP's modified ResNet against recordings of openai/CLIP; the pictures are those of the ViT."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from lexiseg.encoders.checkpoints import from_openai, load_clip, to_openai
from lexiseg.encoders.clip import CLIP, RN50, build_clip_resnet
from lexiseg.encoders.tokenizer import tokenize
from tests.encoders.test_clip_parity import ROUNDED_BY_OPENAI, normalise
from tests.parity import SOURCES, Case, cases

MANIFEST = "manifest_rn50.json"
# Besides those of the ViT: the convolutions, the shortcuts and the attention pooling.
ROUNDED = (
    *ROUNDED_BY_OPENAI,
    *("conv2.weight", "conv3.weight", "downsample.0.weight"),
    *(f"attnpool.{name}_proj.{kind}" for name in "qkvc" for kind in ("weight", "bias")),
)


def open_case(source: str) -> Case:
    return cases("clip", source).open("case_rn50.npz")


def pictures() -> torch.Tensor:
    return normalise(cases("clip", "compact").open("case_vitb16.npz").tensor("image_u8"))


@lru_cache(maxsize=1)
def build_model(*, rounded: bool) -> CLIP:
    state = cases("clip", "compact").weights(MANIFEST)
    if rounded:
        state = {
            key: value.half() if key.endswith(ROUNDED) else value for key, value in state.items()
        }
    return load_clip(state).eval()


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_resnet_manifest_fits_the_model(source: str) -> None:
    rows = cases("clip", source).json(MANIFEST)
    assert rows == cases("clip", "compact").json(MANIFEST)
    with torch.device("meta"):
        own = build_clip_resnet(RN50).state_dict()
        theirs = {key: torch.empty(row["shape"]) for key, row in rows.items()}
    assert {k: v.shape for k, v in from_openai(theirs).items()} == {
        k: v.shape for k, v in own.items()
    }
    assert {k: v.shape for k, v in to_openai(own).items()} == {
        k: v.shape for k, v in theirs.items()
    }


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_resnet_inputs(source: str) -> None:
    case, vit = open_case(source), cases("clip", source).open("case_vitb16.npz")
    for key in {"raw_0", "raw_1", "image_u8", "texts", "token_ids"} & case.keys():
        np.testing.assert_array_equal(case[key], vit[key])
    case.check("image", pictures()[:, :, ::4, ::4], absolute=1e-6)
    assert tokenize(list(case["texts"])).tolist() == case["token_ids"].tolist()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("rounded", [False, True], ids=["exact", "rounded"])
def test_clip_parity_resnet_features_and_logits(source: str, rounded: bool) -> None:
    case, model = open_case(source), build_model(rounded=rounded)
    ending = "_fp16_weights" if rounded else ""
    prompts = list(case["texts"])
    with torch.inference_mode():
        case.check(f"image_features{ending}", model.encode_images(pictures()).pooled)
        texts = model.encode_prompts(prompts)
        case.check(f"text_features{ending}", texts.pooled)
        case.check(f"logits_per_image{ending}", model(pictures(), prompts), absolute=2e-5)
    assert model.logit_scale.item() == pytest.approx(float(case["logit_scale"]), abs=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_clip_parity_resnet_text_tokens_padding_included(source: str) -> None:
    """A long prompt in the batch keeps the padding of the others from being cut off."""
    case = open_case(source)
    long_prompt = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    with torch.inference_mode():
        words = build_model(rounded=False).encode_prompts([*case["texts"], long_prompt]).words
    case.check("text_tokens_after_ln_final_sub", words[:3, :16, ::8])


def test_clip_parity_resnet_every_array_is_checked() -> None:
    checked = {
        *("raw_0", "raw_1", "image", "image_u8", "texts", "token_ids", "logit_scale", "pillow"),
        *("image_features", "text_features", "logits_per_image", "text_tokens_after_ln_final_sub"),
        *("image_features_fp16_weights", "text_features_fp16_weights"),
        "logits_per_image_fp16_weights",
    }
    assert set(open_case("compact")) <= checked
