"""The baseline that classifies crops."""

import numpy as np
import pytest
import torch
from torch import nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol
from lexiseg.methods.two_stage import TwoStage

COLOURS = {"red": (1.0, 0.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class MeanColour(nn.Module):
    """Pooled is the mean colour; texts are colours."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(0.0))
        self.batches: list[int] = []

    def encode_images(self, images, *, intermediates=()):
        self.batches.append(len(images))
        return ImageFeatures(images.mean(dim=(-2, -1)), images, ())

    def encode_prompts(self, prompts):
        rows = torch.tensor([COLOURS[prompt] for prompt in prompts])
        return TextFeatures(rows, rows[:, None], torch.ones(len(rows), 1, dtype=torch.bool))


@pytest.fixture
def model() -> TwoStage:
    preprocess = Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3)
    protocols = {"default": Protocol(preprocess)}
    return TwoStage(MeanColour(), protocols=protocols, templates=("{}",), crops_at_once=3)


def picture() -> torch.Tensor:
    """Red left, blue right, with a little noise."""
    image = torch.zeros(3, 60, 80)
    image[0, :, :40] = 0.9
    image[2, :, 40:] = 0.9
    return image + 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))


def test_each_region_gets_the_name_of_its_crop(model):
    texts = model.encode_texts([["blue"], ["red"]])
    logits = model(picture()[None], texts)
    assert logits.shape == (1, 2, 60, 80)
    label_map = logits[0].argmax(dim=0)
    assert (label_map[:, :38] == 1).all()
    assert (label_map[:, 42:] == 0).all()
    regions = model.propose(picture())
    for index in range(int(regions.max()) + 1):
        assert logits[0][:, regions == index].std(dim=1).max() < 1e-6
    assert max(model.encoder.batches) <= 3


@pytest.mark.parametrize("bound", [1, 4, 12])
def test_the_number_of_regions_is_bounded(model, bound):
    model.regions_at_most = bound
    noise = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))
    regions = model.propose(noise)
    assert regions.shape == (64, 96)
    assert sorted(np.unique(regions)) == list(range(int(regions.max()) + 1))
    assert int(regions.max()) < bound
