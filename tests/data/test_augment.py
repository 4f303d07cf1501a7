import numpy as np
import pytest

from lexiseg.data import augment


def two_halves(height=40, width=60):
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    image = np.stack([labels * 200] * 3, axis=-1)
    return image, labels


@pytest.mark.parametrize("longest", [(30, 30), (60, 60), (200, 200)])
@pytest.mark.parametrize("seed", range(5))
def test_a_crop_keeps_pixels_and_labels_together(longest, seed):
    image, labels = two_halves()
    image, labels = augment.random_resized_crop(
        image,
        labels,
        size=48,
        longest=longest,
        stretch=1.2,
        ignore_index=255,
        generator=np.random.default_rng(seed),
    )
    assert image.shape == (48, 48, 3)
    assert labels.shape == (48, 48)
    assert (image[labels == 1, 0] > 90).all()
    assert (image[labels == 0, 0] < 110).all()
    assert (image[labels == 255] == 128).all()


def test_a_flip_turns_both(monkeypatch):
    image, labels = two_halves()
    flips = 0
    for seed in range(20):
        turned, turned_labels = augment.random_flip(
            image, labels, generator=np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(turned[..., 0], turned_labels * 200)
        flips += int(turned_labels[0, 0] == 1)
    assert 4 <= flips <= 16


def test_a_cutout_lies_where_its_label_says():
    image, labels = two_halves()
    cutout = np.full((20, 10, 3), 77, np.uint8)
    alpha = np.full((20, 10), 255, np.uint8)
    for seed in range(10):
        pasted, pasted_labels = augment.paste_cutout(
            image,
            labels,
            cutout=cutout,
            alpha=alpha,
            class_id=5,
            share=(0.3, 0.6),
            generator=np.random.default_rng(seed),
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
