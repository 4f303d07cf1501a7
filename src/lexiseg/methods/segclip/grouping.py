"""The semantic group module: learned centres gather a picture's patches into regions.

Letters: B images, N patches, G groups, C channels of a token, S tokens that a centre looks at.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.attention import SelfAttention
from lexiseg.layers.blocks import MLP, QuickGELU

TEMPERATURE = 0.9  # of the softmax behind the hard assignment, published


@dataclass(frozen=True)
class Groups:
    """What the group module makes of patches.

    Attributes:
        centres: the learned centres after they looked at the picture.
        logits: how well each patch fits each centre, without noise.
        assignment: the centre that takes each patch, 1 or 0; its gradient is that of the softmax
            over the centres (straight through).
        regions: one token for each centre; a centre without a patch has one too.
    """

    centres: Float[Tensor, "B G C"]
    logits: Float[Tensor, "B G N"]
    assignment: Float[Tensor, "B G N"]
    regions: Float[Tensor, "B G C"]

    @property
    def soft(self) -> Float[Tensor, "B G N"]:
        """The share of each centre in each patch: softmax over the centres, without noise."""
        return self.logits.softmax(dim=1)


class GroupingModule(nn.Module):
    """Centres look at the patches, each patch goes to one centre, a centre's patches are a region.

    SegCLIP (Luo et al., ICML 2023), section 3.2 and its figure 2, right.

    Args:
        groups: number of centres.
        dim: channels of a token.
        heads: of the cross-attention, and blocks of the key and value projections.
        layers: of cross-attention; published are 2.
    """

    def __init__(self, *, groups: int, dim: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.centres = nn.Parameter(torch.empty(groups, dim))
        nn.init.trunc_normal_(self.centres, std=0.02)
        self.layers = nn.ModuleList(CrossLayer(dim, heads) for _ in range(layers))
        self.norm_centres = nn.LayerNorm(dim)
        self.norm_patches = nn.LayerNorm(dim)
        # Linear layers of heads x (dim / heads) x (dim / heads): a block for each head.
        self.key_projection = nn.Conv1d(dim, dim, 1, groups=heads, bias=False)
        self.norm_keys = nn.LayerNorm(dim)
        self.value_projection = nn.Conv1d(dim, dim, 1, groups=heads, bias=False)
        self.norm_regions = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim, "gelu")
        self.activation = QuickGELU()

    def forward(
        self,
        patches: Float[Tensor, "B N C"],
        *,
        noise: Float[Tensor, "B G N"] | None = None,
        mix_batch: bool = False,
    ) -> Groups:
        """The groups of patches, in any number.

        Args:
            patches: not normalised.
            noise: Gumbel noise for the assignment in training (:func:`gumbel_noise`); None takes
                the best centre.
            mix_batch: see :meth:`CrossLayer.forward`.
        """
        centres = self.gather(patches, mix_batch=mix_batch)
        keys, values = self.project(patches)
        logits = torch.einsum("bgc,bnc->bgn", centres, keys)
        assignment = assign(logits, noise)
        regions = self.pool(centres, values, assignment)
        return Groups(centres, logits, assignment, regions)

    def gather(
        self, patches: Float[Tensor, "B N C"], *, mix_batch: bool = False
    ) -> Float[Tensor, "B G C"]:
        """The centres of each picture, from those that all pictures share."""
        queries = self.centres.expand(len(patches), -1, -1)
        for layer in self.layers:
            queries = layer(queries, patches, mix_batch=mix_batch)
        return self.norm_centres(queries)

    def project(
        self, patches: Float[Tensor, "B N C"]
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N C"]]:
        """Keys, which centres are compared with, and values, which regions are the mean of."""
        normed = rearrange(self.norm_patches(patches), "B N C -> B C N")
        keys = rearrange(self.key_projection(normed), "B C N -> B N C")
        return self.norm_keys(keys), rearrange(self.value_projection(normed), "B C N -> B N C")

    def pool(
        self,
        centres: Float[Tensor, "B G C"],
        values: Float[Tensor, "B N C"],
        assignment: Float[Tensor, "B G N"],
    ) -> Float[Tensor, "B G C"]:
        """The mean value of each centre's patches, added to it, and an MLP without a residual."""
        counts = assignment.sum(dim=2, keepdim=True).clamp(min=1)
        means = torch.einsum("bgn,bnc->bgc", assignment, values) / counts
        return self.activation(self.mlp(self.norm_regions(centres + means)))


class CrossLayer(nn.Module):
    """Centres look at themselves and at the patches, then an MLP; both with residuals."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim, "quick_gelu")

    def forward(
        self,
        queries: Float[Tensor, "B G C"],
        patches: Float[Tensor, "B N C"],
        *,
        mix_batch: bool = False,
    ) -> Float[Tensor, "B G C"]:
        """The centres after one look.

        Args:
            queries: the centres so far.
            patches: the same for every layer.
            mix_batch: as the published weights were trained: their code handed keys of the batch
                first to an attention that wants the tokens first, which reads the same memory in
                another order. Of a batch of B, image b then looks at every B-th token from the
                b-th on, which are mostly other images'. A single image is not affected.
        """
        context = torch.cat([queries, patches], dim=1)
        if mix_batch:
            rows = rearrange(context, "B S C -> (B S) C")
            context = rearrange(rows, "(S B) C -> B S C", B=len(queries))
        context = self.norm_context(context)
        queries = queries + self.attention(self.norm_queries(queries), context)
        return queries + self.mlp(self.norm_mlp(queries))


def assign(
    logits: Float[Tensor, "B G N"], noise: Float[Tensor, "B G N"] | None = None
) -> Float[Tensor, "B G N"]:
    """One centre for each patch, with the gradient of a softmax (Jang et al., ICLR 2017).

    Args:
        logits: how well patches fit centres.
        noise: Gumbel noise, with which a temperature of 0.9 goes; None for neither.
    """
    soft = (logits if noise is None else (logits + noise) / TEMPERATURE).softmax(dim=1)
    hard = F.one_hot(soft.argmax(dim=1), logits.shape[1])
    return rearrange(hard, "B N G -> B G N").to(soft) - soft.detach() + soft


def gumbel_noise(logits_shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Noise of the standard Gumbel distribution: minus the logarithm of an exponential one."""
    return -torch.empty(logits_shape).exponential_(generator=generator).log()
