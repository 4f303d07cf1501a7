"""Blocks that several networks are built of."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.attention import SelfAttention
from lexiseg.layers.linear import Linear, Pointwise

Activation = Literal["quick_gelu", "gelu"]


class QuickGELU(nn.Module):
    """The approximation x * sigmoid(1.702 x) of GELU (Hendrycks & Gimpel, 2016, section 2)."""

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The activation of each number."""
        return features * torch.sigmoid(1.702 * features)


class MLP(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        dim: channels of a token, going in and coming out.
        hidden: channels between the two layers.
        activation: published CLIP weights differ in it, and their tensors do not tell which.
    """

    def __init__(self, dim: int, hidden: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.expand = Linear(dim, hidden)
        self.activation = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.contract = Linear(hidden, dim)

    def forward(self, tokens: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Each token transformed by itself."""
        return self.contract(self.activation(self.expand(tokens)))


class TransformerBlock(nn.Module):
    """Pre-norm residual block: attention, then an MLP four times as wide.

    Args:
        dim: channels of a token.
        heads: of the attention.
        activation: of the MLP.
        eps: of the norms; CLIP's is 1e-5, others' is 1e-6.
    """

    def __init__(self, dim: int, heads: int, activation: Activation, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, 4 * dim, activation)

    def forward(
        self, tokens: Float[Tensor, "B L D"], *, causal: bool = False
    ) -> Float[Tensor, "B L D"]:
        """The tokens after attention and MLP; with ``causal`` none sees those behind it."""
        tokens = tokens + self.attention(self.norm1(tokens), causal=causal)
        return tokens + self.mlp(self.norm2(tokens))


class ConvNormReLU(nn.Sequential):
    """A convolution without bias that pads to keep the grid, batch norm, ReLU."""

    def __init__(self, before: int, width: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = (
            Pointwise(before, width, bias=False)
            if kernel == stride == 1
            else nn.Conv2d(before, width, kernel, stride=stride, padding=padding, bias=False)
        )
        self.norm = nn.BatchNorm2d(width)
        self.activation = nn.ReLU(inplace=True)


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each cell of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The map with every cell of mean 0 and variance 1, then scaled and moved."""
        normed = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.movedim(-1, 1)
