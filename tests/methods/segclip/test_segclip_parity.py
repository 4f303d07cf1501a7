"""SegCLIP's evaluation against recordings of the authors' code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.encoders.tokenizer import tokenize
from lexiseg.methods.plain_resize import plain_resize
from lexiseg.methods.segclip.grouping import Groups
from lexiseg.methods.segclip.model import TEMPLATES, THRESHOLDS, RegionTexts
from lexiseg.methods.segclip.scoring import (
    pixel_groups,
    published_logits,
    region_likeness,
    region_scores,
    thresholds,
)
from lexiseg.methods.segclip.tower import RegionFeatures
from lexiseg.segmenter import Segmenter
from lexiseg.tiling import sliding_scores
from tests.methods.segclip.recordings import normalised, published_model, recording
from tests.parity import Case

TIGHT = 1e-5  # of the largest number; the recordings allow 1e-3


@pytest.mark.parametrize("name", ["eval_224", pytest.param("eval_448", marks=pytest.mark.slow)])
@torch.no_grad()
def test_segclip_parity_image_and_texts(name: str) -> None:
    """Every array on the way from pixels and words to the likeness of regions and texts."""
    case, model = recording(name, "full"), published_model()
    tower, checked = model.tower, set()

    def check(key: str, actual: Tensor, **bound: float) -> None:
        case.check(key, actual, **(bound or {"relative": TIGHT}))
        checked.add(key)

    image, rows = normalised(case, case["image_uint8"]), case["patch_rows"]
    embedded, grid = tower.embed(image)
    check("tokens_after_ln_pre", embedded[0, rows])
    check("cls_token_after_ln_pre", tower._embed(image, grid)[0, 0])
    tokens = embedded
    for number, block in enumerate(tower.blocks[:10]):
        tokens = block(tokens)
        if number in (0, 4, 9):
            check(f"block{number}_rows", tokens[0, rows[::4]])
    patches = tower.patches(embedded)
    check("patch_tokens", patches[0, rows])
    check("patch_tokens_mean", patches[0].mean(dim=0))
    queries = tower.grouping.centres[None]
    for number, layer in enumerate(tower.grouping.layers):
        queries = layer(queries, patches)
        check(f"cross{number}", queries[0])
    keys, values = tower.grouping.project(patches)
    check("keys_rows", keys[0, rows[::4]])
    check("values_rows", values[0, rows[::4]])
    groups = tower.grouping(patches)
    check("centres", groups.centres[0])
    check("map_logits", groups.logits[0])
    check("map_soft", groups.soft[0], absolute=1e-4)
    check("map_hard", groups.assignment[0], absolute=1e-5)
    check("region_tokens_in", groups.regions[0])
    check("layers2_0", tower.blocks[10](groups.regions)[0])
    check("region_tokens_out", tower.blocks[11](tower.blocks[10](groups.regions))[0])
    seen = model.look(image)
    check("region_features", seen.regions[0])
    check("image_feature", seen.image[0])
    check_texts(case, check)
    texts = encode(case["class_names"].tolist(), str(case["template"]))
    check("text_features", texts.averaged)
    check("logit_scale", model.scale)
    likeness = region_likeness(seen, texts.averaged, model.scale)[0]
    check("region_class_similarity", likeness)
    check("region_class_prob", likeness.softmax(dim=-1), absolute=1e-4)
    of_image = model.scale * F.normalize(seen.image, dim=-1) @ texts.averaged.T
    check("image_class_similarity", of_image[0])
    given = {"image_uint8", "mean", "std", "patch_rows", "class_names", "template", "text_tokens"}
    assert set(case) == checked | given


def check_texts(case: Case, check: object) -> None:
    tokens, recorded = case["text_tokens"], case["text_features_per_prompt"]
    names, template = case["class_names"].tolist(), str(case["template"])
    prompts = [prompt for of_label in prompts_of(names, template) for prompt in of_label]
    np.testing.assert_array_equal(tokenize(prompts), tokens.reshape(-1, 77))
    features = published_model().encoder.encode_prompts(prompts).pooled
    check("text_features_per_prompt", features.reshape(recorded.shape))  # type: ignore[operator]


def prompts_of(names: list[str], template: str) -> list[list[str]]:
    return [[each.format(name) for each in TEMPLATES[template]] for name in names]


def encode(names: list[str], template: str) -> RegionTexts:
    return published_model().encode_texts(prompts_of(names, template))


@pytest.mark.parametrize("name", ["seg_voc", "seg_voc_lowthr", "seg_voc_nobg"])
@torch.no_grad()
def test_segclip_parity_windows_and_labels(name: str) -> None:
    case, model = recording(name, "full"), published_model()
    background = float(case["bg_thresh"]) if case["with_background"] else None
    names = case["class_names"].tolist()[background is not None :]
    texts = encode(names, "simple")
    case.check("text_embedding", texts.averaged, relative=TIGHT)
    image = normalised(case, case["resized_rgb_uint8"])
    seen = model.look(torch.cat([image[..., :224], image[..., -224:]]))
    case.check("window_map_soft", seen.groups.soft, absolute=1e-4)
    case.check("window_map_hard", seen.groups.assignment.round(), absolute=0)
    case.check("window_region_features", F.normalize(seen.regions, dim=-1), relative=TIGHT)
    of_image = F.normalize(seen.image, dim=-1)
    case.check("window_image_feature", of_image[:, None], relative=TIGHT)
    likeness = model.scale * of_image @ texts.averaged.T
    case.check("window_image_prob", likeness.softmax(dim=-1)[:, None], absolute=1e-4)
    check_scores(case, seen, texts.averaged)
    asked = replace(texts, rule="published", background=background)
    protocol = model.protocols["published"]
    assert protocol.tiling is not None
    blended = sliding_scores(
        lambda views: model(views, asked), image, protocol.tiling, activation=None
    )[0]
    maps = in_their_order(blended, background)
    case.check("logits_resized_input", maps[:, ::2, ::2], absolute=2e-3)
    size = (int(case["ori_shape"][0]), int(case["ori_shape"][1]))
    full = protocol.preprocess.restore(blended, size)
    full = in_their_order(full, background)
    case.check("logits_original", full[:, ::4, ::4], absolute=2e-3)
    np.testing.assert_array_equal(full.argmax(dim=0), case["label_map"])
    if "label_margin" in case:
        best = full.softmax(dim=0).topk(2, dim=0).values
        case.check("label_margin", best[0] - best[1], absolute=1e-3)


def check_scores(case: Case, seen: RegionFeatures, texts: Tensor) -> None:
    scale = published_model().scale if "logit_scale" not in case else case.tensor("logit_scale")
    scores = region_scores(seen, texts, scale)
    case.check("window_region_score", scores, absolute=1e-4)
    likeness = region_likeness(seen, texts, scale)
    case.check("window_region_prob_all", likeness.softmax(dim=-1), absolute=1e-4)
    np.testing.assert_array_equal((scores > 0).all(dim=1), case["window_top5_mask"][:, 0])
    np.testing.assert_array_equal(pixel_groups(seen, (224, 224)), case["window_pixel_group"])
    if case["with_background"]:
        bars = thresholds(scores, float(case["bg_thresh"]))
        np.testing.assert_allclose(bars, case["window_threshold"], rtol=1e-4)


def in_their_order(maps: Tensor, background: float | None) -> Tensor:
    """The authors' background is the first map."""
    return maps if background is None else torch.cat([maps[-1:], maps[:-1]])


@pytest.mark.parametrize("name", ["seg_voc", "seg_voc_nobg"])
@torch.no_grad()
def test_segclip_parity_photograph_to_label_map(name: str) -> None:
    """The whole way through the library, from the photograph as it was decoded."""
    case, model = recording(name, "full"), published_model()
    resized = plain_resize(case["photo_rgb_uint8"], case["resized_rgb_uint8"].shape[:2])
    np.testing.assert_array_equal(resized, case["resized_rgb_uint8"])
    segmenter = Segmenter(model, protocol="published", device="cpu")
    has_background = bool(case["with_background"])
    result = segmenter(
        case["photo_rgb_uint8"],
        case["class_names"].tolist()[has_background:],
        background=THRESHOLDS["voc21"] if has_background else None,
    )
    ours = result.label_map.astype(int)
    if has_background:
        ours = np.where(ours == 255, 0, ours + 1)
    np.testing.assert_array_equal(ours, case["label_map"])


@torch.no_grad()
def test_segclip_parity_scores_and_background() -> None:
    """From the recorded regions of two windows to the label map, without a model."""
    case = recording("seg_voc_lowthr", "compact")
    soft = case.tensor("window_map_soft").clamp(min=1e-30)
    nothing = torch.zeros(2, 8, 1)
    seen = RegionFeatures(
        image=case.tensor("window_image_feature")[:, 0],
        regions=case.tensor("window_region_features"),
        groups=Groups(nothing, soft.log(), soft, nothing),
        grid=(14, 14),
    )
    texts, scale = case.tensor("text_embedding"), case.tensor("logit_scale")
    bar = float(case["bg_thresh"])
    bars = thresholds(region_scores(seen, texts, scale), bar)
    np.testing.assert_allclose(bars, case["window_threshold"], rtol=1e-4)
    windows = published_logits(seen, texts, scale, (224, 224), bar)
    total, count = torch.zeros(21, 224, 306), torch.zeros(224, 306)
    for left, window in zip((0, 82), windows, strict=True):
        total[:, :, left : left + 224] += window
        count[:, left : left + 224] += 1
    full = F.interpolate((total / count)[None], size=tuple(case["ori_shape"]), mode="bilinear")[0]
    np.testing.assert_array_equal(in_their_order(full, bar).argmax(dim=0), case["label_map"])
