"""Joint changes to a photograph and its label maps, each driven by the generator it is given.

Label maps come as a tuple: the truth, and beside it others that must follow the same pixels, such
as a teacher's. They have 8 or 16 bits, and the largest number of those, 255 or 65535, marks pixels
that nobody judged.
"""

import math

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageEnhance

from lexiseg.data.colours import ssd_colour_jitter

Pixels = UInt8[np.ndarray, "H W 3"]
LabelMap = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
LabelMaps = tuple[LabelMap, ...]
Cropped = tuple[
    UInt8[np.ndarray, "h w 3"],
    tuple[UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"], ...],
]
PAD_COLOUR = (128, 128, 128)


def ignored_id(label_map: LabelMap) -> int:
    """The id of pixels that nobody judged: 255 with 8 bits, 65535 with 16."""
    return int(np.iinfo(label_map.dtype).max)


def widen(label_map: LabelMap) -> UInt16[np.ndarray, "H W"]:
    """The same labels in 16 bits."""
    wide = label_map.astype(np.uint16)
    wide[label_map == ignored_id(label_map)] = np.iinfo(np.uint16).max
    return wide


def random_resized_crop(
    image: Pixels,
    label_maps: LabelMaps,
    *,
    size: int,
    longest: tuple[int, int],
    stretch: float,
    generator: np.random.Generator,
) -> Cropped:
    """A square of ``size`` pixels out of the picture at a random scale.

    Args:
        image: the photograph.
        label_maps: its class ids.
        size: side of the result; what the picture does not cover is grey, and ignored.
        longest: range of the longer side after resizing, drawn evenly on a logarithmic scale.
        stretch: the aspect ratio is changed by at most this factor.
        generator: the source of chance.
    """
    height, width = _random_size(image, longest, stretch, generator)
    resized, resized_maps = _resized(image, label_maps, (height, width))
    top = _random_offset(height, size, generator)
    left = _random_offset(width, size, generator)
    canvas = Image.new("RGB", (size, size), PAD_COLOUR)
    canvas.paste(resized, (-left, -top))
    cropped = []
    for label_map, labels in zip(label_maps, resized_maps, strict=True):
        label_canvas = Image.new("I", (size, size), ignored_id(label_map))
        label_canvas.paste(labels, (-left, -top))
        cropped.append(np.array(label_canvas).astype(label_map.dtype))
    return np.array(canvas), tuple(cropped)


def random_resize(
    image: Pixels,
    label_maps: LabelMaps,
    *,
    multiple: int,
    longest: tuple[int, int],
    stretch: float,
    generator: np.random.Generator,
) -> Cropped:
    """The whole picture at a random scale, each side a multiple of ``multiple`` pixels.

    The other arguments are those of :func:`random_resized_crop`.
    """
    sides = _random_size(image, longest, stretch, generator)
    height, width = (max(1, round(side / multiple)) * multiple for side in sides)
    resized, resized_maps = _resized(image, label_maps, (height, width))
    pairs = zip(label_maps, resized_maps, strict=True)
    return np.array(resized), tuple(np.array(labels).astype(each.dtype) for each, labels in pairs)


def varied_crop(
    image: Pixels,
    label_maps: LabelMaps,
    *,
    size: int | None,
    longest: tuple[int, int],
    stretch: float,
    jitter: float,
    multiple: int = 1,
    generator: np.random.Generator,
) -> Cropped:
    """A random resized crop, a flip half of the time, and other colours.

    ``size`` None takes the whole picture (:func:`random_resize`, which alone heeds ``multiple``).
    """
    if size is None:
        image, label_maps = random_resize(
            image,
            label_maps,
            multiple=multiple,
            longest=longest,
            stretch=stretch,
            generator=generator,
        )
    else:
        image, label_maps = random_resized_crop(
            image, label_maps, size=size, longest=longest, stretch=stretch, generator=generator
        )
    image, label_maps = random_flip(image, label_maps, generator=generator)
    return colour_jitter(image, strength=jitter, generator=generator), label_maps


def catseg_crop(
    image: Pixels,
    label_maps: LabelMaps,
    *,
    size: int = 384,
    longest: int = 1333,
    generator: np.random.Generator,
) -> Cropped:
    """A square of ``size`` pixels, changed as the authors of CAT-Seg train theirs.

    The shorter side becomes ``size``, then a random crop, the colours of SSD, a flip half of the
    time, and where the picture is still too small (its longer side may not exceed ``longest``) grey
    to the right and below, whose pixels are ignored.
    """
    image, label_maps = resize_shorter(image, label_maps, shorter=size, longest=longest)
    image, label_maps = random_crop(image, label_maps, size=size, generator=generator)
    image = ssd_colour_jitter(image, generator=generator)
    image, label_maps = random_flip(image, label_maps, generator=generator)
    return pad(image, label_maps, size=size)


def resize_shorter(image: Pixels, label_maps: LabelMaps, *, shorter: int, longest: int) -> Cropped:
    """The shorter side at a length, or less where the longer one would exceed ``longest``.

    The photograph is resized smoothly. A label is that of the upper left pixel of what it stands
    for, as in the authors' code of CAT-Seg, and not of the middle one.
    """
    before = image.shape[:2]
    scale = min(shorter / min(before), longest / max(before))
    height, width = (max(1, int(length * scale + 0.5)) for length in before)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    rows = np.arange(height) * before[0] // height
    columns = np.arange(width) * before[1] // width
    return np.array(resized), tuple(each[rows[:, None], columns] for each in label_maps)


def random_crop(
    image: Pixels, label_maps: LabelMaps, *, size: int, generator: np.random.Generator
) -> Cropped:
    """A random square of ``size`` pixels; a side that is shorter is kept whole."""
    height, width = image.shape[:2]
    top = int(generator.integers(max(0, height - size) + 1))
    left = int(generator.integers(max(0, width - size) + 1))
    window = np.s_[top : top + size, left : left + size]
    return image[window], tuple(each[window] for each in label_maps)


def pad(image: Pixels, label_maps: LabelMaps, *, size: int) -> Cropped:
    """Grey to the right and below up to a square of ``size`` pixels, which is ignored."""
    height, width = image.shape[:2]
    missing = ((0, max(0, size - height)), (0, max(0, size - width)))
    padded = np.pad(image, (*missing, (0, 0)), constant_values=PAD_COLOUR[0])
    maps = (np.pad(each, missing, constant_values=ignored_id(each)) for each in label_maps)
    return padded, tuple(maps)


def random_flip(
    image: Pixels, label_maps: LabelMaps, *, generator: np.random.Generator
) -> tuple[Pixels, LabelMaps]:
    """Left and right exchanged, half of the time."""
    if generator.random() < 0.5:
        return image[:, ::-1].copy(), tuple(each[:, ::-1].copy() for each in label_maps)
    return image, label_maps


def colour_jitter(image: Pixels, *, strength: float, generator: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each scaled by 1 - ``strength`` to 1 + ``strength``."""
    picture = Image.fromarray(image)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(generator.uniform(1 - strength, 1 + strength))
    return np.array(picture)


def paste_cutout(
    image: Pixels,
    label_maps: LabelMaps,
    *,
    cutout: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    class_ids: tuple[int, ...],
    share: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[Pixels, LabelMaps]:
    """A cutout laid over the photograph at a random place (a made picture, not a photograph).

    Args:
        image: the photograph.
        label_maps: its class ids.
        cutout: the object's pixels.
        alpha: its opacity; where it is at least half, the labels change.
        class_ids: in each label map, the id of the object.
        share: range of the object's longer side, as a share of the photograph's shorter side.
        generator: the source of chance.
    """
    height, width = image.shape[:2]
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
    picture = Image.fromarray(image)
    picture.paste(thing, corner, opacity)
    solid = opacity.point(lambda a: 255 if a >= 128 else 0)
    box = (*corner, corner[0] + size[0], corner[1] + size[1])
    pasted = []
    for label_map, class_id in zip(label_maps, class_ids, strict=True):
        labels = _to_picture(label_map)
        labels.paste(class_id, box, solid)
        pasted.append(np.array(labels).astype(label_map.dtype))
    return np.array(picture), tuple(pasted)


def _to_picture(label_map: LabelMap) -> Image.Image:
    """In Pillow's mode of 32 bits, which it resizes and pastes like 8 bits."""
    return Image.fromarray(label_map.astype(np.int32))


def _random_size(
    image: Pixels, longest: tuple[int, int], stretch: float, generator: np.random.Generator
) -> tuple[int, int]:
    """Height and width of the picture after random scaling and stretching."""
    height, width = image.shape[:2]
    low, high = (math.log(length) for length in longest)
    scale = math.exp(generator.uniform(low, high)) / max(height, width)
    squeeze = math.exp(generator.uniform(-1, 1) * math.log(stretch) / 2)
    return max(1, round(height * scale * squeeze)), max(1, round(width * scale / squeeze))


def _resized(
    image: Pixels, label_maps: LabelMaps, size: tuple[int, int]
) -> tuple[Image.Image, list[Image.Image]]:
    """The picture and its labels at a height and width, as Pillow's."""
    sides = size[::-1]
    picture = Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR)
    labels = [_to_picture(each).resize(sides, Image.Resampling.NEAREST) for each in label_maps]
    return picture, labels


def _random_offset(length: int, size: int, generator: np.random.Generator) -> int:
    """Where a window of ``size`` begins in ``length``; negative if it is the larger one."""
    slack = length - size
    return int(generator.integers(min(slack, 0), max(slack, 0) + 1))
