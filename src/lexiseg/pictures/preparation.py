"""What pixels are prepared to: sizes, filter, mean, padding. Numbers alone, without torch."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PILImage

from lexiseg.pictures.reading import ImageError

FILTERS = {
    "bilinear": PILImage.Resampling.BILINEAR,
    "bicubic": PILImage.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preparation:
    """How pixels must arrive: resize, normalise, pad, squash.

    Attributes:
        mean: of each channel, on the scale 0 to 255.
        std: of each channel, on the scale 0 to 255.
        shorter: length of the shorter side after Pillow's antialiased resize that keeps the aspect
            ratio; None leaves the size as it is.
        longest: the longer side is not made longer than this, whatever ``shorter`` says.
        filter: Pillow's filter for that resize.
        multiple: each side is rounded to the nearest multiple of this, at least one multiple.
        pad_multiple: zeros are added to the normalised image, right and below, up to a multiple of
            this.
        crop_padding: scores are cropped by that padding on their way back; False stretches them,
            padding included, over the image as some authors' evaluation does.
        squash: (height, width) to which the padded image is then stretched, its aspect ratio lost
            (bilinear, not antialiased: some authors' evaluation).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shorter: int | None = None
    longest: int | None = None
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    multiple: int = 1
    pad_multiple: int = 1
    crop_padding: bool = True
    squash: tuple[int, int] | None = None

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize that keeps the aspect ratio."""
        scale = 1.0
        if self.shorter is not None:
            scale = self.shorter / min(height, width)
        if self.longest is not None:
            scale = min(scale, self.longest / max(height, width))
        return self._round(height * scale), self._round(width * scale)

    def check_size(self, height: int, width: int, *, max_pixels: int) -> None:
        """Refuse a picture that the resize makes too large, such as a strip of 1 x 10000 pixels.

        Raises:
            ImageError: it has more than ``max_pixels`` then.
        """
        resized = self.resized_size(height, width)
        if resized[0] * resized[1] > max_pixels:
            raise ImageError(
                f"an image of {height} x {width} pixels is too narrow for this model, which would "
                f"work at {resized[0]} x {resized[1]}; cut it into pieces"
            )

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after that resize and the padding."""
        height, width = self.resized_size(height, width)
        return height + -height % self.pad_multiple, width + -width % self.pad_multiple

    def resized(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image after that resize."""
        height, width = self.resized_size(image.shape[0], image.shape[1])
        if (height, width) == image.shape[:2]:
            return image
        filtered = PILImage.fromarray(image).resize((width, height), FILTERS[self.filter])
        return np.asarray(filtered)

    def _round(self, length: float) -> int:
        return max(self.multiple, int(length / self.multiple + 0.5) * self.multiple)
