"""The Swin pair against dense attention with everything that is out of reach struck out."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from lexiseg.layers.swin import (
    OTHER_REGION,
    SpatialAggregation,
    WindowAttention,
    window_mask,
)

HIDDEN, HEADS, WINDOW, GUIDANCE = 8, 2, 4, 6


def reach(height: int, width: int, shift: int) -> torch.Tensor:
    """Who may look at whom: same window, and the same side of where the shift wrapped around."""
    groups = []
    for side in (height, width):
        padded = side + -side % WINDOW
        step = shift if padded > WINDOW else 0
        position = (torch.arange(side) - step) % padded
        groups.append(2 * (position // WINDOW) + (position >= padded - step))
    group = 100 * groups[0][:, None] + groups[1][None, :]
    return group.flatten()[:, None] == group.flatten()[None, :]


def dense_attention(
    attention: WindowAttention, x: torch.Tensor, guidance: torch.Tensor, shift: int
) -> torch.Tensor:
    guided = torch.cat([x, guidance[:, None].expand(-1, x.shape[1], -1, -1, -1)], dim=-1)
    tokens = {"q": attention.q(guided), "k": attention.k(guided), "v": attention.v(x)}
    q, k, v = (rearrange(t, "b t h w (n c) -> b t n (h w) c", n=HEADS) for t in tokens.values())
    weights = q @ k.transpose(-1, -2) * (HIDDEN // HEADS) ** -0.5
    allowed = reach(x.shape[2], x.shape[3], shift)
    weights = weights.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
    mixed = rearrange(weights @ v, "b t n (h w) c -> b t h w (n c)", h=x.shape[2])
    return attention.proj(mixed)


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (10, 13), (3, 9), (5, 4), (1, 1)])
@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_is_dense_attention_within_reach(
    size: tuple[int, int], shift: int
) -> None:
    torch.manual_seed(0)
    attention = WindowAttention(
        hidden=HIDDEN, heads=HEADS, window=WINDOW, guidance=GUIDANCE, shift=shift
    )
    x, guidance = torch.randn(2, 3, *size, HIDDEN), torch.randn(2, *size, GUIDANCE)
    ours = attention(x, attention.project_guidance(guidance))
    torch.testing.assert_close(ours, dense_attention(attention, x, guidance, shift))


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_class_chunks_change_nothing(chunk: int) -> None:
    torch.manual_seed(0)
    block = SpatialAggregation(hidden=HIDDEN, heads=HEADS, window=WINDOW)
    x, guidance = torch.randn(2, 5, 6, 7, HIDDEN), torch.randn(2, 6, 7, HIDDEN)
    torch.testing.assert_close(block(x, guidance, class_chunk=chunk), block(x, guidance))


def test_published_mask() -> None:
    mask = window_mask((24, 24), 12, (6, 6))
    assert mask is not None
    assert mask.shape == (4, 144, 144)
    assert set(mask.unique().tolist()) == {OTHER_REGION, 0.0}
    # The first window lies inside, the second and third are halved, the last is quartered.
    shares = [(window == 0).float().mean().item() for window in mask]
    assert shares == [1.0, 0.5, 0.5, 0.25]


def test_no_mask_where_nothing_is_hidden() -> None:
    assert window_mask((24, 12), 12, (0, 0)) is None


def test_padding_leaves_gradients_finite() -> None:
    block = SpatialAggregation(hidden=HIDDEN, heads=HEADS, window=WINDOW)
    x = torch.randn(1, 1, 9, 5, HIDDEN, requires_grad=True)
    block(x, torch.randn(1, 9, 5, HIDDEN)).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert F.normalize(x.grad.flatten(), dim=0).norm() > 0
