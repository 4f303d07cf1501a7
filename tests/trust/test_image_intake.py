"""Pictures of every kind: a mask of exactly their size or one error, and never much memory."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lexiseg import Segmenter
from lexiseg.images import ImageError, read_image
from tests.conftest import Painter
from tests.trust.conftest import little_memory, noise

LABELS = ["red", "green", "blue"]
MEGAPIXELS = 40
MOST_BYTES = 8  # of memory for each pixel, the result's three among them


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(mode: str = "RGB", height: int = 30, width: int = 50) -> Image.Image:
    return Image.fromarray(noise(0, height, width)).convert(mode)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


READABLE: dict[str, Callable[[], bytes]] = {
    "RGB": lambda: file_of(photo()),
    "CMYK": lambda: file_of(photo("CMYK"), "JPEG"),
    "grey": lambda: file_of(photo("L")),
    "grey and alpha": lambda: file_of(photo("LA")),
    "RGB and alpha": lambda: file_of(photo("RGBA")),
    "palette and alpha": lambda: file_of(photo("P"), transparency=b"\0\x80" * 64),
    "palette, one colour clear": lambda: file_of(photo("P"), "GIF", transparency=3),
    "one bit": lambda: file_of(photo("1")),
    "16 bits": lambda: file_of(Image.fromarray(np.full((30, 50), 9999, np.uint16))),
    "floats": lambda: file_of(Image.fromarray(np.full((30, 50), 0.5, np.float32)), "TIFF"),
    "whole numbers of 32 bits": lambda: file_of(Image.new("I", (50, 30), 70_000), "TIFF"),
    "progressive": lambda: file_of(photo(), "JPEG", progressive=True),
    "ICC profile": lambda: file_of(photo(), "JPEG", icc_profile=profile()),
    "damaged ICC profile": lambda: file_of(photo(), "JPEG", icc_profile=b"\0" * 99),
    "damaged EXIF": lambda: file_of(photo(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 64),
    "MPO": lambda: file_of(
        photo(), "MPO", save_all=True, append_images=[photo("L").convert("RGB")]
    ),
    "animation": lambda: file_of(photo(), "GIF", save_all=True, append_images=[photo("L")]),
    "tiled TIFF": lambda: file_of(photo(), "TIFF", compression="tiff_lzw"),
    "lossless WebP": lambda: file_of(photo("RGBA"), "WEBP", lossless=True),
    "bitmap": lambda: file_of(photo(), "BMP"),
}
SIZES = {"1 x 1": (1, 1), "1 x 5000": (1, 5000), "5000 x 1": (5000, 1), "2 x 3": (2, 3)}


@pytest.mark.parametrize("name", READABLE)
def test_the_mask_has_the_size_of_the_picture(name: str) -> None:
    result = Segmenter(Painter(), device="cpu")(READABLE[name](), LABELS)
    assert result.label_map.shape == (30, 50)
    assert result.image is not None
    assert result.image.shape == (30, 50, 3)


@pytest.mark.parametrize("name", SIZES)
def test_of_any_shape(name: str) -> None:
    height, width = SIZES[name]
    result = Segmenter(Painter(), device="cpu")(file_of(photo("RGB", height, width)), LABELS)
    assert result.label_map.shape == (height, width)


REFUSED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"hello",
    "markup": lambda: b"<html><img src=x></html>",
    "SVG": lambda: (
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    ),
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "cut JPEG": lambda: file_of(photo(), "JPEG")[:400],
    "cut PNG": lambda: file_of(photo())[:60],
    "portable pixmap": lambda: file_of(photo(), "PPM"),
    "FITS": lambda: b"SIMPLE  =                    T".ljust(2880),
    "icon": lambda: file_of(photo("RGB", 16, 16), "ICO"),
    "bomb of 17 KiB": lambda: file_of(Image.new("1", (12_000, 12_000))),
    "a pixel too many": lambda: file_of(Image.new("1", (8000, 5001))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_error_in_a_line(name: str) -> None:
    data = REFUSED[name]()
    with little_memory(20), pytest.raises(ImageError) as error:
        Segmenter(Painter(), device="cpu")(data, LABELS)
    assert str(error.value).isprintable()


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(READABLE)),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 60),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_a_mask_of_a_size_or_the_one_error(
    name: str, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(FILES[name])
    for position, value in edits:
        data[position % len(data)] = value
    message, picture = "", np.zeros((1, 1, 3), dtype=np.uint8)
    try:
        picture = read_image(bytes(data[: len(data) - cut]), max_pixels=100_000)
    except ImageError as error:
        message = str(error)
    assert message.isprintable()
    result = Segmenter(PAINTER, device="cpu")(picture, LABELS)
    assert result.label_map.shape == picture.shape[:2]


FILES = {name: make() for name, make in READABLE.items()}
PAINTER = Painter()


def large(mode: str) -> Image.Image:
    return Image.new(mode, (8000, MEGAPIXELS * 125))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("RGB", "JPEG", {}, MOST_BYTES),
        ("RGB", "JPEG", {"orientation": 6}, MOST_BYTES),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}, 11),
        ("CMYK", "JPEG", {}, MOST_BYTES),
        ("RGB", "PNG", {}, MOST_BYTES),
        ("RGBA", "PNG", {}, MOST_BYTES),
        ("P", "PNG", {}, MOST_BYTES),
        ("I;16", "PNG", {}, MOST_BYTES),
        ("RGB", "TIFF", {"compression": "tiff_deflate"}, MOST_BYTES),
        ("RGB", "WEBP", {"lossless": True, "method": 0}, 18),
    ],
)
def test_forty_megapixels_take_little_memory(
    mode: str, kind: str, options: dict[str, object], most: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = options.get("orientation", 1)
    asked = {key: value for key, value in options.items() if key != "orientation"}
    data = file_of(large(mode), kind, exif=exif, **asked)
    with little_memory(MEGAPIXELS * most):
        pixels = read_image(data)
    turned = "orientation" in options
    assert pixels.shape[:2] == ((8000, 5000) if turned else (5000, 8000))


def test_four_megapixels_of_16_bits_take_little_memory() -> None:
    """A file of a few kilobytes must not become gigabytes on its way."""
    data = file_of(Image.new("I;16", (2000, 2000)))
    assert len(data) < 20_000
    with little_memory(4 * 10 + 30):
        assert read_image(data).shape == (2000, 2000, 3)
