"""Samples that sentences are learned from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.data.referring.references import FileReference, MaskPicture, ReferringDataset
from lexiseg.data.referring.shapes import draw_shapes
from lexiseg.data.referring.training import ManySentences, OneSentence, by_photograph
from lexiseg.data.referring.wording import compares, mirrored
from lexiseg.encoders.lite import LITE_PREPROCESS
from lexiseg.methods.cris import cris_protocols


@pytest.fixture(scope="module")
def shapes() -> ReferringDataset:
    return draw_shapes(8, size=(64, 80))


def many(dataset: ReferringDataset, **changes) -> ManySentences:
    choices = {"sides": (64, 96), "sentences": 3, "batch_size": 4, "length": 40, "seed": 0}
    groups = by_photograph(dataset)
    return ManySentences(groups, preprocess=LITE_PREPROCESS, **choices | changes)


def test_objects_of_one_photograph_stay_together(shapes: ReferringDataset) -> None:
    groups = by_photograph(shapes)
    assert sum(len(group) for group in groups) == len(shapes)
    assert len({group[0].name.split("_")[0] for group in groups}) == len(groups) > 4
    files = tuple(
        FileReference(str(n), Path(f"{n // 2}.jpg"), ("x",), MaskPicture(Path("m.png")))
        for n in range(4)
    )
    assert [len(g) for g in by_photograph(ReferringDataset("a", "val", files))] == [2, 2]


def test_a_sample_has_its_sentences_with_masks_on_a_coarser_grid(shapes: ReferringDataset) -> None:
    samples = many(shapes)
    assert len(samples) == 40
    for index in range(8):
        sample, again = samples[index], samples[index]
        assert sample.image.shape == (3, 64, 96)
        assert sample.masks.shape == (3, 16, 24)
        assert torch.equal(sample.image, again.image)
        assert sample.expressions == again.expressions
        assert sample.masks.min() >= 0
        assert 0 < sample.masks.mean() < 0.3
    seeds = [many(shapes, seed=seed)[0].expressions for seed in range(6)]
    assert len(set(seeds)) > 1


def test_left_is_left_in_mirrored_samples_too(shapes: ReferringDataset) -> None:
    """Where a sample's sentence says left, its mask lies left of the one that says right."""
    seen = 0
    for index in range(40):
        sample = many(shapes, sentences=12)[index]
        masks = dict(zip(sample.expressions, sample.masks, strict=True))
        columns = torch.arange(24.0)
        for sentence, mask in masks.items():
            other = masks.get(mirrored(sentence))
            if sentence.endswith("on the left") and other is not None:
                here, there = ((m * columns).sum() / m.sum() for m in (mask, other))
                assert here < there, sentence
                seen += 1
    assert seen > 5


def test_the_images_of_a_batch_have_one_size(shapes: ReferringDataset) -> None:
    upright = draw_shapes(8, seed=3, size=(80, 64))
    both = ReferringDataset("both", "train", shapes.references + upright.references)
    samples = many(both)
    sizes = [tuple(samples[index].image.shape[1:]) for index in range(40)]
    batches = [set(sizes[start : start + 4]) for start in range(0, 40, 4)]
    assert all(len(batch) == 1 for batch in batches)
    assert set.union(*batches) == {(64, 96), (96, 64)}
    with pytest.raises(ValueError, match="no photographs came"):
        ManySentences(
            [],
            preprocess=LITE_PREPROCESS,
            sides=(64, 96),
            sentences=1,
            batch_size=1,
            length=1,
            seed=0,
        )


def test_half_of_the_photographs_have_something_to_compare() -> None:
    """Of one photograph in twenty that has, and nineteen that have not."""
    groups = by_photograph(draw_shapes(60, size=(64, 80)))
    comparing = [g for g in groups if any(compares(s) for r in g for s in r.expressions)]
    others = [[replace(group[0], expressions=("the shape",))] for group in groups[:19]]
    choices = {"sides": (64, 96), "sentences": 1, "batch_size": 4, "length": 40, "seed": 0}
    samples = ManySentences([comparing[0], *others], preprocess=LITE_PREPROCESS, **choices)
    plain = [samples[index].expressions[0] == "the shape" for index in range(40)]
    assert 0.3 < sum(plain) / 40 < 0.7


def test_published_samples_see_every_object_once_an_epoch(shapes: ReferringDataset) -> None:
    letterbox = cris_protocols(64)["published"].preprocess
    samples = OneSentence(
        shapes, enter=letterbox, enter_mask=letterbox.enter_mask, length=2 * len(shapes), seed=1
    )
    masks = [shapes[index].mask for index in range(len(shapes))]
    orders = []
    for epoch in range(2):
        found = [samples[epoch * len(shapes) + place] for place in range(len(shapes))]
        assert all(each.image.shape == (3, 64, 64) for each in found)
        assert all(each.masks.shape == (1, 64, 64) for each in found)
        entered = [letterbox.enter_mask(mask) for mask in masks]
        order = [
            next(i for i, mask in enumerate(entered) if torch.equal(mask, each.masks[0]))
            for each in found
        ]
        assert sorted(order) == list(range(len(shapes)))
        for place, each in zip(order, found, strict=True):
            assert each.expressions[0] in shapes[place].expressions
        orders.append(order)
    assert orders[0] != orders[1]
    np.testing.assert_array_equal(samples[3].image, samples[3].image)
