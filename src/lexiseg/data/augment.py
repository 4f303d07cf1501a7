"""Joint changes to a photograph and its label map, each driven by the generator it is given."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

Pixels = UInt8[np.ndarray, "H W 3"]
LabelMap = UInt8[np.ndarray, "H W"]
PAD_COLOUR = (128, 128, 128)


def random_resized_crop(
    image: Pixels,
    label_map: LabelMap,
    *,
    size: int,
    longest: tuple[int, int],
    stretch: float,
    ignore_index: int,
    generator: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "{size} {size} 3"], UInt8[np.ndarray, "{size} {size}"]]:
    """A square of ``size`` pixels out of the picture at a random scale.

    Args:
        image: the photograph.
        label_map: its class ids.
        size: side of the result; what the picture does not cover is grey, and ignored.
        longest: range of the longer side after resizing, drawn evenly on a logarithmic scale.
        stretch: the aspect ratio is changed by at most this factor.
        ignore_index: id of the pixels outside the picture.
        generator: the source of chance.
    """
    height, width = label_map.shape
    low, high = (math.log(length) for length in longest)
    scale = math.exp(generator.uniform(low, high)) / max(height, width)
    squeeze = math.exp(generator.uniform(-1, 1) * math.log(stretch) / 2)
    height = max(1, round(height * scale * squeeze))
    width = max(1, round(width * scale / squeeze))
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    labels = Image.fromarray(label_map).resize((width, height), Image.Resampling.NEAREST)
    top = _random_offset(height, size, generator)
    left = _random_offset(width, size, generator)
    canvas = Image.new("RGB", (size, size), PAD_COLOUR)
    canvas.paste(resized, (-left, -top))
    label_canvas = Image.new("L", (size, size), ignore_index)
    label_canvas.paste(labels, (-left, -top))
    return np.array(canvas), np.array(label_canvas)


def random_flip(
    image: Pixels, label_map: LabelMap, *, generator: np.random.Generator
) -> tuple[Pixels, LabelMap]:
    """Left and right exchanged, half of the time."""
    if generator.random() < 0.5:
        return image[:, ::-1].copy(), label_map[:, ::-1].copy()
    return image, label_map


def colour_jitter(image: Pixels, *, strength: float, generator: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each scaled by 1 - ``strength`` to 1 + ``strength``."""
    picture = Image.fromarray(image)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(generator.uniform(1 - strength, 1 + strength))
    return np.array(picture)


def paste_cutout(
    image: Pixels,
    label_map: LabelMap,
    *,
    cutout: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    class_id: int,
    share: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[Pixels, LabelMap]:
    """A cutout laid over the photograph at a random place (a made picture, not a photograph).

    Args:
        image: the photograph.
        label_map: its class ids.
        cutout: the object's pixels.
        alpha: its opacity; where it is at least half, the label becomes ``class_id``.
        class_id: id of the object.
        share: range of the object's longer side, as a share of the photograph's shorter side.
        generator: the source of chance.
    """
    height, width = label_map.shape
    scale = generator.uniform(*share) * min(height, width) / max(alpha.shape)
    size = (max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale)))
    thing, opacity = Image.fromarray(cutout), Image.fromarray(alpha)
    if generator.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        opacity = opacity.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    thing, opacity = thing.resize(size), opacity.resize(size)
    corner = (
        int(generator.integers(-size[0] // 4, max(1, width - size[0] * 3 // 4))),
        int(generator.integers(-size[1] // 4, max(1, height - size[1] * 3 // 4))),
    )
    picture, labels = Image.fromarray(image), Image.fromarray(label_map)
    picture.paste(thing, corner, opacity)
    labels.paste(
        class_id,
        (*corner, corner[0] + size[0], corner[1] + size[1]),
        opacity.point(lambda a: 255 if a >= 128 else 0),
    )
    return np.array(picture), np.array(labels)


def _random_offset(length: int, size: int, generator: np.random.Generator) -> int:
    """Where a window of ``size`` begins in ``length``; negative if it is the larger one."""
    slack = length - size
    return int(generator.integers(min(slack, 0), max(slack, 0) + 1))
