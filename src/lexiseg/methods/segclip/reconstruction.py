"""Masked reconstruction: what is hidden is rebuilt through the groups; training alone needs it.

patches that are kept ─ image tower, GroupingModule ─ assignment, regions ─ mixing ─ N x block
 ─ Decoder, with a token for each patch that is hidden ─ what each patch shows

Letters: B images, N patches, K patches that are kept, G groups, C channels of a token, E channels
of the decoder, V numbers that a patch shows.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lexiseg.layers.blocks import QuickGELU, TransformerBlock
from lexiseg.methods.segclip.grouping import Groups

KEPT = 0.25  # share of the patches, published


@dataclass(frozen=True)
class Hiding:
    """Which patches of each picture are hidden.

    Attributes:
        order: the patches in random order, those that are kept first.
        kept: how many are kept.
    """

    order: Int[Tensor, "B N"]
    kept: int

    @property
    def visible(self) -> Int[Tensor, "B K"]:
        """The patches that are kept, in their random order."""
        return self.order[:, : self.kept]

    @property
    def places(self) -> Int[Tensor, "B N"]:
        """Of each patch, its place in the random order."""
        return self.order.argsort(dim=1)

    @property
    def hidden(self) -> Bool[Tensor, "B N"]:
        """True where a patch is hidden."""
        return self.places >= self.kept


def hide(noise: Float[Tensor, "B N"], kept: float = KEPT) -> Hiding:
    """Keep the patches with the least noise.

    Args:
        noise: one number for each patch.
        kept: share of the patches and a class token, which is always kept (MAE, He et al., CVPR
            2022): 48 of 196.
    """
    return Hiding(noise.argsort(dim=1), max(1, int((noise.shape[1] + 1) * kept) - 1))


class Reconstruction(nn.Module):
    """From the groups of the patches that are kept to all patches (the paper's section 3.3).

    Args:
        groups: number of centres.
        dim: channels of a token.
        heads: of the blocks' attention.
        blocks: number of blocks on the tokens that are put together again; published are 2.
        decoder: from there to all patches.
    """

    def __init__(
        self, *, groups: int, dim: int, heads: int, blocks: int, decoder: "MaskedDecoder"
    ) -> None:
        super().__init__()
        self.mixing = nn.Linear(groups, groups)
        self.activation = QuickGELU()
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads, "quick_gelu") for _ in range(blocks)
        )
        self.decoder = decoder

    def forward(
        self, groups: Groups, hiding: Hiding, grid: tuple[int, int]
    ) -> Float[Tensor, "B N V"]:
        """What each patch shows.

        Args:
            groups: of the patches that are kept, in their order.
            hiding: which they are.
            grid: rows and columns of all patches.
        """
        return self.decoder(self.rebuild(groups), hiding, grid)[:, 1:]

    def rebuild(self, groups: Groups) -> Float[Tensor, "B K C"]:
        """A token for each patch that is kept, put together from the regions."""
        shares = self.mixing(rearrange(groups.assignment, "B G K -> B K G"))
        tokens = self.activation(torch.einsum("bkg,bgc->bkc", shares, groups.regions))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class MaskedDecoder(nn.Module):
    """The decoder of masked autoencoders (He et al., CVPR 2022, section 3).

    Args:
        dim: channels of a token that comes in.
        width: channels of its own; a multiple of 4 and of ``heads``.
        heads: of its attention.
        layers: number of blocks; published are 3.
        shown: numbers that a patch shows, such as those of its pixels.
    """

    def __init__(self, *, dim: int, width: int, heads: int, layers: int, shown: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.embedding = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, "gelu", eps=1e-6) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.prediction = nn.Linear(width, shown)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(
        self, tokens: Float[Tensor, "B K C"], hiding: Hiding, grid: tuple[int, int]
    ) -> Float[Tensor, "B M V"]:
        """What each patch shows, behind one row for their mean, which stands for a class token."""
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        embedded = self.embedding(tokens)
        places = hiding.places
        fill = self.mask_token.expand(len(tokens), places.shape[1] - hiding.kept, -1)
        shuffled = torch.cat([embedded[:, 1:], fill], dim=1)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        inside = torch.cat([embedded[:, :1], shuffled[rows, places]], dim=1)
        inside = inside + sine_positions(grid, inside.shape[2]).to(inside)
        for block in self.blocks:
            inside = block(inside)
        return self.prediction(self.norm(inside))


def sine_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "M E"]:
    """A row of zeros, then a fixed row for each patch: sines and cosines of column, then of row.

    Vaswani et al. (2017), section 3.5, in two dimensions as masked autoencoders have it.
    """
    rates = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64),
        torch.arange(grid[1], dtype=torch.float64),
        indexing="ij",
    )
    angles = [rearrange(each, "h w -> (h w) 1") * rates for each in (columns, rows)]
    table = torch.cat([part for each in angles for part in (each.sin(), each.cos())], dim=1)
    return torch.cat([torch.zeros(1, 4 * (width // 4), dtype=torch.float64), table]).float()


def reset_as_published(module: nn.Module) -> None:
    """Every linear layer drawn anew from N(0, 0.02), its bias 0, which undoes a decoder's Xavier.

    That is the authors' last step before CLIP's weights are loaded.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
        elif isinstance(part, MaskedDecoder):  # where queries, keys and values are one layer
            for name, value in part.named_parameters():
                if name.endswith("_proj_weight"):
                    nn.init.normal_(value, std=0.02)


def pixels_of_patches(images: Float[Tensor, "B 3 H W"], patch: int) -> Float[Tensor, "B N V"]:
    """The numbers of each patch, row by row, the colours of a pixel together."""
    return rearrange(images, "B C (h p) (w q) -> B (h w) (p q C)", p=patch, q=patch)
