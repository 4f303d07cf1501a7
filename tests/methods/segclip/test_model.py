"""SegCLIP as a model: sizes, places, weights, protocols, views."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.methods.base import Texts
from lexiseg.methods.segclip import SegCLIP, SegCLIPConfig, build_segclip, segclip_protocols
from lexiseg.methods.segclip.checkpoints import from_published, to_published
from lexiseg.methods.segclip.model import TEMPLATES
from lexiseg.methods.segclip.scoring import region_scores
from lexiseg.segmenter import Segmenter
from lexiseg.weights import load_state
from tests.methods.contract import TINY_CLIP, encoded, make


def tiny(groups: int = 3, place: int = 2) -> SegCLIP:
    torch.manual_seed(0)
    config = SegCLIPConfig(groups=groups, place=place)
    model = build_segclip(TINY_CLIP, config, protocols=segclip_protocols(32, patch=8)).eval()
    with torch.no_grad():
        model.tower.grouping.centres.mul_(50)
    return model


def photo(height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_group_module_stands_anywhere(place: int) -> None:
    model = tiny(place=place)
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 24, 40), encoded(model))
    assert logits.shape == (2, 5, 3, 5)


def test_wrong_places_and_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="give 0 to 2"):
        tiny(place=3)
    with pytest.raises(ValueError, match="at least 1 group"):
        SegCLIPConfig(groups=0)
    with pytest.raises(ValueError, match="must be multiples of the patch, 8"):
        tiny()(torch.randn(1, 3, 20, 32), Texts(torch.eye(16)))
    with pytest.raises(TypeError, match="SegCLIP needs a GroupingTower"):
        SegCLIP(build_clip(TINY_CLIP), protocols=segclip_protocols(32))


def test_rules_are_checked() -> None:
    model, images = tiny(), torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match="choose 'published'"):
        model(images, replace(encoded(model), rule="publisht"))
    with pytest.raises(TypeError, match="give what SegCLIP's encode_texts made"):
        model(images, Texts(torch.eye(16), rule="published"))


def test_published_weights_come_back_under_their_names() -> None:
    state = tiny().state_dict()
    theirs = to_published(state, place=2)
    assert "clip.visual.transformer.layers0.1.ln_1.weight" in theirs
    assert "clip.visual.transformer.layers2.0.attn.in_proj_weight" in theirs
    again = from_published(theirs, place=2)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_what_only_training_needs_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny()
    theirs = to_published(model.state_dict(), place=2)
    theirs["vis_mae_decoder.decoder_pos_embed"] = torch.zeros(1, 17, 8)
    theirs["clip.visual.transformer.layers_mae2.0.ln_1.bias"] = torch.zeros(64)
    with caplog.at_level(logging.INFO):
        load_state(model, theirs, model.from_published)
    assert "2 entries that only training needs are left out" in caplog.text


def test_clip_starts_a_new_model() -> None:
    model, clip = tiny(), build_clip(TINY_CLIP)
    before = model.tower.grouping.centres.detach().clone()
    load_state(model, to_openai(clip.state_dict()), model.from_published)
    assert torch.equal(model.tower.grouping.centres, before)
    last = "blocks.2.mlp.expand.weight"
    assert torch.equal(model.tower.state_dict()[last], clip.visual.state_dict()[last])


def test_only_five_texts_count() -> None:
    model = tiny()
    texts = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    with torch.no_grad():
        seen = model.look(torch.randn(2, 3, 32, 32))
        scores = region_scores(seen, texts, model.scale)
        few = region_scores(seen, texts[:3], model.scale)
    assert (scores > 0).sum(dim=2).unique().tolist() == [5]
    assert (few > 0).all()


def test_every_window_keeps_something() -> None:
    model = tiny()
    texts = replace(encoded(model), rule="published", background=1.0)
    with torch.no_grad():
        maps = model(torch.randn(3, 3, 32, 48), texts)
    assert maps.shape == (3, 6, 32, 48)
    assert set(maps[:, -1].unique().tolist()) <= {0, 1}
    assert maps[:, :-1].max() < 1


@pytest.mark.parametrize("scores", [False, True])
def test_the_published_background(scores: bool) -> None:
    segmenter = Segmenter(tiny(), protocol="published", device="cpu")
    labels = ["cat", "dog", "sky"]
    free = segmenter(photo(), labels, scores=scores)
    strict = segmenter(photo(), labels, background=0.9, scores=scores)
    assert not (free.label_map == 255).any()
    nothing = strict.label_map == 255
    np.testing.assert_array_equal(strict.label_map[~nothing], free.label_map[~nothing])
    if scores:
        assert strict.scores is not None
        assert free.scores is not None
        assert strict.scores.shape == (3, 50, 70)
        np.testing.assert_allclose(free.scores.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose(free.scores.max(axis=0), free.confidence, atol=1e-6)


def test_logits_are_blended_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter(tiny(), protocol="published", device="cpu")
    labels = [f"label {n}" for n in range(7)]
    whole = segmenter(photo(), labels, scores=True)
    monkeypatch.setattr("lexiseg.winners._CHUNK_NUMBERS", 2 * 50 * 70)
    parts = segmenter(photo(), labels, scores=True)
    np.testing.assert_array_equal(parts.label_map, whole.label_map)
    np.testing.assert_allclose(parts.confidence, whole.confidence, atol=1e-6)
    assert parts.scores is not None
    assert whole.scores is not None
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)


@pytest.mark.parametrize("protocol", ["default", "published"])
@pytest.mark.parametrize("size", [(32, 400), (33, 31), (9, 7)])
def test_any_photograph(protocol: str, size: tuple[int, int]) -> None:
    result = Segmenter(tiny(), protocol=protocol, device="cpu")(photo(*size), ["cat", "dog"])
    assert result.label_map.shape == size


def test_prompts_count_by_their_length_as_published() -> None:
    model = tiny()
    texts = model.encode_texts([["a cat", "one cat"]])
    pooled = model.encoder.encode_prompts(["a cat", "one cat"]).pooled
    expected = torch.nn.functional.normalize(pooled.mean(dim=0), dim=0)
    torch.testing.assert_close(texts.averaged[0], expected)
    assert [len(TEMPLATES[name]) for name in ("simple", "subset", "full", "identity")] == [
        *(1, 7, 80, 1)
    ]


@pytest.mark.parametrize("name", ["segclip_vitb16", "segclip_lite"])
def test_which_patches_each_centre_takes(name: str, tmp_path: Path) -> None:
    model = make(name)
    explanation = Segmenter(model, device="cpu").explain(photo(), ["cat", "dog"])
    first, last = explanation.views[0], explanation.views[-1]
    count = model.config.groups
    assert first.regions == tuple(f"centre {n}" for n in range(1, count + 1))
    np.testing.assert_allclose(first.maps.sum(axis=0), 1, atol=1e-5)
    assert last.regions == ()
    assert explanation.plot(0, "centre 2").size == (70, 50)
    with pytest.raises(ValueError, match="there are centre 1"):
        explanation.plot(0, "cat")
    written = explanation.save(tmp_path)
    assert len(written) == count + 2 * (len(explanation.views) - 1)
    assert (tmp_path / "01_centre-1_01_patches.png") in written


def test_a_published_protocol_is_explained_without_windows() -> None:
    explanation = Segmenter(tiny(), protocol="published", device="cpu").explain(photo(), ["cat"])
    assert [view.name for view in explanation.views] == ["patches", "logits"]


def test_the_lite_head_starts_as_the_raw_cost() -> None:
    model = make("segclip_lite")
    texts, image = encoded(model), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        model.region_part.zero_()
        model.log_gain.zero_()
        found = model(image, texts)
        patches = model.encoder.encode_images(image).patch_features
        cost = torch.einsum(
            "bdhw,td->bthw", torch.nn.functional.normalize(patches, dim=1), texts.features
        )
    torch.testing.assert_close(found, model.encoder.logit_scale.exp() * cost, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        model.region_part.fill_(1.0)
        assert not torch.allclose(model(image, texts), found)
