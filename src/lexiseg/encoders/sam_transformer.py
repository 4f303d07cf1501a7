"""SAM's two-way transformer: prompt tokens and image cells read each other.

Letters: B prompts (not images), N image cells, L prompt tokens, D channels, d channels a head.
"""

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear

IMAGE_READS_AT = 2  # cross attention works in so many times fewer channels


class TwoWayTransformer(nn.Module):
    """Two-way layers, then one more look of the tokens at the image (SAM, figure 14).

    Args:
        dim: channels of a token and of a cell.
        depth: number of layers.
        heads: of each attention.
        hidden: width of the tokens' MLPs.
    """

    def __init__(
        self, *, dim: int = 256, depth: int = 2, heads: int = 8, hidden: int = 2048
    ) -> None:
        super().__init__()
        self.layers = two_way_layers(dim=dim, depth=depth, heads=heads, hidden=hidden)
        self.final_attention = Attention(dim, heads, dim // IMAGE_READS_AT)
        self.final_norm = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Float[Tensor, "B L D"],
        image: Float[Tensor, "B N D"],
        image_positions: Float[Tensor, "N D"],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B N D"]]:
        """Tokens and image cells after all layers; the last look changes the tokens alone."""
        prompts = tokens
        tokens, image = run_layers(self.layers, prompts, image, image_positions)
        seen = self.final_attention(tokens + prompts, image + image_positions, image)
        return self.final_norm(tokens + seen), image


def two_way_layers(*, dim: int, depth: int, heads: int, hidden: int) -> nn.ModuleList:
    """The layers in a row; the first alone gives its tokens no positions."""
    return nn.ModuleList(
        TwoWayLayer(dim=dim, heads=heads, hidden=hidden, first=index == 0) for index in range(depth)
    )


def run_layers(
    layers: nn.ModuleList,
    prompts: Float[Tensor, "B L D"],
    image: Float[Tensor, "B N D"],
    image_positions: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B N D"]]:
    """Tokens and image cells after the layers; the prompts are the tokens' positions throughout."""
    tokens = prompts
    for layer in cast(Iterable[TwoWayLayer], layers):
        tokens, image = layer(tokens, image, prompts, image_positions)
    return tokens, image


class TwoWayLayer(nn.Module):
    """Tokens read each other, tokens read the image, an MLP, the image reads the tokens.

    Args:
        dim: channels of a token and of a cell.
        heads: of each attention.
        hidden: width of the MLP.
        first: True where the tokens are still the prompts: their attention then takes no positions
            and no residual, as SAM does.
    """

    def __init__(self, *, dim: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attention = Attention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.tokens_to_image = Attention(dim, heads, dim // IMAGE_READS_AT)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(Linear(dim, hidden), nn.ReLU(), Linear(hidden, dim))
        self.norm3 = nn.LayerNorm(dim)
        self.image_to_tokens = Attention(dim, heads, dim // IMAGE_READS_AT)
        self.norm4 = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Float[Tensor, "B L D"],
        image: Float[Tensor, "B N D"],
        token_positions: Float[Tensor, "B L D"],
        image_positions: Float[Tensor, "N D"],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B N D"]]:
        """Tokens and cells; positions are added to queries and keys, never to values."""
        if self.first:
            tokens = self.self_attention(tokens, tokens, tokens)
        else:
            placed = tokens + token_positions
            tokens = tokens + self.self_attention(placed, placed, tokens)
        tokens = self.norm1(tokens)
        cells = image + image_positions
        tokens = self.norm2(tokens + self.tokens_to_image(tokens + token_positions, cells, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.image_to_tokens(cells, tokens + token_positions, tokens)
        return tokens, self.norm4(image)


class Attention(nn.Module):
    """Attention of ``heads`` heads in ``inner`` channels."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        if inner % heads:
            raise ValueError(
                f"{inner} channels cannot be split into {heads} heads; choose a divisor of {inner}"
            )
        self.heads = heads
        self.q = Linear(dim, inner)
        self.k = Linear(dim, inner)
        self.v = Linear(dim, inner)
        self.out = Linear(inner, dim)

    def forward(
        self,
        queries: Float[Tensor, "B L D"],
        keys: Float[Tensor, "B S D"],
        values: Float[Tensor, "B S D"],
    ) -> Float[Tensor, "B L D"]:
        """What every query gathers."""
        q, k, v = (
            rearrange(projected, "B L (n d) -> B n L d", n=self.heads)
            for projected in (self.q(queries), self.k(keys), self.v(values))
        )
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "B n L d -> B L (n d)"))
