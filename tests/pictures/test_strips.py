from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.pictures import strips
from lexiseg.pictures.reading import ImageError, read_picture
from lexiseg.pictures.strips import VipsStrips, WholePicture, open_strips, picture_size


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """150 x 211 pixels of smooth noise."""
    small = np.random.default_rng(0).integers(0, 256, (30, 42, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(small).resize((211, 150), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.jpg", {"quality": 95}), ("a.tif", {}), ("a.webp", {"lossless": True})],
)
def test_rows_are_those_of_the_whole_picture(
    name: str, options: dict[str, object], picture: Path, tmp_path: Path
) -> None:
    with Image.open(picture) as image:
        image.save(tmp_path / name, **options)
    found = open_strips(tmp_path / name, max_pixels=40_000_000)
    assert isinstance(found, VipsStrips)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image).astype(int)
    rows = [found.read(count) for count in (1, 70, 70, 70, 70)]
    assert [len(part) for part in rows] == [1, 70, 70, 9, 0]
    error = np.abs(np.concatenate(rows) - expected)
    assert error.max() <= (3 if name == "a.jpg" else 0)


def test_other_pictures_are_read_whole(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(picture) as image:
        image.convert("L").save(tmp_path / "grey.png")
        turned = Image.Exif()
        turned[0x0112] = 6
        image.save(tmp_path / "turned.jpg", exif=turned)
        image.convert("RGBA").save(tmp_path / "clear.png")
    for name in ("grey.png", "turned.jpg", "clear.png"):
        found = open_strips(tmp_path / name, max_pixels=40_000_000)
        assert isinstance(found, WholePicture)
    assert open_strips(tmp_path / "turned.jpg", max_pixels=40_000_000).size == (211, 150)
    monkeypatch.setattr(strips, "_has_vips", lambda: False)
    assert isinstance(open_strips(picture, max_pixels=40_000_000), WholePicture)


def test_rows_of_a_picture_in_memory() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    whole = WholePicture(image)
    assert whole.size == (5, 4)
    rows = [whole.read(count) for count in (2, 2, 2, 2)]
    assert [len(part) for part in rows] == [2, 2, 1, 0]
    np.testing.assert_array_equal(np.concatenate(rows), image)


def test_the_size_is_known_from_the_header(picture: Path, tmp_path: Path) -> None:
    assert picture_size(picture) == (150, 211)
    assert picture_size(tmp_path / "missing.png") is None
    (tmp_path / "text.png").write_text("no picture")
    assert picture_size(tmp_path / "text.png") is None


def test_a_damaged_block_of_exif_leaves_the_size_and_the_rows(
    picture: Path, tmp_path: Path
) -> None:
    """It says nothing of the pixels: a large picture must not be held back by it."""
    path = tmp_path / "a.jpg"
    with Image.open(picture) as image:
        image.save(path, exif=b"Exif\0\0" + b"\xff" * 64, quality=95)
    assert picture_size(path) == (150, 211)
    assert read_picture(path).shape == (150, 211, 3)
    assert open_strips(path, max_pixels=40_000_000).size == (150, 211)


def test_the_limit_holds_for_rows_too(picture: Path) -> None:
    with pytest.raises(ImageError, match="too large"):
        open_strips(picture, max_pixels=150 * 211 - 1)
    assert open_strips(picture, max_pixels=150 * 211).size == (150, 211)
