import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lexiseg.pictures.reading import (
    ImageError,
    read_bytes,
    read_label_map,
    read_picture,
    source_name,
)

TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = picture()
    image = Image.fromarray(pixels)
    path = tmp_path / "a.png"
    image.save(path)
    with path.open("rb") as file:
        sources = [
            path,
            str(path),
            path.read_bytes(),
            file,
            io.BytesIO(path.read_bytes()),
            image,
            pixels,
            pixels.astype(np.uint16) * 257,
            pixels / 255,
        ]
        for source in sources:
            np.testing.assert_array_equal(read_picture(source), pixels)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "JPEG", "GIF"])
def test_formats(format: str) -> None:
    flat = np.full((4, 6, 3), 255, dtype=np.uint8)
    result = read_picture(encoded(Image.fromarray(flat), format))
    assert result.shape == (4, 6, 3)
    assert result.min() >= 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:
    blocks = np.zeros((16, 32, 3), dtype=np.uint8)
    blocks[:8, :16, 0] = 255
    blocks[8:, 16:, 1] = 255
    upright = Image.fromarray(blocks)
    stored = upright if orientation == 1 else upright.transpose(TRANSPOSED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    result = read_picture(encoded(stored, format, exif=exif, **options.get(format, {})))
    assert result.shape == blocks.shape
    assert np.abs(result.astype(int) - blocks).max() < 60


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (255, 128, 128), (255, 255, 255)),
        ("HSV", (0, 0, 255), (255, 255, 255)),
        ("I;16", 257 * 40, (40, 40, 40)),
        ("I", 257 * 40, (40, 40, 40)),
        ("F", 0.2, (51, 51, 51)),
    ],
)
def test_modes(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    assert tuple(read_picture(Image.new(mode, (3, 2), colour))[0, 0]) == expected


def test_deep_grey_and_palette_files() -> None:
    deep = Image.fromarray(np.full((2, 3), 257 * 40, dtype=np.uint16))
    assert (read_picture(encoded(deep)) == 40).all()
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert tuple(read_picture(encoded(palette))[0, 0]) == (10, 20, 30)
    assert tuple(read_picture(encoded(palette, transparency=1))[0, 0]) == (255, 255, 255)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(data))))) == 2
    assert tuple(read_picture(data)[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    assert read_picture(encoded(Image.new("RGB", size))).shape == (size[1], size[0], 3)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (12_000, 12_000)))
    assert len(data) < 30_000

    def load(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match=r"12000 x 12000 = 144.0 megapixels, the limit is 40\)"):
        read_picture(data)


def test_beyond_pillows_own_limit() -> None:
    with pytest.raises(ImageError, match="too large"):
        read_picture(encoded(Image.new("1", (20_000, 20_000))), max_pixels=10**9)


def test_the_limit_holds_for_arrays_too() -> None:
    for source in (picture(), Image.fromarray(picture())):
        with pytest.raises(ImageError, match="too large"):
            read_picture(source, max_pixels=34)


def test_bad_files(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(picture(64, 64)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "drawing.jpg").write_bytes(encoded(Image.new("RGB", (2, 2)), "PPM"))
    for name, reason in {
        "missing.jpg": "no such file",
        "cut.jpg": "truncated",
        "empty.jpg": "is empty",
        "text.jpg": "is not an image that can be read",
        "drawing.jpg": "is not an image that can be read",
        "": "is a folder",
        "bad\nname.jpg": "no such file",
        "x" * 300: "cannot be read",
    }.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path))
    with pytest.raises(ImageError, match="cannot be read"):
        read_picture("nul\0.jpg")
    with pytest.raises(ImageError, match="was opened as text"):
        read_bytes(io.StringIO("a"))
    with pytest.raises(TypeError, match="cannot read an image from int"):
        read_bytes(3)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 5, 3), dtype=np.uint8), "has no pixels"),
        (np.zeros((5, 0), dtype=np.uint8), "has no pixels"),
        (np.zeros((5, 5, 2), dtype=np.uint8), r"shape \(5, 5, 2\)"),
        (np.zeros(5, dtype=np.uint8), r"shape \(5,\)"),
        (np.zeros((5, 5), dtype=np.int64), "int64"),
        (np.full((5, 5), 7.0), "0 to 1"),
        (np.full((5, 5), np.nan), "0 to 1"),
    ],
)
def test_bad_arrays(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_picture(array)


def test_the_result_does_not_share_memory() -> None:
    pixels = picture()
    read_picture(pixels)[:] = 0
    assert pixels.any()


SEEDS = [
    encoded(Image.fromarray(picture(8, 8)), format)
    for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 400),
)
def test_broken_bytes_give_pixels_or_an_image_error(
    seed: bytes, edits: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(seed)
    for position, value in edits:
        data[position % len(data)] = value
    _read_or_refuse(bytes(data[: max(length, len(data) - length)]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_give_pixels_or_an_image_error(data: bytes) -> None:
    _read_or_refuse(data)


def _read_or_refuse(data: bytes) -> None:
    message, result = "", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = read_picture(data)
        except ImageError as error:
            message = str(error)
    assert message.isprintable()
    assert message or (result is not None and result.ndim == 3 and result.dtype == np.uint8)


def test_a_mask_whose_pixels_lie_at_a_fraction_is_damaged() -> None:
    """Found by fuzzing: a TIFF's offset of a type that Pillow hands on as it is."""
    data = encoded(Image.new("L", (7, 9)), "TIFF")
    entries = [struct.pack("<HHI", 273, kind, 1) for kind in (3, 4, 5)]  # offset of the pixels
    damaged = data.replace(entries[0], entries[2]).replace(entries[1], entries[2])
    assert damaged != data
    with pytest.raises(ImageError, match="is damaged"):
        read_label_map(damaged)


def test_source_name() -> None:
    assert source_name("a/b.jpg") == "a/b.jpg"
    assert source_name(Path("b.jpg")) == "b.jpg"
    assert source_name(b"x") is None
