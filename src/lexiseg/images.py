"""Pictures for torch: tensors read as well, and Preprocess, the way into a model and back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from lexiseg.pictures.preparation import Preparation
from lexiseg.pictures.reading import MAX_PIXELS as MAX_PIXELS
from lexiseg.pictures.reading import ImageError as ImageError
from lexiseg.pictures.reading import PictureSource, read_picture
from lexiseg.pictures.reading import read_label_map as read_label_map
from lexiseg.pictures.reading import source_name as source_name

ImageSource = PictureSource | Tensor


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as upright RGB: EXIF orientation applied, transparency laid over white.

    Args:
        source: as for :func:`lexiseg.pictures.reading.read_picture`; or a tensor of H x W,
            H x W x 3 or 3 x H x W (which is how 3 x H x 3 is read), of an array's numbers.
        max_pixels: a larger picture is refused, a file before it is decoded.

    Raises:
        ImageError: the picture is missing, damaged, empty, too large or of another format.
        TypeError: ``source`` is something else.
    """
    if isinstance(source, Tensor):
        source = _channels_last(source)
    return read_picture(source, max_pixels=max_pixels)


def _channels_last(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
    if tensor.ndim == 3 and tensor.shape[0] == 3:
        tensor = rearrange(tensor, "C H W -> H W C")
    return tensor.numpy()


@dataclass(frozen=True)
class Preprocess(Preparation):
    """How pixels must arrive, as tensors; and exactly back for scores."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 h w"]:
        """The normalised tensor of one RGB image."""
        return self.normalise(torch.tensor(self.resized(image)).permute(2, 0, 1).float())

    def normalise(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """RGB of 0 to 255 at its final aspect-keeping size, normalised, padded and squashed."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        pixels = (pixels - mean) / std
        pad_height, pad_width = (-n % self.pad_multiple for n in pixels.shape[-2:])
        pixels = F.pad(pixels, (0, pad_width, 0, pad_height))
        return pixels if self.squash is None else _bilinear(pixels, self.squash)

    def restore(
        self, scores: Float[Tensor, "T h w"], size: tuple[int, int]
    ) -> Float[Tensor, "T H W"]:
        """Scores of the prepared image, brought to the original ``size`` (height, width)."""
        if self.pad_multiple > 1 and self.crop_padding:
            before, padded = self.resized_size(*size), self.padded_size(*size)
            if tuple(scores.shape[-2:]) != padded:
                scores = _bilinear(scores, padded)
            scores = scores[:, : before[0], : before[1]]
        return _bilinear(scores, size)


class Prepared(NamedTuple):
    """A picture's name, where it has one, its pixels, and the tensor that a model gets."""

    source: str | None
    image: UInt8[np.ndarray, "H W 3"]
    view: Float[Tensor, "3 h w"]


def prepared_batches(
    sources: Iterable[ImageSource], preprocess: Preprocess, *, size: int, max_pixels: int
) -> Iterator[list[Prepared]]:
    """Pictures as they are asked for, so many neighbours together that are prepared to one size.

    Raises:
        ImageError: a picture cannot be read, or is too narrow for the preparation.
    """
    batch: list[Prepared] = []
    for source in sources:
        image = read_image(source, max_pixels=max_pixels)
        preprocess.check_size(image.shape[0], image.shape[1], max_pixels=max_pixels)
        each = Prepared(source_name(source), image, preprocess(image))
        if batch and batch[-1].view.shape != each.view.shape:
            yield batch
            batch = []
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _bilinear(maps: Float[Tensor, "C _ _"], size: tuple[int, int]) -> Float[Tensor, "C _ _"]:
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
