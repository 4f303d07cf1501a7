"""Boundary refinement: the logits once more doubled, under features of the image's own pixels.

The paper names features of higher resolution as future work; this is our small version of it.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class BoundaryRefinement(nn.Module):
    """Adds to the enlarged logits what two convolutions see in logits and pixels together.

    It begins as plain bilinear enlargement, because its last convolution begins at zero.

    Args:
        width: channels of the features of the pixels.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.pixels = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.mix = nn.Conv2d(1 + width, width, 3, padding=1)
        self.to_logits = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.to_logits.weight)
        nn.init.zeros_(self.to_logits.bias)  # type: ignore[arg-type]

    def project_pixels(
        self, images: Float[Tensor, "B 3 _ _"], size: tuple[int, int]
    ) -> Float[Tensor, "B K H W"]:
        """What the pixels add for every text; ``size`` is twice the grid of the logits."""
        fitting = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        return F.conv2d(self.pixels(fitting), self.mix.weight[:, 1:], self.mix.bias, padding=1)

    def forward(
        self, logits: Float[Tensor, "B t h w"], of_pixels: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B t H W"]:
        """Refined logits, of each text by itself."""
        size = (of_pixels.shape[2], of_pixels.shape[3])
        enlarged = F.interpolate(logits, size=size, mode="bilinear")
        flat = rearrange(enlarged, "B t H W -> (B t) 1 H W")
        own = F.conv2d(flat, self.mix.weight[:, :1], padding=1)
        own = rearrange(own, "(B t) K H W -> B t K H W", B=len(logits)) + of_pixels[:, None]
        change = self.to_logits(rearrange(own.relu(), "B t K H W -> (B t) K H W"))
        return enlarged + rearrange(change, "(B t) 1 H W -> B t H W", B=len(logits))
