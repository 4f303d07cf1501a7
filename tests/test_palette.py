import numpy as np
import pytest

from lexiseg import palette


@pytest.mark.parametrize("count", [1, 12, 13, 255, 256, 1000])
def test_colours_are_distinct_and_the_first_of_more(count: int) -> None:
    found = palette.colours(count)
    assert found.shape == (count, 3)
    assert len({tuple(colour) for colour in found.tolist()}) == count
    np.testing.assert_array_equal(found, palette.colours(count + 100)[:count])


def test_colours_come_round() -> None:
    assert palette.colours(65_535).shape == (65_535, 3)
    assert palette.colours(0).shape == (0, 3)


def test_near_colours_tell_apart() -> None:
    lab = palette._oklab(palette.colours(40))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[~np.eye(40, dtype=bool)].min() > 0.08


def test_oklab_of_white_and_grey() -> None:
    lab = palette._oklab(np.array([[255, 255, 255], [128, 128, 128], [0, 0, 0]], dtype=np.uint8))
    np.testing.assert_allclose(lab[:, 0], [1, 0.5999, 0], atol=1e-3)
    np.testing.assert_allclose(lab[:, 1:], 0, atol=1e-3)
