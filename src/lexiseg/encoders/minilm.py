"""MiniLM-L6, a small sentence encoder (Wang et al., NeurIPS 2020; Reimers and Gurevych, 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lexiseg.encoders.base import TextFeatures
from lexiseg.encoders.wordpiece import bert_wordpiece
from lexiseg.layers.linear import Linear


@dataclass(frozen=True)
class MiniLMConfig:
    """Sizes of the sentence encoder."""

    vocabulary_size: int = 30522
    context_length: int = 128
    width: int = 384
    layers: int = 6
    heads: int = 12


class MiniLM(nn.Module):
    """Sentences to vectors of length one: a BERT whose token outputs are averaged."""

    def __init__(self, config: MiniLMConfig | None = None) -> None:
        super().__init__()
        config = config or MiniLMConfig()
        self.config = config
        self.width = config.width
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.position_embedding = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.embedding_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.layers))

    def forward(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of sentences; longer ones than ``context_length`` tokens are cut."""
        tokenizer = bert_wordpiece()
        rows = tokenizer(prompts, context_length=self.config.context_length)
        ids = torch.from_numpy(rows).to(self.position_embedding.device)
        is_word = ids != tokenizer.pad
        words = self.encode_tokens(ids, is_word)
        return TextFeatures(pooled=mean_of_words(words, is_word), words=words, is_word=is_word)

    def encode_tokens(
        self, ids: Int[Tensor, "P L"], is_word: Bool[Tensor, "P L"]
    ) -> Float[Tensor, "P L C"]:
        """The last layer's output for each token."""
        x = self.token_embedding(ids) + self.position_embedding[: ids.shape[1]]
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x, is_word)
        return x


def mean_of_words(
    words: Float[Tensor, "P L C"], is_word: Bool[Tensor, "P L"]
) -> Float[Tensor, "P C"]:
    """The mean over the words of each prompt, padding left out, of length one."""
    weight = is_word[..., None].to(words.dtype)
    return F.normalize((words * weight).sum(dim=1) / weight.sum(dim=1), dim=-1)


class Layer(nn.Module):
    """A BERT layer: attention and feed-forward, each followed by its residual and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.up = Linear(width, 4 * width)
        self.down = Linear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(
        self, x: Float[Tensor, "P L C"], is_word: Bool[Tensor, "P L"]
    ) -> Float[Tensor, "P L C"]:
        """The layer's output for each token; padding is not attended to."""
        q, k, v = rearrange(self.qkv(x), "p l (n heads c) -> n p heads l c", n=3, heads=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=is_word[:, None, None, :])
        x = self.attention_norm(x + self.out(rearrange(attended, "p heads l c -> p l (heads c)")))
        return self.output_norm(x + self.down(F.gelu(self.up(x))))
