import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.data import augment

JOINT = {
    "varied_crop": lambda image, maps, generator: augment.varied_crop(
        image, maps, size=48, longest=(40, 90), stretch=1.2, jitter=0.0, generator=generator
    ),
    "whole varied_crop": lambda image, maps, generator: augment.varied_crop(
        image,
        maps,
        size=None,
        multiple=8,
        longest=(40, 90),
        stretch=1.2,
        jitter=0.0,
        generator=generator,
    ),
    "catseg_crop": lambda image, maps, generator: augment.catseg_crop(
        image, maps, size=48, longest=70, generator=generator
    ),
    "paste_cutout": lambda image, maps, generator: augment.paste_cutout(
        image,
        maps,
        cutout=np.full((20, 10, 3), 77, np.uint8),
        alpha=np.full((20, 10), 255, np.uint8),
        class_ids=tuple(5 for _ in maps),
        share=(0.3, 0.6),
        generator=generator,
    ),
}


def two_halves(height=40, width=60):
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    image = np.stack([labels * 200] * 3, axis=-1)
    return image, labels


@pytest.mark.parametrize("longest", [(30, 30), (60, 60), (200, 200)])
@pytest.mark.parametrize("seed", range(5))
def test_a_crop_keeps_pixels_and_labels_together(longest, seed):
    image, labels = two_halves()
    image, (labels,) = augment.random_resized_crop(
        image,
        (labels,),
        size=48,
        longest=longest,
        stretch=1.2,
        generator=np.random.default_rng(seed),
    )
    assert image.shape == (48, 48, 3)
    assert labels.shape == (48, 48)
    assert (image[labels == 1, 0] > 90).all()
    assert (image[labels == 0, 0] < 110).all()
    assert (image[labels == 255] == 128).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_picture_keeps_all_of_it(seed):
    image, labels = two_halves()
    image, (labels,) = augment.random_resize(
        image,
        (labels,),
        multiple=16,
        longest=(40, 120),
        stretch=1.0,
        generator=np.random.default_rng(seed),
    )
    height, width = labels.shape
    assert image.shape == (height, width, 3)
    assert height % 16 == width % 16 == 0
    assert 32 <= width <= 128
    assert abs(height / width - 40 / 60) < 0.3  # each side is rounded by 8 pixels at most
    assert (labels[:, : width // 2] == 0).all()
    assert (labels[:, width // 2 :] == 1).all()
    assert (image[labels == 1, 0] > 90).all()
    assert (image[labels == 0, 0] < 110).all()


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("seed", range(4))
def test_label_maps_of_8_and_16_bits_go_the_same_way(name, seed):
    image, labels = two_halves()
    labels[:4] = 255
    wide = labels.astype(np.uint16) + 1000
    wide[labels == 255] = 65535
    changed, (narrow_map, wide_map) = JOINT[name](
        image, (labels, wide), np.random.default_rng(seed)
    )
    assert narrow_map.dtype == np.uint8
    assert wide_map.dtype == np.uint16
    np.testing.assert_array_equal(narrow_map == 255, wide_map == 65535)
    own = (narrow_map != 255) & (narrow_map != 5)
    assert own.any()
    np.testing.assert_array_equal(wide_map[own], narrow_map[own].astype(int) + 1000)
    alone, (alone_map,) = JOINT[name](image, (labels,), np.random.default_rng(seed))
    np.testing.assert_array_equal(alone, changed)
    np.testing.assert_array_equal(alone_map, narrow_map)


def test_widening_keeps_labels_and_what_is_ignored():
    widened = augment.widen(np.array([[0, 254, 255]], np.uint8))
    np.testing.assert_array_equal(widened, np.array([[0, 254, 65535]], np.uint16))
    np.testing.assert_array_equal(augment.widen(widened), widened)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    shorter=st.integers(1, 60),
    longest=st.integers(60, 80),
)
def test_the_shorter_side_is_resized_as_the_authors_do(height, width, shorter, longest):
    ids = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    image = np.zeros((height, width, 3), np.uint8)
    resized, (labels,) = augment.resize_shorter(image, (ids,), shorter=shorter, longest=longest)
    scale = min(shorter / min(height, width), longest / max(height, width))
    assert labels.shape == resized.shape[:2]
    expected = tuple(max(1, int(length * scale + 0.5)) for length in (height, width))
    assert labels.shape == expected
    nearest = F.interpolate(torch.from_numpy(ids.astype(np.float64))[None, None], expected)
    # torch multiplies by a rounded ratio, so that a label on the very border may be the one before
    rows, columns = np.divmod(labels.astype(int), width)
    their_rows, their_columns = np.divmod(nearest[0, 0].numpy().astype(int), width)
    assert (np.isin(rows - their_rows, (0, 1))).all()
    assert (np.isin(columns - their_columns, (0, 1))).all()
    assert (rows == their_rows).mean() > 0.8
    np.testing.assert_array_equal(
        rows[:, 0], np.floor(np.arange(expected[0]) * height / expected[0] + 1e-9)
    )


def test_a_crop_is_cut_anywhere_and_a_short_side_kept_whole():
    ids = np.arange(6 * 40, dtype=np.uint8).reshape(6, 40)
    image = np.stack([ids] * 3, axis=-1)
    starts = set()
    for seed in range(200):
        cut, (labels,) = augment.random_crop(
            image, (ids,), size=36, generator=np.random.default_rng(seed)
        )
        assert labels.shape == (6, 36)
        np.testing.assert_array_equal(cut[..., 2], labels)
        starts.add(int(labels[0, 0]))
    assert starts == {0, 1, 2, 3, 4}


def test_padding_is_grey_to_the_right_and_below():
    image, labels = two_halves(3, 4)
    padded, (labels_8, labels_16) = augment.pad(image, (labels, augment.widen(labels)), size=5)
    np.testing.assert_array_equal(padded[:3, :4], image)
    assert (padded[3:] == 128).all()
    assert (padded[:, 4:] == 128).all()
    assert labels_8.tolist() == [[0, 0, 1, 1, 255]] * 3 + [[255] * 5] * 2
    assert labels_16.tolist() == [[0, 0, 1, 1, 65535]] * 3 + [[65535] * 5] * 2


@pytest.mark.parametrize(
    ("size", "crop"), [((480, 640), (384, 384)), ((100, 500), (267, 384)), ((10, 300), (44, 384))]
)
def test_the_published_crop_pads_only_what_the_longest_side_leaves_short(size, crop):
    image = np.full((*size, 3), 255, np.uint8)
    labels = np.zeros(size, np.uint8)
    _, (labels,) = augment.catseg_crop(image, (labels,), generator=np.random.default_rng(0))
    assert labels.shape == (384, 384)
    assert (labels[: crop[0], : crop[1]] == 0).all()
    assert (labels == 0).sum() == crop[0] * crop[1]


def test_a_flip_turns_both():
    image, labels = two_halves()
    flips = 0
    for seed in range(20):
        turned, (turned_labels,) = augment.random_flip(
            image, (labels,), generator=np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(turned[..., 0], turned_labels * 200)
        flips += int(turned_labels[0, 0] == 1)
    assert 4 <= flips <= 16


def test_a_cutout_lies_where_its_label_says():
    image, labels = two_halves()
    for seed in range(10):
        pasted, (pasted_labels,) = JOINT["paste_cutout"](
            image, (labels,), np.random.default_rng(seed)
        )
        assert (pasted_labels == 5).any()
        np.testing.assert_array_equal(pasted[..., 0] == 77, pasted_labels == 5)
        np.testing.assert_array_equal(pasted_labels[pasted_labels != 5], labels[pasted_labels != 5])


def test_colours_change_with_the_generator_alone():
    image, _ = two_halves()
    first, again, other = (
        augment.colour_jitter(image, strength=0.4, generator=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
