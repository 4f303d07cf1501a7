import colorsys
from itertools import product

import numpy as np
import pytest

from lexiseg.data.colours import from_hsv, ssd_colour_jitter, to_hsv

CORNERS = [0, 1, 63, 64, 127, 200, 254, 255]
ALL = np.array(list(product(CORNERS, repeat=3)), np.uint8)[None]


class Scripted(np.random.Generator):
    """Gives what the test says, in order; ``random`` is 0 for yes and 1 for no."""

    def __init__(self, *numbers):
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)
        self.ranges = []

    def _next(self, *limits, **choices):
        self.ranges.append(limits)
        return self.numbers.pop(0)

    random = uniform = integers = _next


def pixel(*channels):
    return np.array([[channels]], np.uint8)


def test_hsv_is_that_of_the_standard_library_in_8_bits():
    for rgb, (hue, saturation, value) in zip(ALL[0], to_hsv(ALL)[0].astype(int), strict=True):
        expected = colorsys.rgb_to_hsv(*(rgb / 255))
        assert abs((hue - 180 * expected[0] + 90) % 180 - 90) <= 0.501
        assert abs(saturation - 255 * expected[1]) <= 0.501
        assert value == round(255 * expected[2])


def test_rgb_is_that_of_the_standard_library_cut_off_to_8_bits():
    hsv = ALL.copy()
    hsv[..., 0] = hsv[..., 0].astype(int) * 179 // 255
    for (hue, saturation, value), rgb in zip(hsv[0], from_hsv(hsv)[0].astype(int), strict=True):
        expected = np.array(colorsys.hsv_to_rgb(hue / 180, saturation / 255, value / 255)) * 255
        assert (rgb <= expected + 1e-3).all()
        assert (rgb > expected - 1 - 1e-3).all()


@pytest.mark.parametrize(
    ("draws", "before", "after"),
    [
        ((1, 1, 1, 1, 1), (10, 20, 30), (10, 20, 30)),  # nothing
        ((0, 10.7, 1, 1, 1, 1), (10, 20, 250), (20, 30, 255)),  # brightness, cut off
        ((0, -15.5, 1, 1, 1, 1), (10, 20, 250), (0, 4, 234)),
        ((1, 0, 0, 1.5, 1, 1), (11, 20, 250), (16, 30, 255)),  # contrast first
        ((1, 1, 1, 1, 0, 1.5), (11, 20, 250), (16, 30, 255)),  # contrast last
        ((1, 0, 1, 0, 0.5, 1), (100, 200, 200), (149, 200, 200)),  # saturation 128 to 64 of 255
        ((1, 0, 1, 1, 0, 15), (255, 0, 0), (255, 127, 0)),  # hue by 30 degrees
        ((1, 0, 1, 1, 0, -15), (255, 0, 0), (255, 0, 127)),
    ],
)
def test_each_change_by_hand(draws, before, after):
    generator = Scripted(*draws)
    assert ssd_colour_jitter(pixel(*before), generator=generator).tolist() == [[list(after)]]
    assert not generator.numbers


def test_the_ranges_are_those_of_ssd():
    generator = Scripted(0, 0.0, 0, 0, 1.0, 0, 1.0, 0, 0)
    ssd_colour_jitter(pixel(1, 2, 3), generator=generator)
    limits = [each for each in generator.ranges if each]
    assert limits == [(-32, 32), (0.5, 1.5), (0.5, 1.5), (-18, 18)]


def test_half_of_the_pictures_keep_each_property():
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    generator = np.random.default_rng(1)
    same = sum(
        (ssd_colour_jitter(picture, generator=generator) == picture).all() for _ in range(400)
    )
    assert 10 <= same <= 45  # one in sixteen
