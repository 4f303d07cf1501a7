"""The decoder: from embedded cost to logits, up-sampled under the guidance of image features."""

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.maps import Maps, in_chunks

Upsampling = Literal["transposed", "bilinear"]


class Decoder(nn.Module):
    """Doubles the grid once a stage, each text by itself; the guidance is shared by all texts.

    Args:
        hidden: width of an embedded cost.
        guidance_maps: widths of the guidance, the coarsest first.
        guidance_projected: widths to which they are brought.
        widths: of the stages.
        upsampling: how a stage doubles the grid: by learned "transposed" convolutions (CAT-Seg) or
            "bilinear" (ESC-Net).
    """

    def __init__(
        self,
        *,
        hidden: int = 128,
        guidance_maps: Sequence[int] = (256, 128),
        guidance_projected: Sequence[int] = (32, 16),
        widths: Sequence[int] = (64, 32),
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.guidance_projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.ReLU())
            for before, width in zip(guidance_maps, guidance_projected, strict=True)
        )
        befores = (hidden, *widths[:-1])
        self.stages = nn.ModuleList(
            DecoderStage(before=before, width=width, guidance=guidance, upsampling=upsampling)
            for before, width, guidance in zip(befores, widths, guidance_projected, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(
        self,
        x: Maps,
        guidance: Sequence[Float[Tensor, "B _ _ _"]],
        *,
        class_chunk: int | None = None,
    ) -> Float[Tensor, "B T H W"]:
        """Logits, on a grid that is doubled once a stage.

        Args:
            x: embedded cost.
            guidance: one map a stage, resized where its grid is not that of the stage.
            class_chunk: texts worked on at a time; None for all.
        """
        of_stages = self.project_guidance(guidance, (x.shape[2], x.shape[3]))
        return in_chunks(lambda part: self.decode(part, of_stages), class_chunk, x)

    def project_guidance(
        self, guidance: Sequence[Float[Tensor, "B _ _ _"]], grid: tuple[int, int]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """What the guidance adds in each stage, the same for all texts; ``grid`` is that of x."""
        of_stages = []
        for index, stage in enumerate(cast(Iterable[DecoderStage], self.stages)):
            size = (grid[0] << index + 1, grid[1] << index + 1)
            projected = self.guidance_projections[index](guidance[index])
            of_stages.append(stage.project_guidance(fit(projected, size)))
        return of_stages

    def decode(
        self, x: Maps, of_stages: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> Float[Tensor, "B T H W"]:
        """Logits under a guidance that is projected already."""
        texts = x.shape[1]
        y = rearrange(x, "B T h w C -> (B T) C h w")
        for stage, of_stage in zip(self.stages, of_stages, strict=True):
            y = stage(y, of_stage, texts)
        return rearrange(self.head(y), "(B T) 1 H W -> B T H W", T=texts)


class DecoderStage(nn.Module):
    """The grid doubled, guidance beside it, and two 3x3 convolutions."""

    up: nn.Module

    def __init__(
        self, *, before: int, width: int, guidance: int, upsampling: Upsampling = "transposed"
    ) -> None:
        super().__init__()
        if upsampling == "transposed":
            self.own = before - guidance
            self.up = nn.ConvTranspose2d(before, self.own, 2, stride=2)
        else:
            self.own = before
            self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv1 = nn.Conv2d(self.own + guidance, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(max(1, width // 16), width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(max(1, width // 16), width)

    def project_guidance(self, guidance: Float[Tensor, "B G H W"]) -> Float[Tensor, "B C H W"]:
        """What the guidance adds to the first convolution of every text."""
        projected = F.conv2d(guidance, self.conv1.weight[:, self.own :], padding=1)
        return projected.contiguous(memory_format=torch.channels_last)  # as the maps of the texts

    def forward(
        self, x: Float[Tensor, "BT C h w"], of_guidance: Float[Tensor, "B K H W"], texts: int
    ) -> Float[Tensor, "BT K H W"]:
        """Features of every text on the doubled grid."""
        x = F.conv2d(self.up(x), self.conv1.weight[:, : self.own], padding=1)
        x = rearrange(x, "(B T) K H W -> B T K H W", T=texts) + of_guidance[:, None]
        x = F.relu_(self.norm1(rearrange(x, "B T K H W -> (B T) K H W")))
        return F.relu_(self.norm2(self.conv2(x)))


def fit(maps: Float[Tensor, "B C _ _"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Maps on the grid of ``size``; untouched where they lie on it already."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
