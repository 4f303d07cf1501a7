import numpy as np
import pytest

from lexiseg.methods.plain_resize import PlainResize, plain_resize


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([(7 * y + 3 * x) % 256, (5 * x * y) % 256, (x + y) % 2 * 255], -1).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [  # what OpenCV 5.0 gives
        (
            (6, 9),
            (4, 5),
            [
                [118, 100, 83, 115, 149],
                [131, 127, 123, 169, 217],
                [170, 231, 291, 300, 309],
                [183, 258, 331, 354, 377],
            ],
        ),
        (
            (5, 7),
            (8, 9),
            [
                [0, 172, 146, 63, 264, 68, 156, 186, 18],
                [115, 139, 139, 133, 162, 141, 156, 164, 146],
                [246, 102, 135, 215, 48, 228, 160, 141, 296],
                [92, 163, 161, 138, 221, 156, 196, 216, 161],
                [96, 169, 170, 150, 235, 171, 216, 237, 183],
                [259, 122, 161, 248, 89, 276, 216, 204, 366],
                [137, 172, 183, 189, 230, 222, 248, 269, 262],
                [28, 213, 203, 135, 352, 171, 275, 320, 166],
            ],
        ),
        ((6, 8), (3, 4), [[134, 145, 156, 167], [153, 184, 215, 246], [172, 223, 274, 325]]),
    ],
)
def test_the_resize_is_that_of_opencv(
    size: tuple[int, int], wanted: tuple[int, int], expected: list[list[int]]
) -> None:
    resized = plain_resize(ramp(*size), wanted)
    assert resized.shape == (*wanted, 3)
    # When a small image grows, one pixel of a thousand is one level off.
    np.testing.assert_allclose(resized.astype(int).sum(axis=2), expected, atol=1)


def test_sizes_as_published() -> None:
    read = PlainResize(mean=(0.0,) * 3, std=(1.0,) * 3, shorter=448, longest=2048)
    assert read.resized_size(600, 900) == (448, 672)
    assert read.resized_size(100, 3000) == (68, 2048)
    image = ramp(20, 30)
    same = PlainResize(mean=(0.0,) * 3, std=(1.0,) * 3)(image)
    np.testing.assert_array_equal(same.permute(1, 2, 0).numpy(), image)
    small = PlainResize(mean=(0.0,) * 3, std=(1.0,) * 3, shorter=10, longest=40)(image)
    np.testing.assert_array_equal(small.permute(1, 2, 0).numpy(), plain_resize(image, (10, 15)))


def test_the_plain_resize_samples_and_rounds() -> None:
    image = np.array([[[0] * 3, [100] * 3, [200] * 3, [60] * 3]], np.uint8)
    assert plain_resize(image, (1, 2))[0, :, 0].tolist() == [50, 130]
    assert plain_resize(image, (1, 4)) is image
    assert plain_resize(image[:, :2], (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


def test_a_strip_gets_whole_patches() -> None:
    resize = PlainResize(mean=(0.0,) * 3, std=(1.0,) * 3, shorter=32, longest=100, patch=8)
    assert resize(ramp(10, 100)).shape == (3, 8, 104)
    assert resize(ramp(10, 20)).shape == (3, 32, 64)
