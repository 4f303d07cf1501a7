from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lexiseg
from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.clip import build_clip
from lexiseg.encoders.dinov2 import DINOv2
from lexiseg.encoders.dinov2_checkpoints import to_published
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS, read_encoder
from lexiseg.methods.base import Texts
from lexiseg.methods.freeda import FreeDA, FreeDAConfig, Prototypes, Rule, Superpixels
from lexiseg.methods.freeda.bank import BankKind, PrototypeBank, Record, write_bank
from lexiseg.methods.freeda.pamr import pixel_affinity, refine
from lexiseg.methods.freeda.protocols import published_superpixels
from lexiseg.methods.freeda.similarity import prototype_cosines
from lexiseg.weights import Weights, save_weights
from tests.methods.contract import (
    TINY_CLIP,
    TINY_DINO,
    prepared,
    tiny_bank,
    tiny_freeda,
    tiny_freeda_lite,
    tiny_lite,
)

LABELS = [["cat"], ["dog", "a hound"], ["grass"]]


def made(model: FreeDA, **changes: object) -> FreeDA:
    model.config = replace(model.config, **changes)
    return model.eval()


@torch.no_grad()
def scores(model: FreeDA, rule: str = "", background: float | None = None) -> torch.Tensor:
    texts = replace(model.encode_texts(LABELS), rule=rule, background=background)
    return model(prepared(model), texts)[0].sigmoid()


def test_a_text_is_the_mean_of_raw_sentences_and_of_prototypes() -> None:
    model = made(tiny_freeda(), k=2)
    texts = model.encode_texts(LABELS)
    raw = model.towers.read(["dog", "a hound"]).mean(dim=0)
    torch.testing.assert_close(texts.features[1], F.normalize(raw, dim=0))
    order = (model.bank.keys @ texts.features[1]).topk(2).indices
    torch.testing.assert_close(texts.prototypes[1, 0], model.bank.prototypes[order].mean(dim=0))


def test_sentences_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of labels in seven templates would not fit into memory at once."""
    model, lengths = tiny_freeda(), []
    expected = model.encode_texts(LABELS)
    whole = model.towers.read
    monkeypatch.setattr("lexiseg.encoders.base.PROMPTS_AT_ONCE", 3)
    monkeypatch.setattr(model.towers, "read", lambda part: lengths.append(len(part)) or whole(part))
    found = model.encode_texts(LABELS)
    assert lengths == [3, 1]
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=1e-5)


def test_scores_are_what_the_figure_says() -> None:
    """Without regions: 0.8 sigmoid of the cosine on the grid, 0.2 the cosine of the whole view."""
    model = made(tiny_freeda())
    model.rules = {"": Rule()}
    image = prepared(model)
    with torch.no_grad():
        texts = model.encode_texts(LABELS)
        places, whole = model.towers.see(image, squash=False)
        local = torch.einsum(
            "dhw,td->thw",
            F.normalize(places[0], dim=0),
            F.normalize(texts.prototypes[:, 0], dim=1),
        ).sigmoid()
        size = image.shape[-2:]
        fine = F.interpolate(local[None], size=size, mode="bilinear", align_corners=True)[0]
        view = F.cosine_similarity(whole, texts.features)
        expected = 0.8 * fine + 0.2 * view[:, None, None]
    torch.testing.assert_close(scores(model), expected)


def test_a_region_has_one_score() -> None:
    model = made(tiny_freeda())
    image = prepared(model)[0].byte().permute(1, 2, 0).numpy()
    regions = Superpixels().of(np.ascontiguousarray(image)).astype(int)
    found = scores(model)[0].numpy()
    for region in np.unique(regions):
        assert np.ptp(found[regions == region]) < 1e-6


@pytest.mark.parametrize("rule", ["published_only_dino", "published_after_ensemble"])
def test_pixels_that_are_none_of_the_texts(rule: str) -> None:
    model = made(tiny_freeda())
    plain = scores(model, rule)
    assert len(plain) == len(LABELS)
    for bar, share in ((0.0, 0.0), (1.0, 1.0)):
        found = scores(model, rule, background=bar)
        assert len(found) == len(LABELS) + 1
        torch.testing.assert_close(found[:-1], plain)
        assert (found.argmax(dim=0) == len(LABELS)).float().mean() == share


def test_none_rules_look_at_different_texts() -> None:
    """The view prefers a text whose local score is not the best one."""
    torch.manual_seed(0)
    model = made(tiny_freeda(), local_weight=0.05)
    model.rules = {"published_" + r: Rule(none_rule=r) for r in ("only_dino", "after_ensemble")}
    local = made(tiny_freeda(), local_weight=1.0)
    local.rules = {"": Rule()}
    local.towers = model.towers
    best = scores(local).amax(dim=0)
    bar = float(best.min()) - 1e-4
    assert scores(model, "published_only_dino", bar)[-1].max() < 0.5
    assert scores(model, "published_after_ensemble", bar)[-1].max() > 0.5


def test_refinement_comes_last() -> None:
    model = made(tiny_freeda())
    rough = scores(model)
    image = prepared(model)[0]
    expected = refine(rough, pixel_affinity(image), iterations=3)
    torch.testing.assert_close(scores(made(model, pamr=3)), expected)


def test_several_prototypes() -> None:
    prototypes = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])
    place = torch.tensor([[0.6, 0.8]])
    assert prototype_cosines(place, prototypes).item() == pytest.approx(0.8)
    mixed = prototype_cosines(place, prototypes, max_weight=0.7).item()
    assert mixed == pytest.approx(0.7 * 0.8 + 0.3 * 0.8 / 3)
    roots = prototype_cosines(place, prototypes, max_weight=0.7, mixing="geometric").item()
    assert roots == pytest.approx(0.8**0.7 * (0.8 / 3) ** 0.3)
    model = made(tiny_freeda(), each=True, k=4, max_weight=0.7)
    assert model.encode_texts(LABELS).prototypes.shape == (3, 4, 64)
    assert torch.isfinite(scores(model)).all()


def test_parts_are_loaded_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexiseg.registry, "builder_of", lambda name: tiny_freeda)
    torch.manual_seed(1)
    dino = to_published(DINOv2(TINY_DINO).state_dict())
    clip = clip_checkpoints.to_openai(build_clip(TINY_CLIP).state_dict())
    bank = tiny_bank(16, 64, rows=5)
    records = [Record("cat")] * 5
    write_bank(tmp_path / "bank", bank.keys, bank.prototypes, records, bank.kind)
    parts = {"dino": dino, "clip": clip, "bank": tmp_path / "bank"}
    model = lexiseg.create_model("freeda_vitb14", weights=parts)
    assert len(model.bank) == 5
    again = to_published(model.towers.dino.state_dict())
    assert all(torch.equal(again[key], value) for key, value in dino.items())
    fates = {(fate.part, fate.key): fate.places for fate in model.key_fates}
    assert set(fates) == {("dino", k) for k in dino} | {("clip", k) for k in clip}
    assert len(fates["dino", "blocks.0.attn.qkv.weight"]) == 3
    with pytest.raises(ValueError, match="takes 'dino' and 'clip' and 'bank'"):
        lexiseg.create_model("freeda_vitb14", weights={"lite": dino})
    with pytest.raises(ValueError, match="weights came for \\['sam'\\]"):
        lexiseg.create_model("freeda_vitb14", weights={"sam": dino})
    with pytest.raises(ValueError, match="no bank at"):
        lexiseg.create_model("freeda_vitb14", weights={"bank": tmp_path / "none"})
    with pytest.raises(ValueError, match="give its folder"):
        lexiseg.create_model("freeda_vitb14", weights={"bank": dino})


def test_a_bank_alone_goes_with_the_bundled_encoder(tmp_path: Path) -> None:
    bank = tiny_bank(256, 256, rows=5)
    records = [Record("cat")] * 5
    write_bank(tmp_path / "bank", bank.keys, bank.prototypes, records, bank.kind)
    model = lexiseg.create_model("freeda_lite", weights={"bank": tmp_path / "bank"})
    bundled = read_encoder(LITE_WEAK_WEIGHTS)
    state = model.towers.encoder.state_dict()
    assert all(torch.equal(state[key], value) for key, value in bundled.items())
    assert len(model.bank) == 5


def test_the_lite_part() -> None:
    model = tiny_freeda_lite()
    other = tiny_lite().state_dict()
    fates = model.initialise({"lite": other})
    assert all(fate.places == (f"towers.encoder.{fate.key}",) for fate in fates)
    assert torch.equal(model.towers.encoder.logit_scale, other["logit_scale"])


def test_a_record_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, other = tiny_bank(256, 256, rows=6), tiny_lite()
    write_bank(tmp_path / "bank", bank.keys, bank.prototypes, [Record("cat")] * 6, bank.kind)
    save_weights(tmp_path / "lite.safetensors", other.state_dict())
    facts = {"url": None, "sha256": None, "licence": "MIT", "origin": "tests", "paper": "none"}
    lite, rows = (Weights(**facts, asset=str(tmp_path / n)) for n in ("lite.safetensors", "bank"))
    record = Weights(**facts, asset=lite.asset, parts={"lite": lite, "bank": rows})
    built = tiny_freeda_lite()
    monkeypatch.setitem(lexiseg.registry._BUILDERS, "freeda_lite", lambda: built)
    monkeypatch.setattr(lexiseg.methods, "WEIGHTS", {"freeda_lite.tests": record})
    for name in ("freeda_lite.tests", "freeda_lite"):
        model = lexiseg.create_model(name)
        assert len(model.bank) == 6
        assert torch.equal(model.towers.encoder.logit_scale, other.logit_scale)


def test_what_cannot_be() -> None:
    model = tiny_freeda()
    texts = model.encode_texts(LABELS)
    with pytest.raises(TypeError, match="FreeDA needs prototypes too"):
        model(prepared(model), Texts(texts.features))
    with pytest.raises(ValueError, match="rule 'sideways'; this model has"):
        model(prepared(model), replace(texts, rule="sideways"))
    wrong = Prototypes(texts.features, prototypes=torch.ones(3, 1, 7))
    with pytest.raises(ValueError, match="7 channels, but this model's places 64"):
        model(prepared(model), wrong)
    model.bank = PrototypeBank(torch.ones(2, 5), torch.ones(2, 64), BankKind("a", "b", "c"))
    with pytest.raises(ValueError, match="16 channels, but the bank's keys 5"):
        model.encode_texts(LABELS)
    model.bank = None
    with pytest.raises(ValueError, match="this FreeDA has no prototypes"):
        model.encode_texts(LABELS)
    for wrong in ({"k": 0}, {"local_weight": 1.5}, {"max_weight": -0.1}, {"pamr": -1}):
        with pytest.raises(ValueError, match="came|are|is"):
            FreeDAConfig(**wrong)


def test_published_settings() -> None:
    with torch.device("meta"):
        model = lexiseg.registry.builder_of("freeda_vitl14")()
    assert (model.config.k, model.config.local_weight) == (350, 0.8)
    assert len(model.templates) == 7
    assert published_superpixels()["cityscapes19"] == Superpixels(20.0, 0.5, 50, "published")
    for name in ("published", "published_voc20", "published_stuff171", "published_cityscapes19"):
        way = model.protocols[name]
        assert (way.tiling.window, way.tiling.stride, way.authors) == (448, 224, "freeda")
        assert model.rules[way.rule].squash
    assert model.protocols["published"].thresholds["voc21"] == 0.4
    assert model.protocols["published_only_dino"].background_inside


def test_a_segmenter_with_a_background(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    model = tiny_freeda()
    for protocol in ("published_only_dino", "published"):
        segmenter = lexiseg.Segmenter(model, protocol=protocol, device="cpu")
        everything = segmenter(photo, ["cat", "dog"], background=0.999)
        assert (everything.label_map == 255).all()
        nothing = segmenter(photo, ["cat", "dog"], background=0.001)
        assert (nothing.label_map != 255).all()
