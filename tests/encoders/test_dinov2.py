from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lexiseg.encoders.dinov2 import IMAGENET_MEAN, IMAGENET_STD, DINOv2, DINOv2Config
from lexiseg.encoders.dinov2_checkpoints import (
    DINOV2,
    from_published,
    infer_config,
    load_dinov2,
    to_published,
)
from tests.parity import SOURCES, cases

TINY = DINOv2Config(width=64, layers=2, image_size=56)
MANIFEST = "manifest_dinov2_vitb14.json"


def tiny(**changes: object) -> DINOv2:
    torch.manual_seed(0)
    return DINOv2(DINOv2Config(width=64, layers=2, image_size=56, **changes)).eval()


@lru_cache(maxsize=1)
def published() -> DINOv2:
    return load_dinov2(cases("freeda", "compact").weights(MANIFEST)).eval()


@lru_cache(maxsize=3)
def seen(size: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The recorded photograph as it went in, and what is compared of what came out."""
    photo = cases("freeda", "compact").open("superpixels.npz").tensor("image_rgb")
    pixels = rearrange(photo, "H W C -> 1 C H W").float()
    if size == "518":
        pixels = F.interpolate(pixels, size=(518, 518), mode="bilinear")
    elif size == "25x32":
        pixels = pixels[:, :, 49:399]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    images = (pixels - mean) / std
    with torch.inference_mode():
        out = published()(images, intermediates=range(12) if size == "518" else ())
    return images, {
        "cls": out.class_feature[0],
        "patches": rearrange(out.patch_features[0], "C h w -> h w C"),
        "means": torch.stack([tokens.mean(dim=(0, 1)) for tokens in out.intermediates])
        if out.intermediates
        else torch.empty(0),
    }


@pytest.mark.parametrize("source", SOURCES)
def test_dinov2_parity_at_518(source: str) -> None:
    case = cases("freeda", source).open("dinov2_vitb14.npz")
    images, found = seen("518")
    case.check("input_sub", images[..., ::14, ::14], absolute=1e-5)
    case.check("block_token_means", found["means"], absolute=1e-4)
    case.check("cls", found["cls"], absolute=1e-4)
    case.check("patch_grid_sub4", found["patches"][::4, ::4], absolute=1e-4)
    case.check("patch_all_ch32", found["patches"][..., ::32], absolute=1e-4)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", ["32x32", "25x32"])
def test_dinov2_parity_at_other_sizes(size: str, source: str) -> None:
    case = cases("freeda", source).open("dinov2_vitb14.npz")
    grid = tuple(map(int, size.split("x")))
    positions = published().positions(grid)[0, 1:].unflatten(0, grid)
    case.check(f"pos_{size}_ch16", positions[..., ::16], absolute=1e-5)
    _, found = seen(size)
    case.check(f"native_{size}_cls", found["cls"], absolute=1e-4)
    case.check(f"native_{size}_patch_sub4", found["patches"][::4, ::4], absolute=1e-4)


@pytest.mark.parametrize("source", SOURCES)
def test_dinov2_parity_keys(source: str) -> None:
    rows = cases("freeda", source).json(MANIFEST)
    theirs = to_published(published().state_dict())
    assert {key: list(value.shape) for key, value in theirs.items()} == {
        key: row["shape"] for key, row in rows.items()
    }


@pytest.mark.parametrize("changes", [{}, {"registers": 4}, {"gated": True, "registers": 4}])
def test_official_keys_there_and_back(changes: dict[str, object]) -> None:
    model = tiny(**changes)
    theirs = to_published(model.state_dict())
    assert ("register_tokens" in theirs) == ("registers" in changes)
    assert ("blocks.0.mlp.w12.weight" in theirs) == ("gated" in changes)
    assert infer_config(from_published(theirs)) == model.config
    again = load_dinov2(theirs).eval()
    images = torch.randn(1, 3, 42, 28)
    assert torch.equal(again(images).patch_features, model(images).patch_features)


def test_wrong_weights_are_told() -> None:
    state = to_published(tiny().state_dict())
    del state["norm.weight"]
    with pytest.raises(ValueError, match=r"1 missing: norm.weight"):
        load_dinov2(state)
    with pytest.raises(ValueError, match="official DINOv2 file"):
        load_dinov2({"a": torch.zeros(1)})
    assert all(record.sha256 is None for record in DINOV2.values())
    assert DINOV2["dinov2_vitl14_reg"].url.endswith("dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth")


@pytest.mark.parametrize("changes", [{}, {"registers": 4}])
def test_what_comes_out(changes: dict[str, object]) -> None:
    model = tiny(**changes)
    images = torch.randn(2, 3, 28, 70)
    out = model(images, intermediates=(1, 0))
    assert out.patch_features.shape == out.keys.shape == (2, 64, 2, 5)
    assert out.intermediates[0].shape == (2, 1 + len(changes) * 4 + 10, 64)
    last = out.intermediates[0]
    assert torch.equal(model.norm(last)[:, 0], out.class_feature)
    alone = model(images[:1], intermediates=(0,))
    torch.testing.assert_close(alone.patch_features, out.patch_features[:1])
    entered = alone.intermediates[0]
    block = model.blocks[1]
    qkv = block.attention.keys(block.norm1(entered))
    first = 1 + 4 * len(changes)
    torch.testing.assert_close(rearrange(qkv[0, first:], "(h w) C -> C h w", h=2), out.keys[0])


def test_registers_change_how_positions_are_resized() -> None:
    plain, with_registers = tiny(), tiny(registers=4)
    with torch.no_grad():
        with_registers.position_embedding.copy_(plain.position_embedding)
    square = plain.position_embedding[0, 1:].unflatten(0, (4, 4)).permute(2, 0, 1)[None]
    smooth = F.interpolate(square, size=(2, 3), mode="bicubic", antialias=True)
    found = with_registers.positions((2, 3))[0, 1:]
    torch.testing.assert_close(found, smooth[0].flatten(1).T)
    assert not np.allclose(
        plain.positions((2, 3)).detach(), with_registers.positions((2, 3)).detach()
    )
    assert plain.positions((4, 4)) is plain.position_embedding


def test_sizes_and_layers_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="resize or pad them to 28 x 42"):
        tiny()(torch.zeros(1, 3, 20, 30))
    with pytest.raises(ValueError, match="choose from 0 to 1"):
        tiny()(torch.zeros(1, 3, 14, 14), intermediates=(2,))
