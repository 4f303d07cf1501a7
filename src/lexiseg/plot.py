"""Overlay, heat map, legend and side by side, drawn with Pillow alone."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt, UInt8
from PIL import Image, ImageDraw, ImageFont

from lexiseg.palette import Colour

_MARGIN = 12
_INK = (30, 30, 30)
_MAX_LEGEND = 24


def shrunk(
    image: UInt8[np.ndarray, "H W 3"] | None, maps: Shaped[np.ndarray, "*T H W"], longest: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Shaped[np.ndarray, "*T h w"]]:
    """The picture and what lies over it, their longer side at most ``longest`` pixels.

    Args:
        image: RGB; None: grey.
        maps: of labels, or masks, of which the nearest pixel is taken.
        longest: in pixels; nothing is enlarged.
    """
    height, width = maps.shape[-2:]
    if image is None:
        image = np.full((height, width, 3), 128, dtype=np.uint8)
    scale = longest / max(height, width)
    if scale >= 1:
        return image, maps
    small = max(1, round(height * scale)), max(1, round(width * scale))
    step = max(1, int(0.25 / scale))  # of a very large picture not every pixel is needed
    image = np.ascontiguousarray(image[::step, ::step])
    rows = np.arange(small[0]) * height // small[0]
    columns = np.arange(small[1]) * width // small[1]
    picture = np.asarray(Image.fromarray(image).resize(small[::-1]))
    return picture, maps[..., rows[:, None], columns]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    label_map: UInt[np.ndarray, "H W"],
    palette: UInt8[np.ndarray, "T 3"],
    *,
    opacity: float = 0.55,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with each label's pixels tinted, and white lines where labels meet.

    Args:
        image: RGB.
        label_map: the index of each pixel's label; what lies beyond the palette is left as it is.
        palette: the colour of each label.
        opacity: weight of the colour, 0 to 1.
    """
    result = image.copy()
    for index in np.unique(label_map):
        if index < len(palette):
            here = label_map == index
            mixed = image[here] * np.float32(1 - opacity) + palette[index] * np.float32(opacity)
            result[here] = mixed.round().astype(np.uint8)
    result[_borders(label_map)] = 255
    return result


# From the smallest value to the largest, even steps apart.
_HEAT = np.array(
    [(49, 54, 149), (116, 173, 209), (254, 224, 144), (244, 109, 67), (165, 0, 38)], np.float32
)


def heat(
    image: UInt8[np.ndarray, "H W 3"], values: Float[np.ndarray, "H W"], *, opacity: float = 0.6
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, tinted blue where a map has its smallest value to red where the largest.

    Args:
        image: RGB.
        values: of any range; a flat map is blue.
        opacity: weight of the colour, 0 to 1.
    """
    low, high = float(values.min()), float(values.max())
    place = (values - low) / (high - low if high > low else 1.0) * (len(_HEAT) - 1)
    before = np.clip(place.astype(int), 0, len(_HEAT) - 2)
    part = (place - before)[..., None].astype(np.float32)
    colour = _HEAT[before] * (1 - part) + _HEAT[before + 1] * part
    return (image * np.float32(1 - opacity) + colour * np.float32(opacity)).round().astype(np.uint8)


def draw_points(
    picture: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "_ 2"]
) -> UInt8[np.ndarray, "H W 3"]:
    """White dots with a black rim at x and y in pixels."""
    canvas = Image.fromarray(picture)
    draw, radius = ImageDraw.Draw(canvas), max(3, round(max(canvas.size) / 100))
    for x, y in points.tolist():
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), "white", "black", 2)
    return np.array(canvas)


def _borders(label_map: Shaped[np.ndarray, "H W"]) -> Shaped[np.ndarray, "H W"]:
    """True where the neighbour to the right or below has another label."""
    borders = np.zeros(label_map.shape, dtype=bool)
    borders[:, :-1] |= label_map[:, :-1] != label_map[:, 1:]
    borders[:-1] |= label_map[:-1] != label_map[1:]
    return borders


def legend(entries: Sequence[tuple[str, Colour]], *, width: int, size: int = 16) -> Image.Image:
    """A white strip with a coloured square and a text for each entry, in rows.

    Args:
        entries: text and colour, the first ones shown; of more than 24 the rest is only counted.
        width: of the strip; longer texts are cut.
        size: height of the letters.
    """
    font = ImageFont.load_default(size)
    rest = len(entries) - _MAX_LEGEND
    texts = [text for text, _ in entries[:_MAX_LEGEND]]
    texts += [f"and {rest} more"] if rest > 0 else []
    cell_height = size + _MARGIN
    widest = max((font.getlength(text) for text in texts), default=0)
    cell_width = min(int(widest) + size + 3 * _MARGIN, width)
    columns = max(1, width // max(1, cell_width))
    rows = -(-len(texts) // columns)
    strip = Image.new("RGB", (width, rows * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(strip)
    for position, text in enumerate(texts):
        left = position % columns * cell_width + _MARGIN
        top = position // columns * cell_height + _MARGIN
        if position < _MAX_LEGEND:
            draw.rectangle((left, top, left + size, top + size), fill=entries[position][1])
        room = cell_width - size - 2 * _MARGIN
        draw.text((left + size + _MARGIN // 2, top), _cut(text, font, room), fill=_INK, font=font)
    return strip


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """The text, shortened to the room there is."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def with_legend(
    picture: UInt8[np.ndarray, "H W 3"], entries: Sequence[tuple[str, Colour]]
) -> Image.Image:
    """The picture, at least 320 pixels wide with white beside it, above its legend."""
    height, width = picture.shape[:2]
    full_width = max(width, 320)
    strip = legend(entries, width=full_width, size=max(14, min(full_width // 45, 40)))
    canvas = Image.new("RGB", (full_width, height + strip.height), "white")
    canvas.paste(Image.fromarray(picture), ((full_width - width) // 2, 0))
    canvas.paste(strip, (0, height))
    return canvas


def titled(picture: Image.Image, title: str) -> Image.Image:
    """The picture below a white strip with a title, which is cut where it is too long."""
    size = max(14, round(picture.width / 30))
    font = ImageFont.load_default(size)
    canvas = Image.new("RGB", (picture.width, picture.height + size + 2 * _MARGIN), "white")
    text = _cut(title, font, picture.width - 2 * _MARGIN)
    ImageDraw.Draw(canvas).text((_MARGIN, _MARGIN // 2), text, fill=_INK, font=font)
    canvas.paste(picture, (0, size + 2 * _MARGIN))
    return canvas


def side_by_side(pictures: Sequence[Image.Image], *, height: int, columns: int) -> Image.Image:
    """Pictures at one height in rows of so many, for a contact sheet.

    Raises:
        ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("no pictures came; give at least one")
    scaled = [p.resize((max(1, round(p.width * height / p.height)), height)) for p in pictures]
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    width = max(sum(p.width + _MARGIN for p in row) for row in rows) + _MARGIN
    sheet = Image.new("RGB", (width, len(rows) * (height + _MARGIN) + _MARGIN), "white")
    for number, row in enumerate(rows):
        left = _MARGIN
        for picture in row:
            sheet.paste(picture, (left, _MARGIN + number * (height + _MARGIN)))
            left += picture.width + _MARGIN
    return sheet
