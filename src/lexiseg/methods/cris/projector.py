"""The projector: the sentence as a kernel on the pixels (section 3.3), and the contrastive loss."""

from typing import Literal, get_args

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.blocks import ConvNormReLU

Targets = Literal["soft", "hard"]

KERNEL = 3


class Projector(nn.Module):
    """Pixels and sentence brought together (eq. 8), on a grid four times as fine.

    Args:
        dim: channels of the decoder's cells.
        state_width: channels of the sentence's state.
    """

    def __init__(self, *, dim: int, state_width: int) -> None:
        super().__init__()
        self.width = dim // 2
        self.conv1 = ConvNormReLU(dim, dim, kernel=KERNEL)
        self.conv2 = ConvNormReLU(dim, self.width, kernel=KERNEL)
        self.conv3 = nn.Conv2d(self.width, self.width, 1)
        self.kernel = nn.Linear(state_width, self.width * KERNEL * KERNEL + 1)

    def forward(
        self, cells: Float[Tensor, "B D h w"], state: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B 1 H W"]:
        """Logits of each map for the sentence of its row."""
        return self.contrast(self.conv2(doubled(self.conv1(doubled(cells)))), state)

    def contrast(
        self, pixels: Float[Tensor, "B C h w"], state: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits of up-sampled maps: the last projection, and the kernel of each sentence."""
        return convolve_each(self.conv3(pixels), self.kernel(state))


def convolve_each(
    pixels: Float[Tensor, "B C H W"], kernels: Float[Tensor, "B K"]
) -> Float[Tensor, "B 1 H W"]:
    """Each map convolved with its own kernel, whose last number is its bias."""
    weights, bias = kernels[:, :-1], kernels[:, -1]
    weights = rearrange(weights, "B (C i j) -> B C i j", i=KERNEL, j=KERNEL)
    flat = rearrange(pixels, "B C H W -> 1 (B C) H W")
    logits = F.conv2d(flat, weights, bias, padding=KERNEL // 2, groups=len(kernels))
    return rearrange(logits, "1 B H W -> B 1 H W")


def text_to_pixel_loss(
    logits: Float[Tensor, "B T h w"],
    masks: Float[Tensor, "B T H W"],
    *,
    targets: Targets = "soft",
) -> Float[Tensor, ""]:
    """Text-to-pixel contrast (eq. 9 and 10): pixels of the object near the sentence, others far.

    With the similarity as a logit, that is binary cross-entropy; its mean is over all pixels.

    Args:
        logits: of a sentence at each pixel.
        masks: 1 where the sentence's object is, 0 elsewhere, and between on the edges of a mask
            that was resized; brought to the logits' grid by nearest neighbour, as published.
        targets: "soft" takes edges as they come, as published; "hard" rounds them.

    Raises:
        ValueError: no such targets.
    """
    if targets not in get_args(Targets):
        raise ValueError(f"targets={targets!r} is not known; choose one of {get_args(Targets)}")
    small = mask_targets(masks, (logits.shape[2], logits.shape[3]))
    if targets == "hard":
        small = (small >= 0.5).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, small)


def mask_targets(
    masks: Float[Tensor, "B T H W"], grid: tuple[int, int]
) -> Float[Tensor, "B T h w"]:
    """Masks on the grid of the logits, by nearest neighbour."""
    return F.interpolate(masks, size=grid, mode="nearest")


def doubled(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """The map on a grid twice as fine, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
