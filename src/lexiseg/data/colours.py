"""The colour changes of SSD (Liu et al., ECCV 2016, section 2.2), as several papers train with."""

import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "H W 3"]

BRIGHTNESS = 32  # of 255
FACTORS = (0.5, 1.5)  # of contrast and of saturation
HUE = 18  # of 180, the whole circle


def ssd_colour_jitter(image: Pixels, *, generator: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation and hue, each changed half of the time.

    Contrast comes second or last. After each change the picture is one of 8 bits again, and hue and
    saturation are changed in HSV of 8 bits, as published.
    """
    image = _brightness(image, generator)
    contrast_first = generator.random() < 0.5
    if contrast_first:
        image = _contrast(image, generator)
    image = _hue(_saturation(image, generator), generator)
    return image if contrast_first else _contrast(image, generator)


def to_hsv(image: Pixels) -> Pixels:
    """Hue in steps of two degrees (0 to 179), saturation and value (0 to 255)."""
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    width = np.maximum(spread, 1)
    sector = np.where(
        value == red,
        (green - blue) / width,
        np.where(value == green, 2 + (blue - red) / width, 4 + (red - green) / width),
    )
    hue = np.floor(30 * sector + 0.5) % 180
    saturation = np.floor(255 * spread / np.maximum(value, 1) + 0.5)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)


def from_hsv(hsv: Pixels) -> Pixels:
    """RGB of what :func:`to_hsv` gives."""
    hue, saturation, value = np.moveaxis(hsv.astype(np.float32), -1, 0)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: where on the circle each is weakest
        place = (offset + hue / 30) % 6
        missing = np.clip(np.minimum(place, 4 - place), 0, 1)
        channels.append(value * (1 - missing * saturation / 255))
    return np.stack(channels, axis=-1).astype(np.uint8)


def _brightness(image: Pixels, generator: np.random.Generator) -> Pixels:
    if generator.random() < 0.5:
        return _scale(image, plus=generator.uniform(-BRIGHTNESS, BRIGHTNESS))
    return image


def _contrast(image: Pixels, generator: np.random.Generator) -> Pixels:
    if generator.random() < 0.5:
        return _scale(image, factor=generator.uniform(*FACTORS))
    return image


def _saturation(image: Pixels, generator: np.random.Generator) -> Pixels:
    if generator.random() < 0.5:
        hsv = to_hsv(image)
        hsv[..., 1] = _scale(hsv[..., 1], factor=generator.uniform(*FACTORS))
        return from_hsv(hsv)
    return image


def _hue(image: Pixels, generator: np.random.Generator) -> Pixels:
    if generator.random() < 0.5:
        hsv = to_hsv(image)
        turn = int(generator.integers(-HUE, HUE, endpoint=True))
        hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
        return from_hsv(hsv)
    return image


def _scale(
    numbers: UInt8[np.ndarray, "*S"], *, factor: float = 1.0, plus: float = 0.0
) -> UInt8[np.ndarray, "*S"]:
    """Factor and sum, then cut off (not rounded) to 8 bits."""
    return np.clip(numbers.astype(np.float32) * factor + plus, 0, 255).astype(np.uint8)
