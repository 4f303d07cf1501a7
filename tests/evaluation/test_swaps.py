"""Pairs of sentences that differ in one word."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.data.referring import ReferringDataset
from lexiseg.data.referring.shapes import DrawnReference, draw_shapes
from lexiseg.evaluation.swaps import SwapScores, score_swaps, swaps_of
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol, SegmentationModel, Texts
from lexiseg.segmenter import Segmenter


class Half(SegmentationModel):
    """Finds what is said to be on the left in the left half, and everything else in the right."""

    activation = "sigmoid"
    exclusive = False

    def __init__(self, deaf: bool = False) -> None:
        super().__init__()
        plain = Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3)
        self.protocols = {"default": Protocol(plain)}
        self.deaf = deaf
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        left = [float("left" in each[0] and not self.deaf) for each in prompts]
        return Texts(torch.tensor(left)[:, None])

    def forward(self, images: Tensor, texts: Texts) -> Tensor:
        half = torch.linspace(9, -9, images.shape[3])[None, None, None].expand(1, 1, 4, -1)
        return half * (2 * texts.features[None, :, :, None] - 1)


def side(name: str, *sentences: str) -> DrawnReference:
    mask = np.zeros((8, 20), bool)
    mask[2:6, 2 : 8 if "left" in name else 8] = True
    return DrawnReference(name, IMAGE, sentences, mask if "left" in name else mask[:, ::-1].copy())


IMAGE = np.zeros((8, 20, 3), np.uint8)
LEFT = ("the cup on the left", "the left cup", "the red cup")
RIGHT = ("the cup on the right", "the right cup")


def dataset(*references: DrawnReference) -> ReferringDataset:
    return ReferringDataset("cups", "val", references)


def test_pairs_differ_in_one_word_and_mean_two_objects() -> None:
    one, other = side("left", *LEFT), side("right", *RIGHT)
    pairs = list(swaps_of([one, other]))
    assert [pair.sentences for pair in pairs] == [(LEFT[0], RIGHT[0]), (LEFT[1], RIGHT[1])]
    assert all(pair.objects == (one, other) for pair in pairs)
    assert not list(swaps_of([one]))
    assert not list(swaps_of([side("left", LEFT[0], RIGHT[0])]))


def test_a_model_that_hears_the_word_and_one_that_does_not() -> None:
    cups = dataset(side("left", *LEFT), side("right", *RIGHT))
    hears = score_swaps(Segmenter(Half(), device="cpu"), cups)
    assert hears == {"left": SwapScores(2, 1.0, 1.0), "all": SwapScores(2, 1.0, 1.0)}
    deaf = score_swaps(Segmenter(Half(deaf=True), device="cpu"), cups)
    assert deaf["all"] == SwapScores(2, 0.0, 0.0)
    with pytest.raises(ValueError, match="no two sentences that differ"):
        score_swaps(Segmenter(Half(), device="cpu"), dataset(side("left", *LEFT)))


def test_rendered_shapes_have_pairs() -> None:
    from lexiseg.data.referring.training import by_photograph

    groups = by_photograph(draw_shapes(20, size=(64, 80)))
    words = {pair.word for objects in groups for pair in swaps_of(objects)}
    assert {"left", "larger"} <= words
