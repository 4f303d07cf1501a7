import numpy as np
import pytest

from lexiseg.pictures.preparation import Preparation
from lexiseg.pictures.reading import ImageError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("options", "size", "resized", "padded"),
    [
        ({}, (5, 7), (5, 7), (5, 7)),
        ({"shorter": 10}, (5, 7), (10, 14), (10, 14)),
        ({"shorter": 10, "longest": 7}, (5, 7), (5, 7), (5, 7)),
        ({"longest": 7}, (30, 70), (3, 7), (3, 7)),
        ({"multiple": 4}, (5, 7), (4, 8), (4, 8)),
        ({"multiple": 4}, (6, 7), (8, 8), (8, 8)),  # half a multiple goes up
        ({"multiple": 32}, (5, 7), (32, 32), (32, 32)),
        ({"pad_multiple": 4}, (5, 8), (5, 8), (8, 8)),
        ({"squash": (6, 6), "pad_multiple": 4}, (5, 7), (5, 7), (8, 8)),  # before the stretch
    ],
)
def test_sizes(
    options: dict[str, object],
    size: tuple[int, int],
    resized: tuple[int, int],
    padded: tuple[int, int],
) -> None:
    preparation = Preparation(**PLAIN, **options)
    assert preparation.resized_size(*size) == resized
    assert preparation.padded_size(*size) == padded
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert preparation.resized(image).shape == (*resized, 3)


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preparation(**PLAIN, shorter=5).resized(image), image)


def test_the_filter_is_pillows_with_antialiasing() -> None:
    """Halved columns of 0 and 255: each new one sees as much of both."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[:, ::2] = 255
    for name in ("bilinear", "bicubic"):
        small = Preparation(**PLAIN, shorter=4, filter=name).resized(image)
        assert np.abs(small[:, 1:-1].astype(int) - 127.5).max() < 10
    step = np.zeros((8, 8, 3), dtype=np.uint8)
    step[:, 4:] = 200
    large = {
        name: Preparation(**PLAIN, shorter=16, filter=name).resized(step)
        for name in ("bilinear", "bicubic")
    }
    assert large["bilinear"].max() == 200
    assert large["bicubic"].max() > 200  # it overshoots an edge


def test_a_strip_that_would_grow_beyond_the_limit_is_refused() -> None:
    preparation = Preparation(**PLAIN, shorter=64)
    preparation.check_size(1, 3000, max_pixels=64 * 192_000)
    with pytest.raises(ImageError, match="1 x 3000 pixels is too narrow .* 64 x 192000; cut it"):
        preparation.check_size(1, 3000, max_pixels=64 * 192_000 - 1)
