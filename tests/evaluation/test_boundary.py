import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.evaluation.boundary import boundary, boundary_counts, boundary_iou


def test_a_square_of_five_has_a_band_of_one() -> None:
    label_map = np.zeros((7, 7), int)
    label_map[1:6, 1:6] = 3
    inner = np.zeros((7, 7), bool)
    inner[2:5, 2:5] = True
    band = boundary(label_map, ratio=0.0)
    assert band[1:6, 1:6].sum() == 25 - 9
    np.testing.assert_array_equal(~band, inner)  # the frame of zeros is all band


def test_the_edge_of_the_photograph_is_an_outline() -> None:
    band = boundary(np.full((5, 6), 2), ratio=0.0)
    assert not band[1:4, 1:5].any()
    assert band.sum() == 5 * 6 - 3 * 4


def by_erosion(label_map: np.ndarray, distance: int) -> np.ndarray:
    """Each label's mask without its erosion, pixel by pixel."""
    height, width = label_map.shape
    padded = np.pad(label_map, distance, constant_values=-1)
    band = np.zeros(label_map.shape, bool)
    for row in range(height):
        for column in range(width):
            window = padded[row : row + 2 * distance + 1, column : column + 2 * distance + 1]
            band[row, column] = (window != label_map[row, column]).any()
    return band


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12), st.floats(0.05, 0.3))
def test_the_band_is_the_mask_without_its_erosion(
    seed: int, height: int, width: int, ratio: float
) -> None:
    label_map = np.random.default_rng(seed).integers(0, 3, (height, width))
    label_map = label_map.repeat(2, axis=0).repeat(3, axis=1)
    distance = max(1, round(ratio * float(np.hypot(*label_map.shape))))
    expected = by_erosion(label_map, distance)
    np.testing.assert_array_equal(boundary(label_map, ratio=ratio), expected)


def test_counts_of_a_shifted_square() -> None:
    true, predicted = (np.zeros((9, 9), int) for _ in range(2))
    true[2:7, 2:7] = 1
    predicted[2:7, 3:8] = 1
    both, called, is_true = boundary_counts(predicted, true, class_count=2, ignore_index=255)[:, 1]
    assert (called, is_true) == (16, 16)
    assert both == 4 + 4  # of each horizontal side the four common pixels
    assert boundary_iou(np.array([[0, both], [0, called], [0, is_true]]))[1] == 8 / 24


def test_what_nobody_judged_makes_no_difference() -> None:
    true = np.zeros((12, 12), int)
    true[:, 6:] = 1
    true[4:8] = 255
    counts = boundary_counts(np.where(true == 255, 1, true), true, class_count=2, ignore_index=255)
    assert boundary_iou(counts).tolist() == [1.0, 1.0]


def test_a_class_that_is_not_there_has_no_score() -> None:
    counts = boundary_counts(
        np.zeros((3, 3), int), np.zeros((3, 3), int), class_count=2, ignore_index=255
    )
    assert boundary_iou(counts)[0] == 1.0
    assert np.isnan(boundary_iou(counts)[1])


@pytest.mark.parametrize("nothing", [255, 65535])
def test_pixels_without_a_label_are_outside_every_band(nothing: int) -> None:
    predicted = np.full((6, 6), nothing)
    counts = boundary_counts(predicted, np.zeros((6, 6), int), class_count=1, ignore_index=nothing)
    assert counts[:, 0].tolist() == [0, 0, 20]
