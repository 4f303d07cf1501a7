"""The small model's projector: fine maps of the image, and where a pixel lies among what fits."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.methods.cris.neck import resized, with_coordinates
from lexiseg.methods.cris.projector import KERNEL, Projector, convolve_each, doubled

PLACES = 3  # maps that tell where a pixel lies among all that a sentence may mean


class FineProjector(Projector):
    """The projector with fine maps of the image added after each doubling of the grid.

    A sentence's kernel reads the place of a pixel too, so that "left" tilts its logits.

    Args:
        dim: channels of the decoder's cells.
        state_width: channels of the sentence's state.
        detail_widths: channels of the fine maps, those of stride 8 first.
        contrastive: whether the sentence makes the kernel.
    """

    def __init__(
        self, *, dim: int, state_width: int, detail_widths: Sequence[int], contrastive: bool
    ) -> None:
        super().__init__(dim=dim, state_width=state_width)
        self.kernel = nn.Linear(state_width, (self.width + PLACES) * KERNEL * KERNEL + 1)
        self.details = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in detail_widths)
        self.plain = None if contrastive else nn.Conv2d(self.width, 1, 1)
        last = self.plain or self.kernel
        if self.plain is not None:
            del self.kernel, self.conv3
        nn.init.zeros_(last.weight)  # so that at first the logits are the cost
        nn.init.zeros_(cast(Tensor, last.bias))

    def of_images(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> tuple[Tensor, ...]:
        """The fine maps at the projector's width; done once for an image."""
        return tuple(project(each) for project, each in zip(self.details, maps, strict=True))

    def with_details(
        self,
        cells: Float[Tensor, "B D h w"],
        state: Float[Tensor, "B S"],
        details: Sequence[Float[Tensor, "B D _ _"]],
        places: Float[Tensor, "B P _ _"],
    ) -> Float[Tensor, "B 1 H W"]:
        """Logits on the grid of the finest map, of each map for the sentence of its row."""
        pixels = cells
        for step, detail in zip((self.conv1, self.conv2), details, strict=True):
            pixels = step(_fitted(doubled(pixels), detail) + detail)
        if self.plain is not None:
            return self.plain(pixels)
        placed = torch.cat([self.conv3(pixels), resized(places, _grid(pixels))], dim=1)
        return convolve_each(placed, self.kernel(state))


def relative_places(
    cost: Float[Tensor, "B 1 h w"], *, gain: Tensor, offset: Tensor
) -> Float[Tensor, "B P h w"]:
    """Where each cell lies among all cells that fit the sentence: across, down, and how far off.

    The middle of what fits is 0, its spread (standard deviation) 1, cut off at 3. What does not fit
    is 0 too, so that "left" lifts the left one of two objects and not the ground beside it.

    Args:
        cost: cosine of each cell and the sentence.
        gain: of the cosine as a logit.
        offset: likewise.
    """
    fits = (gain * cost + offset).detach().sigmoid()
    weights = fits**2  # so that many poor fits count little
    weights = weights / weights.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    axes = with_coordinates(cost)[:, 1:]
    middle = (weights * axes).sum(dim=(2, 3), keepdim=True)
    spread = (weights * (axes - middle) ** 2).sum(dim=(2, 3), keepdim=True).sqrt()
    places = ((axes - middle) / spread.clamp(min=0.05)).clamp(-3, 3)
    return torch.cat([places, places.norm(dim=1, keepdim=True)], dim=1) * fits


def _grid(x: Float[Tensor, "B C h w"]) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _fitted(x: Float[Tensor, "B C _ _"], like: Float[Tensor, "B C h w"]) -> Tensor:
    """The map on another's grid, which differs where a side is odd."""
    return x if _grid(x) == _grid(like) else resized(x, _grid(like))
