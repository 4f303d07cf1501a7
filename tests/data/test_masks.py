import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_api

from lexiseg.data.masks import RunLengths, encode_rle

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))
NUMBERS = st.one_of(
    st.integers(-20, 90), st.floats(-20, 90), st.floats(0, 60).map(lambda x: round(x, 1))
)
POLYGONS = st.lists(
    st.integers(3, 9).flatmap(lambda n: st.lists(NUMBERS, min_size=2 * n, max_size=2 * n)),
    min_size=1,
    max_size=4,
)
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def reference_decode(packed):
    with warnings.catch_warnings():  # of NumPy 2, about the reference itself
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_api.decode(packed)


def paint_polygons(polygons, size):
    return RunLengths.of_polygons(polygons, size).mask()


def test_runs_go_down_the_columns():
    expected = np.array([[0, 0, 1], [1, 0, 0]], bool)
    np.testing.assert_array_equal(RunLengths.of_counts([1, 1, 2, 1, 1], (2, 3)).mask(), expected)
    assert encode_rle(expected) == "1120O"  # 1, 1, 2, then differences: 1 - 1 and 1 - 2
    np.testing.assert_array_equal(RunLengths.of_counts("1120O", (2, 3)).mask(), expected)


def test_a_mask_may_begin_inside_and_be_full():
    assert RunLengths.of_counts([0, 6], (2, 3)).mask().all()
    assert not RunLengths.of_counts([6], (2, 3)).mask().any()
    assert RunLengths.of_counts([0, 2, 3, 1], (2, 3)).area == 3


@given(MASKS)
def test_packing_is_that_of_the_coco_api_and_comes_back(mask):
    packed = coco_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert encode_rle(mask) == packed["counts"].decode()
    for counts in (packed["counts"], packed["counts"].decode()):
        np.testing.assert_array_equal(RunLengths.of_counts(counts, mask.shape).mask(), mask)
    runs = RunLengths.of_counts(packed["counts"], mask.shape)
    assert runs.area == mask.sum()
    np.testing.assert_array_equal(RunLengths.of_counts(runs.runs.tolist(), mask.shape).mask(), mask)


def test_long_runs_take_several_characters():
    mask = np.zeros((3000, 2000), bool)
    mask[1500:1502, 700:1900] = True
    np.testing.assert_array_equal(RunLengths.of_counts(encode_rle(mask), mask.shape).mask(), mask)


@settings(max_examples=300)
@given(POLYGONS, SIZES)
def test_polygons_are_filled_pixel_for_pixel_as_the_coco_api_does(polygons, size):
    packed = coco_api.frPyObjects([[float(n) for n in each] for each in polygons], *size)
    expected = reference_decode(packed).any(axis=2)
    np.testing.assert_array_equal(paint_polygons(polygons, size), expected)


def test_a_square_covers_its_pixels():
    mask = paint_polygons([[1, 2, 4, 2, 4, 5, 1, 5]], (8, 6))
    expected = np.zeros((8, 6), bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_polygon_without_area_is_left_out():
    square = [1, 2, 4, 2, 4, 5, 1, 5]
    for degenerate in ([], [1, 1], [0, 0, 5, 5]):  # the COCO API takes the last for a box
        mask = paint_polygons([degenerate, square], (8, 6))
        np.testing.assert_array_equal(mask, paint_polygons([square], (8, 6)))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5], r"the sum 5; for 2 x 3 they are not negative and add up to 6"),
        ([7], r"a run of 7 pixels in a picture of 2 x 3"),
        ([-1, 7], r"a run of 7"),
        ([-3, 6, 3], r"run lengths from -3 with the sum 6"),
        ([], "no list of whole numbers"),
        ([1.5, 4.5], "no list of whole numbers"),
        ([[1], [2, 3]], "no list of whole numbers"),
        ([10**30], "no list of whole numbers"),
        (["1", "5"], "no list of whole numbers"),
        ("", "it is empty or has characters"),
        ("\u00e4", "characters that run lengths never use"),
        ("1 5", "characters run lengths never use"),
        ("1P", "ends within a number"),
        ("P", "ends within a number"),
        ("PPPPPPPPPPPP1", "too long or too many"),
        ("0" * 100, "too long or too many"),
        ("oooooo?", "the sum"),
        (b"16\x00", "characters run lengths never use"),
    ],
)
def test_damaged_counts_are_told(counts, message):
    with pytest.raises(ValueError, match=message):
        RunLengths.of_counts(counts, (2, 3))


@given(st.binary(max_size=40), SIZES)
def test_any_bytes_give_a_mask_or_an_error(raw, size):
    for text in (raw, bytes(48 + byte % 64 for byte in raw)):
        try:
            mask = RunLengths.of_counts(text, size).mask()
        except ValueError:
            continue
        assert mask.shape == size
        np.testing.assert_array_equal(
            mask, reference_decode({"size": list(size), "counts": text}).astype(bool)
        )


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "no polygon has three corners"),
        ([[1, 2, 3, 4]], "no polygon has three corners"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has 7 numbers; it has an x and a y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "is no number or beyond 1000000 pixels"),
        ([[1, 2, 3, 4, 5, float("inf")]], "is no number or beyond"),
        ([[0, 0, 3e9, 0, 3e9, 3e9]], "is no number or beyond"),
        ([[0, 0, 6e5, 0, 0, 6e5] * 9], "outline is longer than 1000000 pixels"),
        ([["1", "2", "3", "4", "5", "6"]], "no list of numbers"),
        ([[[1, 2], [3, 4], [5, 6]]], "no list of numbers"),
    ],
)
def test_damaged_polygons_are_told(polygons, message):
    with pytest.raises(ValueError, match=message):
        RunLengths.of_polygons(polygons, (8, 6))


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (10**6, 10**6)])
def test_impossible_sizes_are_refused_before_memory_is_taken(size):
    for make in (
        lambda: RunLengths.of_counts([0, size[0] * size[1]], size),
        lambda: paint_polygons([[0, 0, 5, 0, 5, 5]], size),
    ):
        with pytest.raises(
            ValueError, match="sides are at least 1, and there are at most 40000000"
        ):
            make()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "no segmentation, at most a box"),
        (None, "no segmentation, at most a box"),
        ([1, 2, 3, 4, 5, 6], r"no list of polygons; write \[\[x1, y1"),
        ({"size": [2, 3]}, "no counts"),
        ({"size": [3, 2], "counts": [6]}, r"are for \[3, 2\] \(height, width\), but .* \[2, 3\]"),
    ],
)
def test_other_segmentations_are_told(segmentation, message):
    with pytest.raises(ValueError, match=message):
        RunLengths.of_segmentation(segmentation, (2, 3))


def test_a_segmentation_is_polygons_or_runs():
    whole = {"size": [2, 3], "counts": [0, 6]}
    assert RunLengths.of_segmentation(whole, (2, 3)).area == 6
    assert RunLengths.of_segmentation([[0, 0, 3, 0, 3, 2, 0, 2]], (2, 3)).area == 6
