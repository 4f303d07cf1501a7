"""The projector: the sentence as a kernel on the pixels (section 3.3), and the contrastive loss."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.blocks import ConvNormReLU
from lexiseg.layers.linear import Pointwise, pointwise

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
        self.conv3 = Pointwise(self.width, self.width)
        self.kernel = nn.Linear(state_width, self.width * KERNEL * KERNEL + 1)

    def forward(
        self, cells: Float[Tensor, "B D h w"], state: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B 1 H W"]:
        """Logits of each map for the sentence of its row."""
        for layer in (self.conv1, self.conv2):
            cells = layer.activation(layer.norm(convolve_doubled(cells, layer.conv.weight)))
        return self.contrast(cells, state)

    def contrast(
        self, pixels: Float[Tensor, "B C h w"], state: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits of up-sampled maps: the last projection, and the kernel of each sentence."""
        return convolve_each(self.conv3(pixels), self.kernel(state))


def convolve_each(
    pixels: Float[Tensor, "B C H W"], kernels: Float[Tensor, "B K"]
) -> Float[Tensor, "B 1 H W"]:
    """Each map convolved with its own kernel, whose last number is its bias.

    A product of all cells with the kernel's nine, whose results are then shifted and added.
    """
    weights = rearrange(kernels[:, :-1], "B (C i j) -> B C (i j)", i=KERNEL, j=KERNEL)
    taps = rearrange(pixels, "B C H W -> B (H W) C") @ weights
    turned = rearrange(taps.flip(2), "B N t -> B t N")  # fold adds where a convolution reads
    logits = F.fold(turned, pixels.shape[2:], KERNEL, padding=KERNEL // 2)
    return logits + kernels[:, -1:, None, None]


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


def convolve_doubled(
    x: Float[Tensor, "B C h w"], weight: Float[Tensor, "K C 3 3"]
) -> Float[Tensor, "B K H W"]:
    """``conv2d(doubled(x), weight, padding=1)`` with a quarter of its work.

    Each cell of the kernel is a linear layer on the channels, and resizing does not touch those: so
    the nine layers run on the coarse grid. Then one small matrix for the rows and one for the
    columns resizes the nine maps, shifts each by its place in the kernel, and adds them up. Where
    gradients are wanted it is done as published, to the last digit.
    """
    if torch.is_grad_enabled():
        return F.conv2d(doubled(x), weight, padding=KERNEL // 2)
    x = x.contiguous(memory_format=torch.channels_last)  # and so all that follows lies right
    kernels = rearrange(weight, "K C i j -> i (j K) C 1 1")
    of_rows = [rearrange(pointwise(x, each), "B jK h w -> B h (w jK)") for each in kernels]
    rows = _resized_rows(x, x.shape[2], "H (i h)") @ torch.cat(of_rows, dim=1)
    rows = rearrange(rows, "B H (w j K) -> B H (w j) K", j=KERNEL, w=x.shape[3])
    return rearrange(_resized_rows(x, x.shape[3], "H (h i)") @ rows, "B H W K -> B K H W")


def _resized_rows(x: Float[Tensor, "B C h w"], length: int, order: str) -> Float[Tensor, "L S"]:
    """What takes the rows of KERNEL maps to the rows, twice as many, of their convolution."""
    one = torch.eye(length, device=x.device, dtype=x.dtype)[None]
    fine = F.interpolate(one, scale_factor=2, mode="linear", align_corners=False)[0]
    shifted = F.pad(fine, (KERNEL // 2, KERNEL // 2)).unfold(1, KERNEL, 1)
    return rearrange(shifted, f"h H i -> {order}")


def doubled(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """The map on a grid twice as fine, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
