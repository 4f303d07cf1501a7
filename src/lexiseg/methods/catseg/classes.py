"""Class aggregation: linear attention between the texts at each cell, guided by the texts.

Letters beyond the library's: C hidden width, c width of a head, n heads.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear
from lexiseg.layers.linear_attention import attend, positive
from lexiseg.layers.maps import Maps, cost_part, guidance_part, in_chunks


class ClassAggregation(nn.Module):
    """Linear attention between the texts at each cell, and an MLP (paper, Eq. 5).

    The attention of a query is a ratio of two sums over all texts (Katharopoulos et al., ICML 2020,
    Eq. 5). The learned padding tokens are all alike, so they enter both sums as one term times
    their number, and texts may be summed up in chunks.
    """

    def __init__(self, *, hidden: int, heads: int, padding_length: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.padding_length = padding_length or 0
        self.norm1 = nn.LayerNorm(hidden)
        self.q = Linear(2 * hidden, hidden)
        self.k = Linear(2 * hidden, hidden)
        self.v = Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(
            Linear(hidden, 4 * hidden), nn.ReLU(inplace=True), Linear(4 * hidden, hidden)
        )
        if self.padding_length:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, hidden))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, hidden))

    def forward(
        self,
        x: Maps,
        guidance: Float[Tensor, "T C"],
        *,
        pooling: int = 1,
        class_chunk: int | None = None,
        reuse: bool = False,
    ) -> Maps:
        """Refined maps; each text reads all others, at its own cell or square of cells.

        ``reuse`` as in :func:`~lexiseg.layers.maps.in_chunks`.
        """
        sums = self._sum_texts(x, guidance, pooling, class_chunk)
        of_q = self._split_heads(guidance_part(self.q, guidance)[:, None, None])

        def run(part: Maps, of_q: Float[Tensor, "T 1 1 n c"]) -> Maps:
            pooled = pool(part, pooling)
            q = self._split_heads(cost_part(self.q, self.norm1(pooled))) + of_q
            z = pooled + attend(positive(q), *sums)
            z = z + self.mlp(self.norm2(z))
            # The published layer adds its input again, on top of the pooled residual.
            return part + unpool(z, (part.shape[2], part.shape[3]))

        return in_chunks(run, class_chunk, x, of_q, reuse=reuse)

    def _sum_texts(
        self, x: Maps, guidance: Float[Tensor, "T C"], pooling: int, class_chunk: int | None
    ) -> tuple[Float[Tensor, "B hp wp n c c"], Float[Tensor, "B hp wp n c"]]:
        """Sums over all texts, padding included, of key x value and of keys."""
        of_k = self._split_heads(guidance_part(self.k, guidance)[:, None, None])
        products = keys = x.new_zeros(())
        step = class_chunk or x.shape[1]
        for part, of_part in zip(x.split(step, dim=1), of_k.split(step), strict=True):
            normed = self.norm1(pool(part, pooling))
            k = positive(self._split_heads(cost_part(self.k, normed)) + of_part)
            v = self._split_heads(self.v(normed))
            products = products + torch.einsum("bthwnc,bthwnd->bhwncd", k, v)
            keys = keys + reduce(k, "B T h w n c -> B h w n c", "sum")
        missing = self.padding_length - x.shape[1]
        if missing > 0:
            pad_k, pad_v = self._padding()
            products = products + missing * torch.einsum("nc,nd->ncd", pad_k, pad_v)
            keys = keys + missing * pad_k
        return products, keys

    def _padding(self) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """Key and value that all padding tokens share."""
        token = self.norm1(self.padding_tokens[0, 0])
        k = cost_part(self.k, token) + guidance_part(self.k, self.padding_guidance[0, 0])
        return positive(self._split_heads(k)), self._split_heads(self.v(token))

    def _split_heads(self, x: Float[Tensor, "*cells C"]) -> Float[Tensor, "*cells n c"]:
        return rearrange(x, "... (n c) -> ... n c", n=self.heads)


def pool(x: Maps, size: int) -> Float[Tensor, "B T hp wp C"]:
    """Means over squares of cells; squares that jut out average the cells they hold."""
    if size == 1:
        return x
    flat = rearrange(x, "B T h w C -> (B T) C h w")
    pooled = F.avg_pool2d(flat, size, ceil_mode=True)
    return rearrange(pooled, "(B T) C h w -> B T h w C", B=len(x))


def unpool(x: Float[Tensor, "B T hp wp C"], size: tuple[int, int]) -> Maps:
    """Back to the full grid, corners aligned as published."""
    if tuple(x.shape[2:4]) == size:
        return x
    flat = rearrange(x, "B T h w C -> (B T) C h w")
    full = F.interpolate(flat, size=size, mode="bilinear", align_corners=True)
    return rearrange(full, "(B T) C h w -> B T h w C", B=len(x))
