"""The vision-language decoder: cells of the image read one another, then the words (section 3.2).

Letters: B pairs of an image and a sentence, N cells row by row, L words, D channels.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear, linear

POSITION_BASE = 10000.0


class Decoder(nn.Module):
    """Cross-attention layers with fixed sine positions for cells and words.

    Args:
        dim: channels of a cell and of a word; a multiple of 4.
        heads: of each attention.
        layers: how many.
        hidden: width inside the feed-forward networks.
        dropout: share of attention weights, hidden units and residuals left out in training;
            published is 0.1.
    """

    def __init__(
        self, *, dim: int, heads: int, layers: int, hidden: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim=dim, heads=heads, hidden=hidden, dropout=dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        cells: Float[Tensor, "B N D"],
        words: Float[Tensor, "B L D"],
        is_word: Bool[Tensor, "B L"],
        *,
        grid: tuple[int, int],
    ) -> Float[Tensor, "B N D"]:
        """The cells after all layers and a last norm; ``grid`` is their (height, width)."""
        cell_positions = grid_positions(grid, cells.shape[2]).to(cells)
        word_positions = sine_positions(words.shape[1], words.shape[2]).to(words)
        for layer in cast(Iterable[nn.Module], self.layers):
            cells = layer(cells, words, is_word, cell_positions, word_positions)
        return self.norm(cells)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward network, all residual (eq. 5 to 7).

    As published, the norms stand before *and* behind each attention, and a norm stands inside the
    feed-forward network.
    """

    def __init__(self, *, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm_before_self = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads, dropout=dropout, batch_first=True)
        self.norm_after_self = nn.LayerNorm(dim)
        self.norm_before_cross = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, heads, dropout=dropout, batch_first=True)
        self.norm_after_cross = nn.LayerNorm(dim)
        self.norm_before_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential()
        self.mlp.expand = Linear(dim, hidden)
        self.mlp.activation = nn.ReLU()
        self.mlp.dropout = nn.Dropout(dropout)
        self.mlp.norm = nn.LayerNorm(hidden)
        self.mlp.contract = Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        cells: Float[Tensor, "B N D"],
        words: Float[Tensor, "B L D"],
        is_word: Bool[Tensor, "B L"],
        cell_positions: Float[Tensor, "N D"],
        word_positions: Float[Tensor, "L D"],
    ) -> Float[Tensor, "B N D"]:
        """The cells after one layer; positions take part in queries and keys, not in values."""
        x = self.norm_before_self(cells)
        placed = x + cell_positions
        gathered = self.self_attention.gather(placed, placed, x)
        cells = cells + self.dropout(self.norm_after_self(gathered))
        placed = self.norm_before_cross(cells) + cell_positions
        gathered = self.cross_attention.gather(placed, words + word_positions, words, is_word)
        cells = cells + self.dropout(self.norm_after_cross(gathered))
        return cells + self.dropout(self.mlp(self.norm_before_mlp(cells)))


class Attention(nn.MultiheadAttention):
    """PyTorch's, whose projections outside training are those of ``layers/linear.py``."""

    def gather(
        self,
        queries: Float[Tensor, "B N D"],
        keys: Float[Tensor, "B L D"],
        values: Float[Tensor, "B L D"],
        is_word: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """What each query gathers from the places where ``is_word`` is True, or from all."""
        if torch.is_grad_enabled():
            hidden = None if is_word is None else ~is_word
            return self(queries, keys, values, key_padding_mask=hidden, need_weights=False)[0]
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            rearrange(linear(x, weight, bias), "B L (n c) -> B n L c", n=self.num_heads)
            for x, weight, bias in zip((queries, keys, values), weights, biases, strict=True)
        )
        mask = None if is_word is None else is_word[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        mixed = rearrange(mixed, "B n L c -> B L (n c)")
        return linear(mixed, self.out_proj.weight, self.out_proj.bias)


def sine_positions(length: int, dim: int) -> Float[Tensor, "L D"]:
    """Sine and cosine in turn (Vaswani et al., 2017, section 3.5), positions from 0."""
    rates = POSITION_BASE ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def grid_positions(grid: tuple[int, int], dim: int) -> Float[Tensor, "N D"]:
    """The first half of the channels tells the column, the second the row."""
    height, width = grid
    columns = sine_positions(width, dim // 2).repeat(height, 1)
    rows = sine_positions(height, dim // 2).repeat_interleave(width, dim=0)
    return torch.cat([columns, rows], dim=1)
