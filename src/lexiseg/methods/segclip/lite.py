"""SegCLIP's group module on the bundled encoder, which stays as it is.

image ─ Lite ─┬─ fused map, pooled ─ GroupingModule ─┬─ assignment ─┐
              │                                      └─ regions ─ block ─ change of each region
              └─ patch features ─┬─ mean of each region ─ + ─ region features ─┐
                                 └─ cost ─────────────────────────────── + ─ logits

A region is the mean of the encoder's own patch features and a learned change; a patch's logits are
its own cost and, by a learned part, that of its regions. At first the change and the part are 0.

Letters: B images, T texts, N cells, G groups, C channels of the fused map, D of the joint space.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.encoders.base import encode_labels
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import complete
from lexiseg.layers.blocks import TransformerBlock
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, View
from lexiseg.methods.segclip.grouping import GroupingModule, Groups
from lexiseg.methods.segclip.model import centres_view
from lexiseg.registry import register_model
from lexiseg.weights import metadata_of


@dataclass(frozen=True)
class SegCLIPLiteConfig:
    """Sizes of the head.

    Attributes:
        groups: number of centres.
        cross_layers: of cross-attention in the group module.
        blocks: that regions go through.
        heads: of each attention.
        pooling: side of the square of encoder's patches that are one cell of the group module.
    """

    groups: int = 8
    cross_layers: int = 2
    blocks: int = 1
    heads: int = 3
    pooling: int = 2

    def __post_init__(self) -> None:
        for name in ("groups", "heads", "pooling"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} came; it must be at least 1")


@dataclass(frozen=True)
class Cells:
    """What the frozen encoder says of images.

    Attributes:
        tokens: of each cell, in the encoder's fused map.
        features: of each cell, the mean direction in the joint space.
        patch_features: of each patch, in the joint space.
        grid: rows and columns of the cells.
    """

    tokens: Float[Tensor, "B N C"]
    features: Float[Tensor, "B N D"]
    patch_features: Float[Tensor, "B D _ _"]
    grid: tuple[int, int]


class SegCLIPLite(SegmentationModel):
    """Learned centres gather the cells of a frozen encoder into regions.

    Args:
        encoder: the bundled encoder.
        config: sizes of the head.
        protocols: ways to prepare an image.
    """

    activation: ClassVar[Activation] = "softmax"
    exclusive: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Lite,
        config: SegCLIPLiteConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
    ) -> None:
        super().__init__()
        config = config or SegCLIPLiteConfig()
        self.config = config
        self.protocols = protocols
        self.encoder = encoder
        self.width = encoder.config.fused_width
        self.grouping = GroupingModule(
            groups=config.groups, dim=self.width, heads=config.heads, layers=config.cross_layers
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(self.width, config.heads, "quick_gelu") for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(self.width)
        self.projection = nn.Linear(self.width, encoder.dim)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.region_part = nn.Parameter(torch.zeros(()))
        self.log_gain = nn.Parameter(torch.zeros(()))

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """The mean direction of each label's prompts."""
        return Texts(encode_labels(self.encoder, prompts))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits on the grid of the encoder's patches, without any noise."""
        cells = self.cells(images)
        return self.logits(cells, self.grouping(cells.tokens), texts.features)

    def cells(self, images: Float[Tensor, "B 3 H W"]) -> Cells:
        """What the encoder says; without gradients, for it is not trained."""
        with torch.no_grad():
            found = self.encoder.encode_images(images, intermediates=(0,))
            fused = _pooled(found.intermediates[0], self.config.pooling)
            features = _pooled(F.normalize(found.patch_features, dim=1), self.config.pooling)
        return Cells(
            tokens=rearrange(fused, "B C h w -> B (h w) C"),
            features=rearrange(features, "B D h w -> B (h w) D"),
            patch_features=found.patch_features,
            grid=(fused.shape[2], fused.shape[3]),
        )

    def kept(self, cells: Cells, visible: Int[Tensor, "B K"]) -> Float[Tensor, "B K C"]:
        """Tokens of some cells."""
        return cells.tokens[torch.arange(len(visible), device=visible.device)[:, None], visible]

    def regions(
        self, cells: Cells, groups: Groups, shares: Float[Tensor, "B G N"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B G D"]]:
        """Image and regions in the joint space, of length one.

        Args:
            cells: of the encoder.
            groups: of the group module.
            shares: of each centre in each cell: ``groups.assignment`` or ``groups.soft``.
        """
        tokens = groups.regions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = torch.cat([tokens.amax(dim=1, keepdim=True), tokens], dim=1)
        change = self.projection(self.norm(tokens))
        whole = cells.features.mean(dim=1, keepdim=True)
        # One cell that is as the whole image keeps a region without cells from being nothing.
        sums = torch.einsum("bgn,bnd->bgd", shares, cells.features) + whole
        means = sums / (1 + shares.sum(dim=2, keepdim=True))
        features = F.normalize(torch.cat([whole, means], dim=1) + change, dim=-1)
        return features[:, 0], features[:, 1:]

    def logits(
        self, cells: Cells, groups: Groups, texts: Float[Tensor, "T D"]
    ) -> Float[Tensor, "B T h w"]:
        """The cost of each patch, and of its regions by their shares in it."""
        cost = cosine_cost(cells.patch_features, texts)
        _, regions = self.regions(cells, groups, groups.soft)
        maps = torch.einsum("bgn,bgt->btn", groups.soft, regions @ texts.T)
        maps = rearrange(maps, "B T (h w) -> B T h w", h=cells.grid[0])
        maps = F.interpolate(maps, size=cost.shape[-2:], mode="bilinear")
        # The gain is learned apart, or the part of the regions would be used to correct it.
        gain = (self.encoder.logit_scale + self.log_gain).exp()
        return gain * (cost + self.region_part * maps)

    def views(self, image: Float[Tensor, "1 3 H W"], texts: Texts) -> Iterator[View]:
        """The share of each centre in each cell, the raw cost, and the answer."""
        cells = self.cells(image)
        groups = self.grouping(cells.tokens)
        yield centres_view(groups.soft, cells.grid)
        yield View("cost", cosine_cost(cells.patch_features, texts.features)[0])
        yield View("logits", self.logits(cells, groups, texts.features)[0])

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our own names; a head is completed with the bundled encoder it was trained on."""
        return complete(state, self.encoder, metadata_of(state))


def _pooled(maps: Float[Tensor, "B C _ _"], side: int) -> Float[Tensor, "B C _ _"]:
    return F.avg_pool2d(maps, side, ceil_mode=True, count_include_pad=False)


@register_model
def segclip_lite(**changes: Any) -> SegCLIPLite:
    """SegCLIP on the bundled encoder; ``changes`` go to :class:`SegCLIPLiteConfig`."""
    config = replace(SegCLIPLiteConfig(), **changes)
    return SegCLIPLite(Lite(), config, protocols={"default": Protocol(LITE_PREPROCESS)})
