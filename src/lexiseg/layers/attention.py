"""Multi-head self-attention, with the parameter names that published CLIP fine-tunings need.

Letters: B images or prompts, L tokens that ask, S tokens that are looked at, D channels,
n heads, d channels a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear, linear


class SelfAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al., 2017, eq. 1) over several heads.

    The three projections are held apart as ``q_proj_weight``, ``k_proj_weight`` and
    ``v_proj_weight``, while their biases are one ``in_proj_bias`` in the order q, k, v: so a
    fine-tuning can train some of the weights and leave keys and biases as they are.

    Args:
        dim: channels of a token.
        heads: into how many parts the channels are split; must divide ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(
                f"{dim} channels cannot be split into {heads} heads; choose a divisor of {dim}"
            )
        self.heads = heads
        self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.k_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.v_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = Linear(dim, dim)
        for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        tokens: Float[Tensor, "B L D"],
        context: Float[Tensor, "B S D"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "B L D"]:
        """What every token gathers from ``context`` (itself and its neighbours where None).

        With ``causal`` a token sees only itself and the tokens before it.
        """
        context = tokens if context is None else context
        q_bias, k_bias, v_bias = self.in_proj_bias.chunk(3)
        mixed = F.scaled_dot_product_attention(
            self._heads(linear(tokens, self.q_proj_weight, q_bias)),
            self._heads(linear(context, self.k_proj_weight, k_bias)),
            self._heads(linear(context, self.v_proj_weight, v_bias)),
            is_causal=causal,
        )
        return self.out_proj(rearrange(mixed, "B n L d -> B L (n d)"))

    def values(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The output where each token looks at itself alone: its projected value, no mixing."""
        v_bias = self.in_proj_bias.chunk(3)[2]
        return self.out_proj(linear(tokens, self.v_proj_weight, v_bias))

    def keys(self, tokens: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """What each token is found by, all heads side by side."""
        return linear(tokens, self.k_proj_weight, self.in_proj_bias.chunk(3)[1])

    def _heads(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B n L d"]:
        return rearrange(tokens, "B L (n d) -> B n L d", n=self.heads)
