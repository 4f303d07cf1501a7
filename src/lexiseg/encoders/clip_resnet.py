"""CLIP's image tower as a modified ResNet: maps at strides 8, 16 and 32, and attention pooling.

Letters: B images, H W pixels, h w cells of the last map, L tokens (one cell each, row by row),
C channels of the last map, D channels of the joint space.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures, check_intermediates
from lexiseg.layers.blocks import ConvNormReLU
from lexiseg.layers.linear import Linear, Pointwise
from lexiseg.layers.positions import patch_grid, resize_positions

ResNetDense = Literal["value", "spatial"]

STRIDE = 32
EXPANSION = 4  # channels that leave a block over those inside it


class ModifiedResNet(nn.Module):
    """CLIP's ResNet (Radford et al., 2021, section 2.4): no strided convolution but the first.

    A stem of three convolutions, average pooling wherever others stride, attention pooling at the
    end. ``dense`` says how the last map gets into the joint space:

    - "value": ``pooled`` is the image feature of CLIP. A patch feature is a cell's own value, not
      mixed with others, ``out_proj(v_proj(x))`` (MaskCLIP, Zhou et al., ECCV 2022, section 3.2).
    - "spatial": every cell asks, so that a map leaves the attention pooling (CRIS, Wang et al.,
      CVPR 2022, the authors' code); it has the convolution ``connect`` beside the attention, which
      no checkpoint of CLIP holds. ``pooled`` is the mean of that map, not CLIP's feature.

    Parameters that fine-tunings pick: ``stem``, ``stages[i]``, ``attention_pool``.

    Args:
        image_size: side of the square images of pre-training, which fixes the position grid;
            images of any other size get that grid resized.
        width: channels of the stem; the stages have 4, 8, 16 and 32 times as many.
        layers: blocks of each stage.
        heads: of the attention pooling.
        dim: channels of the joint space.
        dense: see above.
    """

    def __init__(
        self,
        *,
        image_size: int,
        width: int,
        layers: Sequence[int],
        heads: int,
        dim: int,
        dense: ResNetDense = "value",
    ) -> None:
        super().__init__()
        if dense not in get_args(ResNetDense):
            raise ValueError(f"dense={dense!r} is not known; choose one of {get_args(ResNetDense)}")
        self.dense: ResNetDense = dense
        half = width // 2
        self.stem = nn.Sequential(
            ConvNormReLU(3, half, stride=2), ConvNormReLU(half, half), ConvNormReLU(half, width)
        )
        stages, before = [], width
        for index, blocks in enumerate(layers):
            inside = width << index
            stage = [Bottleneck(before, inside, stride=1 if index == 0 else 2)]
            before = inside * EXPANSION
            stage += [Bottleneck(before, inside) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.attention_pool = AttentionPool(
            grid=image_size // STRIDE,
            width=before,
            heads=heads,
            dim=dim,
            connected=dense == "spatial",
        )

    def forward(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images whose sides are multiples of 32.

        ``intermediates`` numbers stages from 0; their strides are 4, 8, 16 and 32.

        Raises:
            ValueError: a side is no multiple of 32, or there is no such stage.
        """
        patch_grid(images, STRIDE, called="")
        check_intermediates(intermediates, len(self.stages), called="stages")
        if images.device.type == "cpu" and not self.training:  # spares reordering every map
            images = images.contiguous(memory_format=torch.channels_last)
        x = F.avg_pool2d(self.stem(images), 2)
        maps: list[Tensor] = []
        for stage in cast(Iterable[nn.Module], self.stages):
            x = stage(x)
            maps.append(x)
        wanted = tuple(maps[number] for number in intermediates)
        if self.dense == "spatial":
            patches = self.attention_pool.spatial(x)
            return ImageFeatures(patches.mean(dim=(-2, -1)), patches, wanted)
        return ImageFeatures(self.attention_pool(x), self.attention_pool.values(x), wanted)


class Bottleneck(nn.Module):
    """Residual block (He et al., 2016) whose stride is an average pooling after its 3x3."""

    def __init__(self, before: int, inside: int, *, stride: int = 1) -> None:
        super().__init__()
        after = inside * EXPANSION
        self.stride = stride
        self.conv1 = Pointwise(before, inside, bias=False)
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv3 = Pointwise(inside, after, bias=False)
        self.norm3 = nn.BatchNorm2d(after)
        self.shortcut: nn.Sequential | None = None
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential()
            self.shortcut.conv = Pointwise(before, after, bias=False)
            self.shortcut.norm = nn.BatchNorm2d(after)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        """The map of the next depth, on a grid that ``stride`` divides."""
        y = F.relu_(self.norm1(self.conv1(x)))
        y = self._pool(F.relu_(self.norm2(self.conv2(y))))
        y = self.norm3(self.conv3(y))
        if self.shortcut is not None:
            x = self.shortcut(self._pool(x))
        return F.relu_(x + y)

    def _pool(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class AttentionPool(nn.Module):
    """Attention over the cells of a map, as CLIP pools it, or with every cell asking.

    Args:
        grid: side of the grid that the position embeddings belong to.
        width: channels of the map.
        heads: of the attention.
        dim: channels of the joint space.
        connected: with the convolution beside the attention that :meth:`spatial` needs.
    """

    def __init__(
        self, *, grid: int, width: int, heads: int, dim: int, connected: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        positions = torch.randn(1 + grid * grid, width)  # the first is that of the mean
        self.position_embedding = nn.Parameter(width**-0.5 * positions)
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, dim)
        self.connect: nn.Sequential | None = None
        if connected:
            self.connect = nn.Sequential()
            self.connect.conv = Pointwise(width, dim, bias=False)
            self.connect.norm = nn.BatchNorm2d(dim)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """CLIP's image feature: the mean cell, with a position of its own, asks all and itself."""
        tokens = rearrange(x, "B C h w -> B (h w) C")
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        positions = [self.position_embedding[:1], self._positions(x)]
        tokens = tokens + torch.cat(positions)
        return self._attend(tokens[:, :1], tokens)[:, 0]

    def spatial(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """CRIS's map: every cell asks; there is no mean, and ``connect`` sees no positions."""
        assert self.connect is not None
        tokens = rearrange(x, "B C h w -> B (h w) C") + self._positions(x)
        attended = rearrange(self._attend(tokens, tokens), "B (h w) D -> B D h w", h=x.shape[2])
        return F.relu(attended + self.connect(x))

    def values(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Each cell's own value in the joint space, without positions."""
        own = self.out_proj(self.v_proj(rearrange(x, "B C h w -> B h w C")))
        return rearrange(own, "B h w D -> B D h w")

    def _positions(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "L C"]:
        return resize_positions(self.position_embedding[1:], (x.shape[2], x.shape[3]))

    def _attend(
        self, asking: Float[Tensor, "B Q C"], tokens: Float[Tensor, "B L C"]
    ) -> Float[Tensor, "B Q D"]:
        split = "B L (n d) -> B n L d"
        mixed = F.scaled_dot_product_attention(
            rearrange(self.q_proj(asking), split, n=self.heads),
            rearrange(self.k_proj(tokens), split, n=self.heads),
            rearrange(self.v_proj(tokens), split, n=self.heads),
        )
        return self.out_proj(rearrange(mixed, "B n L d -> B L (n d)"))
