"""The bundled encoder: a small CNN and a small sentence encoder in one embedding space.

image ─ EfficientNet-Lite0 ─ strides 8, 16, 32 + whole-image context ─ two 3x3 convolutions ─ linear
prompts ─ MiniLM-L6 (minilm.py) ─ linear

The image side starts from ImageNet weights (Tan and Le, ICML 2019; the "Lite" variant has no
squeeze and excitation and uses ReLU6), the text side from a sentence encoder that stays frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures, check_intermediates
from lexiseg.encoders.minilm import MiniLM
from lexiseg.images import Preprocess

LITE_PREPROCESS = Preprocess(
    mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), longest=448, shorter=448, multiple=32
)

# (expansion, channels, blocks, stride, kernel) of each stage, EfficientNet-B0's table.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM_WIDTH = 32
PYRAMID_WIDTHS = (24, 40, 112, 320)  # the last map of strides 4, 8, 16 and 32


@dataclass(frozen=True)
class LiteConfig:
    """Sizes of the bundled encoder.

    Attributes:
        dim: width of the joint space.
        fused_width: width of the fused map at stride 8.
        lateral_width: width to which each stride is brought before fusion.
    """

    dim: int = 256
    fused_width: int = 192
    lateral_width: int = 128


class Lite(nn.Module):
    """The bundled encoder; patches are 8 pixels wide.

    Intermediate 0 is the fused map at stride 8 (``fused_width`` channels), intermediate 1 the
    backbone's map at stride 4 (24 channels).
    """

    def __init__(self, config: LiteConfig | None = None, *, text: MiniLM | None = None) -> None:
        super().__init__()
        config = config or LiteConfig()
        self.config = config
        self.dim = config.dim
        self.backbone = EfficientNetLite()
        self.fusion = PyramidFusion(width=config.fused_width, lateral_width=config.lateral_width)
        self.image_projection = nn.Conv2d(config.fused_width, config.dim, 1)
        self.text = text or MiniLM()
        self.text_projection = nn.Linear(self.text.width, config.dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.7))  # logarithm, as CLIP keeps it
        self.intermediate_widths = (config.fused_width, PYRAMID_WIDTHS[0])

    def encode_images(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images of any size from 32 pixels on.

        Raises:
            ValueError: an image is smaller than 32 pixels, or an intermediate does not exist.
        """
        if min(images.shape[-2:]) < 32:
            raise ValueError(
                f"images are {tuple(images.shape[-2:])} pixels (height, width); the lite encoder "
                "needs at least 32 each way: resize or pad them"
            )
        check_intermediates(intermediates, len(self.intermediate_widths), called="intermediates")
        pyramid = self.backbone(images)
        fused = self.fusion(pyramid[1:])
        patch_features = self.image_projection(fused)
        available = (fused, pyramid[0])
        return ImageFeatures(
            pooled=patch_features.mean(dim=(-2, -1)),
            patch_features=patch_features,
            intermediates=tuple(available[index] for index in intermediates),
        )

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of sentences; the sentence encoder itself is frozen."""
        with torch.no_grad():
            features = self.text(prompts)
        return TextFeatures(
            pooled=self.text_projection(features.pooled),
            words=features.words,
            is_word=features.is_word,
        )


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: maps at strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_WIDTH, kernel=3, stride=2)
        widths = [STEM_WIDTH, *(stage[1] for stage in STAGES)]
        self.stages = nn.ModuleList()
        for (expansion, _, count, stride, kernel), (before, width) in zip(
            STAGES, pairwise(widths), strict=True
        ):
            blocks = [InvertedResidual(before, width, expansion, kernel, stride)]
            blocks += [InvertedResidual(width, width, expansion, kernel) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))

    def freeze(self, stages: int) -> None:
        """Keep the stem and the first stages as they are in training."""
        for part in (self.stem, *self.stages[:stages]):
            part.requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """The last map of each stride, the finest first."""
        x = self.stem(images)
        pyramid = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in (1, 2, 4, 6):
                pyramid.append(x)
        return pyramid


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shape allows."""

    def __init__(
        self, before: int, width: int, expansion: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        hidden = before * expansion
        self.expand = ConvNorm(before, hidden, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, width, kernel=1, activation=False)
        self.residual = stride == 1 and before == width

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The filtered map."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless switched off, ReLU6."""

    def __init__(
        self,
        before: int,
        width: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if groups == 1 else GroupedConv2d
        self.conv = convolution(
            before, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
        self.activation = activation

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The filtered map."""
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.activation else x


class GroupedConv2d(nn.Conv2d):
    """A convolution in groups, trained on the CPU in single precision under autocast too.

    Gradients of depthwise filters in bfloat16 take 3 to 16 times as long there, which is most of a
    training step.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The filtered map, of the type of ``x``."""
        if not (torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class PyramidFusion(nn.Module):
    """Strides 8, 16, 32 and the whole image, side by side, mixed by two 3x3 convolutions."""

    def __init__(self, *, width: int, lateral_width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, lateral_width, 1) for c in PYRAMID_WIDTHS[1:])
        self.context = nn.Conv2d(PYRAMID_WIDTHS[-1], lateral_width, 1)
        self.mix = nn.Sequential(
            ConvNorm(3 * lateral_width, width, kernel=3), ConvNorm(width, width, kernel=3)
        )

    def forward(self, pyramid: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """One map at the stride of the first."""
        size = pyramid[0].shape[-2:]
        context = self.context(pyramid[-1].mean(dim=(-2, -1), keepdim=True))
        maps = [lateral(level) for lateral, level in zip(self.laterals, pyramid, strict=True)]
        maps[-1] = maps[-1] + context
        maps = [
            m if m.shape[-2:] == size else F.interpolate(m, size=size, mode="bilinear")
            for m in maps
        ]
        return self.mix(torch.cat(maps, dim=1))
