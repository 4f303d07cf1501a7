"""What every registered model passes, whichever its method; see test_contract.py.

A heavy model is stood in for by the same method on a tiny encoder, made in ``TINY``; any other is
built as it is registered.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.encoders.clip import CLIPConfig, CLIPResNetConfig, build_clip, build_clip_resnet
from lexiseg.encoders.dinov2 import DINOv2, DINOv2Config
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol, SegmentationModel, Texts
from lexiseg.methods.catseg import CATSeg, CATSegConfig, clip_protocols
from lexiseg.methods.cris import CRIS, CRISConfig, CRISLite, CRISLiteConfig, cris_protocols
from lexiseg.methods.escnet import ESCNet, ESCNetConfig, escnet_protocols
from lexiseg.methods.freeda import FreeDA, FreeDAConfig, freeda_protocols, freeda_rules
from lexiseg.methods.freeda.bank import BankKind, PrototypeBank
from lexiseg.methods.freeda.towers import OneTower, TwoTowers
from lexiseg.methods.maskclip import MaskCLIP
from lexiseg.methods.segclip import (
    SegCLIP,
    SegCLIPConfig,
    SegCLIPLite,
    SegCLIPLiteConfig,
    build_segclip,
    segclip_protocols,
)
from lexiseg.registry import builder_of
from lexiseg.tiling import activate, sliding_scores
from lexiseg.weights import load_state, read_weights, save_weights

LABELS = ("cat", "dog", "grass", "bright blue sky", "sofa")

TINY_CLIP = CLIPConfig(
    dim=16,
    image_size=32,
    patch_size=8,
    vision_width=64,
    vision_layers=3,
    text_width=64,
    text_layers=1,
)
TINY_CATSEG = CATSegConfig(
    intermediates=(0, 1),
    guidance_widths=(64, 64),
    guidance_maps=(8, 4),
    guidance_projected=(4, 4),
    hidden=16,
    heads=2,
    window=4,
    decoder_widths=(16, 16),
    padding_length=8,
)


TINY_CLIP_RESNET = CLIPResNetConfig(
    dim=16, image_size=64, vision_width=8, vision_layers=(1, 1, 1, 1), text_width=64, text_layers=1
)
TINY_CRIS = CRISConfig(
    image_widths=(64, 128, 16),
    neck_widths=(16, 64, 32),
    state_width=16,
    layers=1,
    heads=2,
    hidden=64,
)


def tiny_cris(config: CRISConfig = TINY_CRIS) -> CRIS:
    encoder = build_clip_resnet(TINY_CLIP_RESNET, dense="spatial")
    return CRIS(encoder, config, protocols=cris_protocols(64), class_chunk=2)


def tiny_cris_lite(**changes: object) -> CRISLite:
    sizes = {"neck_widths": (8, 16, 16), "layers": 1, "heads": 2, "hidden": 16}
    return CRISLite(tiny_lite(), CRISLiteConfig(**sizes | changes), protocols=LITE_PROTOCOLS)


def tiny_catseg(config: CATSegConfig = TINY_CATSEG) -> CATSeg:
    protocols = clip_protocols(32, patch=8)
    return CATSeg(build_clip(TINY_CLIP, dense="catseg"), config, protocols=protocols)


TINY_ESCNET = ESCNetConfig(
    intermediates=(0, 1),
    guidance_widths=(64, 64),
    guidance_projected=(4, 4),
    decoder_widths=(16, 16),
    blocks=2,
    sam_width=32,
    sam_heads=4,
    sam_hidden=64,
    hidden=16,
    heads=2,
    window=4,
)


def tiny_escnet(config: ESCNetConfig = TINY_ESCNET) -> ESCNet:
    protocols = escnet_protocols(32, patch=8)
    return ESCNet(build_clip(TINY_CLIP, dense="catseg"), config, protocols=protocols)


def tiny_segclip() -> SegCLIP:
    config = SegCLIPConfig(groups=3, place=2)
    return build_segclip(TINY_CLIP, config, protocols=segclip_protocols(32, patch=8))


def tiny_maskclip() -> MaskCLIP:
    preprocess = Preprocess(mean=(120.0,) * 3, std=(60.0,) * 3, shorter=32, multiple=8)
    encoder = build_clip(TINY_CLIP, dense="value")
    return MaskCLIP(encoder, protocols={"default": Protocol(preprocess)})


TINY_DINO = DINOv2Config(width=64, layers=2, image_size=56)


def tiny_bank(key_width: int, prototype_width: int, rows: int = 40) -> PrototypeBank:
    """The same rows each time."""
    noise = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(rows, key_width, generator=noise), dim=1)
    prototypes = torch.randn(rows, prototype_width, generator=noise)
    return PrototypeBank(keys, prototypes, BankKind("tiny", "tiny", "none"))


def tiny_freeda() -> FreeDA:
    return FreeDA(
        TwoTowers(DINOv2(TINY_DINO), build_clip(TINY_CLIP), dino_size=56, clip_size=32),
        FreeDAConfig(k=3),
        protocols=freeda_protocols(56, window=56),
        rules=freeda_rules(),
        bank=tiny_bank(16, 64),
        templates=("{}", "a photo of a {}."),
    )


LITE_PROTOCOLS = {"default": Protocol(LITE_PREPROCESS)}


def tiny_lite() -> Lite:
    return Lite(text=MiniLM(MiniLMConfig(layers=1)))


def tiny_maskclip_lite() -> MaskCLIP:
    return MaskCLIP(tiny_lite(), protocols=LITE_PROTOCOLS, templates=("{}",))


def tiny_catseg_lite() -> CATSeg:
    with torch.device("meta"):
        full = builder_of("catseg_lite")()
    return CATSeg(tiny_lite(), full.config, protocols=full.protocols, templates=("{}",))


def tiny_escnet_lite() -> ESCNet:
    with torch.device("meta"):
        full = builder_of("escnet_lite")()
    return ESCNet(tiny_lite(), full.config, protocols=full.protocols, templates=("{}",))


def tiny_segclip_lite(**changes: int) -> SegCLIPLite:
    return SegCLIPLite(tiny_lite(), SegCLIPLiteConfig(**changes), protocols=LITE_PROTOCOLS)


def tiny_freeda_lite() -> FreeDA:
    with torch.device("meta"):
        full = builder_of("freeda_lite")()
    towers = OneTower(tiny_lite(), colours=full.towers.colours)
    return FreeDA(
        towers,
        full.config,
        protocols=full.protocols,
        rules=full.rules,
        bank=tiny_bank(256, 256),
    )


TINY: dict[str, Callable[[], SegmentationModel]] = {
    "catseg_lite": tiny_catseg_lite,
    "catseg_vitb16": tiny_catseg,
    "catseg_vitl14": tiny_catseg,
    "cris_lite": tiny_cris_lite,
    "cris_r101": tiny_cris,
    "cris_r50": tiny_cris,
    "escnet_lite": tiny_escnet_lite,
    "escnet_vitb16": tiny_escnet,
    "escnet_vitl14": tiny_escnet,
    "freeda_lite": tiny_freeda_lite,
    "freeda_vitb14": tiny_freeda,
    "freeda_vitl14": tiny_freeda,
    "maskclip_lite": tiny_maskclip_lite,
    "maskclip_vitb16": tiny_maskclip,
    "segclip_lite": tiny_segclip_lite,
    "segclip_vitb16": tiny_segclip,
}


def make(name: str, seed: int = 0) -> SegmentationModel:
    """The model of that name or its tiny stand-in, in evaluation mode, no parameter left at 0."""
    torch.manual_seed(seed)
    model = TINY.get(name, builder_of(name))().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def prepared(model: SegmentationModel, height: int = 41, width: int = 67) -> torch.Tensor:
    """One image of noise as the model wants it."""
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    return model.preprocess(noise.astype(np.uint8))[None]


def encoded(model: SegmentationModel, labels: tuple[str, ...] = LABELS) -> Texts:
    prompts = [[template.format(label) for template in model.templates] for label in labels]
    with torch.no_grad():
        return model.encode_texts(prompts)


def run(model: SegmentationModel, images: torch.Tensor, texts: Texts) -> torch.Tensor:
    with torch.no_grad():
        return model(images, texts)


def check_shapes(model: SegmentationModel) -> None:
    images, texts = prepared(model), encoded(model)
    logits = run(model, images, texts)
    assert logits.shape[:2] == (1, len(LABELS))
    assert torch.isfinite(logits).all()
    scores = activate(logits, model.activation)
    assert 0 <= scores.min() <= scores.max() <= 1
    assert model.preprocess.restore(scores[0], (41, 67)).shape == (len(LABELS), 41, 67)
    assert run(model, images, encoded(model, ("cat",))).shape[:2] == (1, 1)


def check_odd_sizes(model: SegmentationModel) -> None:
    texts = encoded(model)
    for height, width in [(37, 201), (203, 40), (64, 64), (5, 6)]:
        logits = run(model, prepared(model, height, width), texts)
        assert torch.isfinite(logits).all()


def check_batch_is_loop(model: SegmentationModel) -> None:
    texts = encoded(model)
    images = torch.cat([prepared(model), prepared(model).flip(-1), prepared(model) * 0.5])
    loop = torch.cat([run(model, image[None], texts) for image in images])
    torch.testing.assert_close(run(model, images, texts), loop, atol=1e-4, rtol=1e-4)


def check_text_order(model: SegmentationModel) -> None:
    """Permuted texts give permuted maps, from the labels on."""
    images, order = prepared(model), [3, 0, 4, 1, 2]
    shuffled = run(model, images, encoded(model, tuple(LABELS[i] for i in order)))
    straight = run(model, images, encoded(model))
    torch.testing.assert_close(shuffled, straight[:, order], atol=1e-4, rtol=1e-4)


def check_class_chunks(model: SegmentationModel) -> None:
    if not hasattr(model, "class_chunk"):
        return
    images, texts = prepared(model), encoded(model)
    model.class_chunk = None
    whole = run(model, images, texts)
    for chunk in (1, 2, 5, 64):
        model.class_chunk = chunk
        torch.testing.assert_close(run(model, images, texts), whole, atol=1e-4, rtol=1e-4)


def check_prompts(model: SegmentationModel) -> None:
    """A label may have any number of prompts; one vector of length one comes of them."""
    texts = model.encode_texts([["a cat", "one cat", "a feline"], ["a dog"]])
    torch.testing.assert_close(texts.features.norm(dim=-1), torch.ones(2))
    with pytest.raises(ValueError, match="at least one prompt for each"):
        model.encode_texts([["a cat"], []])
    with pytest.raises(ValueError, match="at least one label"):
        model.encode_texts([])


def check_protocols(model: SegmentationModel) -> None:
    assert "default" in model.protocols
    image = np.random.default_rng(0).integers(0, 256, (41, 67, 3)).astype(np.uint8)
    texts = encoded(model, LABELS[:2])
    for protocol in model.protocols.values():
        views = protocol.preprocess(image)[None]
        if protocol.tiling is None:
            scores = activate(run(model, views, texts), model.activation)
        else:
            scores = sliding_scores(
                lambda views: run(model, views, texts),
                views,
                protocol.tiling,
                activation=model.activation,
            )
        restored = protocol.preprocess.restore(scores[0], (41, 67))
        assert restored.shape == (2, 41, 67)
        assert 0 <= restored.min() <= restored.max() <= 1


def check_save_and_load(model: SegmentationModel, again: SegmentationModel, folder: Path) -> None:
    images, texts = prepared(model), encoded(model)
    save_weights(folder / "model.safetensors", model.state_dict())
    state = again.from_published(read_weights(folder / "model.safetensors"))
    load_state(again, state)
    assert torch.equal(encoded(again).features, texts.features)
    assert torch.equal(run(again, images, texts), run(model, images, texts))


def check_gradients(model: SegmentationModel) -> None:
    """Whatever is to be trained gets a finite gradient, through images and texts."""
    texts = model.encode_texts([["a cat"], ["a dog"]])
    model(prepared(model), texts).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def check_training_mode(model: SegmentationModel) -> None:
    """The forward pass returns the same kind of thing in training."""
    images, texts = prepared(model), encoded(model)
    expected = run(model, images, texts).shape
    assert run(model.train(), images, texts).shape == expected
