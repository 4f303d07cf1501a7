import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lexiseg.data.masks import RunLengths
from lexiseg.outputs.outlines import area_of, box_of, outlines, parts


def painted(found, size):
    """The mask again: a pixel is inside where its middle is inside an odd number of outlines."""
    scale = 4
    whole = np.zeros((size[0], size[1]), bool)
    for outline in found:
        image = Image.new("1", (size[1] * scale, size[0] * scale))
        ImageDraw.Draw(image).polygon([(x * scale, y * scale) for x, y in outline], fill=1)
        whole ^= np.asarray(image)[scale // 2 :: scale, scale // 2 :: scale]
    return whole


def test_a_square_and_its_box():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    assert outlines(mask) == [[(2, 1), (6, 1), (6, 3), (2, 3)]]
    assert box_of(mask) == (2, 1, 6, 3)
    assert box_of(mask & False) is None
    assert outlines(mask & False) == []


def test_a_hole_runs_the_other_way():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    around, hole = outlines(mask)
    assert (area_of(around), area_of(hole)) == (25, -1)
    assert around == [(0, 0), (5, 0), (5, 5), (0, 5)]


@pytest.mark.parametrize("mask", [[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
def test_pixels_that_touch_at_a_corner_are_apart(mask):
    found = outlines(np.array(mask, bool))
    assert [area_of(each) for each in found] == [1, 1]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_outlines_say_the_mask_exactly(height, width, seed):
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < generator.random()
    found = outlines(mask)
    assert sum(area_of(each) for each in found) == mask.sum()
    np.testing.assert_array_equal(painted(found, mask.shape), mask)
    for outline in found:
        steps = np.diff([*outline, outline[0]], axis=0)
        assert ((steps == 0).sum(axis=1) == 1).all()
        across = steps[:, 0] != 0
        assert (across != np.roll(across, 1)).all()


def test_without_holes_cocos_polygons_paint_the_same():
    mask = np.zeros((40, 50), bool)
    mask[5:20, 7:30], mask[15:35, 20:45], mask[38:, :3] = True, True, True
    flat = [np.array(each).ravel().tolist() for each in outlines(mask)]
    np.testing.assert_array_equal(RunLengths.of_polygons(flat, mask.shape).mask(), mask)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_parts_know_their_holes(height, width, seed):
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < generator.random()
    found = parts(mask)
    together = np.zeros(mask.shape, int)
    for part in found:
        one = painted([part.outer, *part.holes], mask.shape)
        assert area_of(part.outer) + sum(map(area_of, part.holes)) == one.sum() > 0
        assert all(area_of(hole) < 0 for hole in part.holes)
        assert area_of(part.keyhole) == one.sum()
        flat = [np.array(part.keyhole).ravel().tolist()]
        np.testing.assert_array_equal(RunLengths.of_polygons(flat, mask.shape).mask(), one)
        together += one
    np.testing.assert_array_equal(together, mask)


def test_a_region_in_the_hole_of_another_is_a_part_of_its_own():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    around, inner = parts(mask)
    assert (len(around.holes), len(inner.holes)) == (1, 0)
    assert inner.outer == inner.keyhole == [(3, 3), (4, 3), (4, 4), (3, 4)]
    assert parts(mask & False) == []
