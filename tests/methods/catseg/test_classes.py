"""The folded linear attention against the one that writes every padding token out."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from lexiseg.methods.catseg.classes import ClassAggregation

HIDDEN, HEADS = 8, 2


def make(padding_length: int | None) -> ClassAggregation:
    torch.manual_seed(0)
    layer = ClassAggregation(hidden=HIDDEN, heads=HEADS, padding_length=padding_length)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def written_out(
    layer: ClassAggregation, x: torch.Tensor, guidance: torch.Tensor, pooling: int
) -> torch.Tensor:
    """The layer as the paper's code has it: pad, attend, crop, enlarge."""
    batch, texts, height, width, _ = x.shape
    pooled = F.avg_pool2d(rearrange(x, "b t h w c -> (b t) c h w"), pooling, ceil_mode=True)
    grid = pooled.shape[-2:]
    pooled = rearrange(pooled, "(b t) c h w -> (b h w) t c", b=batch)
    cells = len(pooled)
    missing = layer.padding_length - texts
    if missing > 0:
        tokens = layer.padding_tokens.expand(cells, missing, -1)
        pooled = torch.cat([pooled, tokens], dim=1)
        guidance = torch.cat([guidance, layer.padding_guidance[0].expand(missing, -1)])
    normed = layer.norm1(pooled)
    guided = torch.cat([normed, guidance.expand(cells, -1, -1)], dim=-1)
    tokens = {"q": layer.q(guided), "k": layer.k(guided), "v": layer.v(normed)}
    q, k, v = (rearrange(t, "s l (n c) -> s n l c", n=HEADS) for t in tokens.values())
    q, k = F.elu(q) + 1, F.elu(k) + 1
    mixed = q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(dim=2)[..., None] + 1e-6)
    z = pooled + rearrange(mixed, "s n l c -> s l (n c)")
    z = (z + layer.mlp(layer.norm2(z)))[:, :texts]
    z = rearrange(z, "(b h w) t c -> (b t) c h w", b=batch, h=grid[0])
    z = F.interpolate(z, (height, width), mode="bilinear", align_corners=True)
    return x + rearrange(z, "(b t) c h w -> b t h w c", b=batch)


@pytest.mark.parametrize("padding_length", [None, 4, 5, 16])
@pytest.mark.parametrize(("pooling", "size"), [(1, (3, 4)), (2, (4, 6)), (2, (5, 3)), (2, (1, 1))])
def test_padding_is_folded_exactly(
    padding_length: int | None, pooling: int, size: tuple[int, int]
) -> None:
    layer = make(padding_length)
    x, guidance = torch.randn(2, 5, *size, HIDDEN), torch.randn(5, HIDDEN)
    expected = written_out(layer, x, guidance, pooling)
    torch.testing.assert_close(layer(x, guidance, pooling=pooling), expected)


@pytest.mark.parametrize("chunk", [1, 2, 4, 7])
@pytest.mark.parametrize("pooling", [1, 2])
def test_class_chunks_change_nothing(chunk: int, pooling: int) -> None:
    layer = make(16)
    x, guidance = torch.randn(2, 7, 4, 6, HIDDEN), torch.randn(7, HIDDEN)
    whole = layer(x, guidance, pooling=pooling)
    torch.testing.assert_close(layer(x, guidance, pooling=pooling, class_chunk=chunk), whole)


def test_text_order_is_only_an_order() -> None:
    layer = make(16)
    x, guidance = torch.randn(2, 7, 4, 6, HIDDEN), torch.randn(7, HIDDEN)
    order = torch.randperm(7)
    torch.testing.assert_close(layer(x[:, order], guidance[order]), layer(x, guidance)[:, order])


def test_without_padding_there_is_no_token() -> None:
    assert not [name for name in make(None).state_dict() if "padding" in name]
