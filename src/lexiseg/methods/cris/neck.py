"""The neck: three maps of the image and the sentence, merged at the middle stride (section 3.1).

Letters beyond the library's: D width of the merged map, S width of the sentence's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.blocks import ConvNormReLU


@dataclass(frozen=True)
class ImageMaps:
    """What the neck makes of an image before it knows the sentence.

    Attributes:
        fine: of C3, on the grid of C4.
        middle: of C4.
        coarse: of C5, on its own grid.
    """

    fine: Float[Tensor, "B _ h w"]
    middle: Float[Tensor, "B _ h w"]
    coarse: Float[Tensor, "B _ _ _"]

    def repeated(self, times: int) -> "ImageMaps":
        """Each image so many times in a row."""
        return ImageMaps(
            *(
                maps.repeat_interleave(times, dim=0)
                for maps in (self.fine, self.middle, self.coarse)
            )
        )


class StateProjection(nn.Sequential):
    """The sentence's state, brought to the width of the coarsest map."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.activation = nn.ReLU()


class Neck(nn.Module):
    """Cross-modal feature pyramid: eq. 1 to 4.

    Args:
        image_widths: channels of C3, C4 and C5.
        widths: channels to which they are brought; the merged map has those of the second.
        state_width: channels of the sentence's state.
    """

    def __init__(
        self, *, image_widths: Sequence[int], widths: Sequence[int], state_width: int
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.state_projection = StateProjection(state_width, coarse)
        self.project_coarse = ConvNormReLU(image_widths[2], coarse, kernel=1)
        self.product_norm = nn.BatchNorm2d(coarse)
        self.project_middle = ConvNormReLU(image_widths[1], middle, kernel=3)
        self.merge_middle = ConvNormReLU(middle + coarse, middle, kernel=1)
        self.project_fine = ConvNormReLU(image_widths[0], fine, kernel=3)
        self.merge_fine = ConvNormReLU(fine + middle, middle, kernel=1)
        self.gather_coarse = ConvNormReLU(coarse, middle, kernel=3)
        self.gather_middle = ConvNormReLU(middle, middle, kernel=3)
        self.gather_fine = ConvNormReLU(middle, middle, kernel=3)
        self.gather = ConvNormReLU(3 * middle, middle, kernel=1)
        self.locate = ConvNormReLU(middle + 2, middle, kernel=3)
        self.smooth = ConvNormReLU(middle, middle, kernel=3)

    def of_images(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> ImageMaps:
        """All that no sentence takes part in, from C3, C4 and C5; done once for an image."""
        fine, middle, coarse = maps
        grid = (middle.shape[2], middle.shape[3])
        return ImageMaps(
            # Published at twice the grid of C4, where this is the mean of 2 x 2 cells.
            fine=F.adaptive_avg_pool2d(self.project_fine(fine), grid),
            middle=self.project_middle(middle),
            coarse=self.project_coarse(coarse),
        )

    def forward(self, images: ImageMaps, state: Float[Tensor, "B S"]) -> Float[Tensor, "B D h w"]:
        """The merged map of each image with the sentence of its row."""
        grid = (images.middle.shape[2], images.middle.shape[3])
        sentence = self.state_projection(state)[:, :, None, None]
        coarse = F.relu(self.product_norm(images.coarse * sentence))  # eq. 1
        middle = self.merge_middle(torch.cat([images.middle, resized(coarse, grid)], dim=1))
        fine = self.merge_fine(torch.cat([images.fine, middle], dim=1))  # eq. 2
        gathered = self.gather(
            torch.cat(
                [
                    self.gather_fine(fine),
                    self.gather_middle(middle),
                    resized(self.gather_coarse(coarse), grid),
                ],
                dim=1,
            )
        )  # eq. 3
        return self.smooth(self.locate(with_coordinates(gathered)))  # eq. 4


def with_coordinates(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C2 h w"]:
    """The map with two more channels: x, then y, each from -1 to 1 over its axis."""
    rows = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)
    columns = torch.linspace(-1, 1, x.shape[3], device=x.device, dtype=x.dtype)
    y, across = torch.meshgrid(rows, columns, indexing="ij")
    coordinates = torch.stack([across, y]).expand(len(x), -1, -1, -1)
    return torch.cat([x, coordinates], dim=1)


def resized(x: Float[Tensor, "B C _ _"], grid: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """The map on another grid, bilinear."""
    return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
