from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lexiseg.data.augment import catseg_crop
from lexiseg.data.epochs import Epochs, hold_out, texts_of
from lexiseg.data.semantic import Vocabulary, read_semantic_folder
from lexiseg.images import Preprocess
from lexiseg.prompts import LabelSet

PREPROCESS = Preprocess(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), squash=(24, 24))


@pytest.fixture
def dataset(own_data):
    return read_semantic_folder(own_data, "train")


def as_they_are(image, label_maps, *, generator):
    return image, label_maps


def epochs(dataset, vocabulary=None, augmentation=as_they_are, **changes):
    choices = {"preprocess": PREPROCESS, "length": 30, "seed": 5, **changes}
    vocabulary = vocabulary or texts_of(dataset)
    return Epochs(dataset, vocabulary, augmentation=augmentation, **choices)


def vocabulary(names, classes, **choices):
    return Vocabulary(LabelSet.of(names), classes, **choices)


def test_every_photograph_comes_once_an_epoch_in_changing_order(dataset):
    samples = epochs(dataset)
    order = [samples.photograph(index) for index in range(30)]
    rounds = [tuple(order[start : start + 3]) for start in range(0, 30, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds)
    assert len(set(rounds)) > 2
    assert [samples.photograph(index) for index in reversed(range(30))] == order[::-1]
    assert [epochs(dataset, seed=6).photograph(index) for index in range(30)] != order


def test_samples_do_not_depend_on_order_or_workers(dataset):
    samples = epochs(dataset, augmentation=partial(catseg_crop, size=32))
    loaded = list(DataLoader(samples, batch_size=10, collate_fn=list, num_workers=2))
    direct = [samples[index] for index in reversed(range(30))][::-1]
    for one, other in zip((s for batch in loaded for s in batch), direct, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label_map, other.label_map)
    assert not torch.equal(direct[0].image, direct[3].image)


def test_pixels_are_normalised_and_squashed_but_labels_keep_their_size(dataset):
    samples = epochs(dataset)
    heights = set()
    for index in range(3):
        sample = samples[index]
        assert sample.image.shape == (3, 24, 24)
        assert sample.image[0, 12, 3].item() == pytest.approx(200 / 255)
        assert sample.label_map[-1, 0] == 0
        assert sample.label_map[-1, -1] == 1
        assert (sample.label_map[:5] == 255).all()
        assert sample.class_names == ("red", "blue")
        heights.add(len(sample.label_map))
    assert heights == {40, 42, 44}


def test_labels_are_places_among_the_texts(dataset):
    others = vocabulary(["sky", "blue", "red"], (0, 1, 0))
    sample = epochs(dataset, others)[0]
    assert sample.label_map[-1, -1] == 1
    assert sample.label_map[-1, 0] == 255  # two texts for class 0: which one is not known


def test_more_than_255_texts_need_16_bits(dataset):
    names = [f"n{i}" for i in range(300)]
    many = vocabulary(names, (*[0] * 299, 1))
    sample = epochs(dataset, many)[0]
    assert sample.ignore_index == 65535
    assert set(sample.label_map.unique().tolist()) == {299, 65535}


@pytest.mark.parametrize(
    ("background", "expected"),
    [((), {1: 0, 0: 255}), (("wall",), {1: 0, 0: 1}), (("wall", "floor"), {1: 0, 0: 255})],
)
def test_what_none_of_the_labels_holds_is_learned_by_one_name_only(dataset, background, expected):
    words = vocabulary(["blue"], (1,), none=0, background=background)
    data = replace(dataset, vocabularies={"default": words})
    sample = epochs(data)[0]
    assert sample.label_map[-1, -1] == expected[1]
    assert sample.label_map[-1, 0] == expected[0]


def test_authors_have_words_of_their_own(dataset):
    words = {**dataset.vocabularies, "catseg": vocabulary(["rouge", "bleu"], (0, 1))}
    data = replace(dataset, vocabularies=words)
    assert texts_of(data, "catseg").labels.labels == ("rouge", "bleu")
    assert texts_of(data).labels.labels == ("red", "blue")


@pytest.mark.parametrize(("count", "scored"), [(2, [1]), (3, [2]), (25, [9, 19])])
def test_every_tenth_photograph_is_held_out(dataset, count, scored):
    indices = np.arange(count) % 3
    many = replace(
        dataset,
        images=tuple(dataset.images[i].with_name(f"{n}") for n, i in enumerate(indices)),
        truths=tuple(dataset.truths[i] for i in indices),
    )
    train, val = hold_out(many)
    assert [image.name for image in val.images] == [str(i) for i in scored]
    assert {*train.images, *val.images} == {*many.images}
    assert len(train) + len(val) == count
    assert (train.split, val.split) == ("train", "val")


def test_too_few_photographs_are_refused(dataset):
    one = replace(dataset, images=dataset.images[:1], truths=dataset.truths[:1])
    with pytest.raises(ValueError, match="own has 1 photographs and no split to score on"):
        hold_out(one)
    with pytest.raises(ValueError, match="own/train holds no photographs"):
        epochs(replace(dataset, images=(), truths=()))
