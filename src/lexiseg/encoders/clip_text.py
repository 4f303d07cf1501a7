"""CLIP's text tower: a feature for each prompt and for each of its tokens.

Letters: P prompts, L tokens, C channels of the tower, D channels of the joint space.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from lexiseg.encoders.base import TextFeatures
from lexiseg.layers.blocks import Activation, TransformerBlock


class TextTransformer(nn.Module):
    """Causal transformer over token ids (Radford et al., 2021, section 2.4).

    Parameters that fine-tunings pick: ``blocks[i].attention.q_proj_weight``, ``.k_proj_weight``,
    ``.v_proj_weight``, ``.in_proj_bias``, ``.out_proj``; ``blocks[i].norm1``, ``.norm2``, ``.mlp``;
    ``token_embedding``, ``position_embedding``, ``norm_final``, ``projection``.

    Args:
        context_length: most tokens a prompt can have, start and end included.
        vocabulary: number of different tokens; the last is the one that ends a prompt.
        width: channels of a token.
        layers: number of blocks.
        heads: of each attention.
        dim: channels of the joint space.
        activation: of the MLPs.
    """

    def __init__(
        self,
        *,
        context_length: int,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        dim: int,
        activation: Activation = "quick_gelu",
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, activation) for _ in range(layers)
        )
        self.norm_final = nn.LayerNorm(width)
        self.projection = nn.Parameter(width**-0.5 * torch.randn(width, dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "P _"]) -> TextFeatures:
        """Features of tokenised prompts, cut to the longest of them.

        Cutting changes nothing: the attention is causal, so no token sees the padding behind it.
        A prompt ends at the first of its largest ids. Padding is what comes after, never "id 0",
        which is a symbol of the vocabulary too.

        Raises:
            ValueError: no prompt, or more tokens than there are positions.
        """
        if not len(ids):
            raise ValueError("no prompts came; give at least one")
        ends = end_positions(ids)
        length = int(ends.max()) + 1
        if length > self.context_length:
            raise ValueError(
                f"a prompt has {length} tokens, at most {self.context_length} are allowed; "
                "shorten it"
            )
        tokens = self.token_embedding(ids[:, :length]) + self.position_embedding[:length]
        for block in self.blocks:
            tokens = block(tokens, causal=True)
        words = self.norm_final(tokens)
        rows = torch.arange(len(ids), device=ids.device)
        return TextFeatures(
            pooled=words[rows, ends] @ self.projection,
            words=words,
            is_word=_up_to(ends, length),
        )


def end_positions(ids: Int[Tensor, "P L"]) -> Int[Tensor, " P"]:
    """Where each prompt ends: the first occurrence of its largest id."""
    is_end = ids == ids.amax(dim=1, keepdim=True)
    return (is_end.cumsum(dim=1) == 0).sum(dim=1)


def _up_to(ends: Int[Tensor, " P"], length: int) -> Bool[Tensor, "P L"]:
    return torch.arange(length, device=ends.device) <= ends[:, None]
