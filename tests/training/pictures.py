"""Pictures of noise with labels, and a model of one layer, for objectives."""

import torch

from lexiseg.data.mixture import TrainingSample
from lexiseg.methods.base import SegmentationModel, Texts

NAMES = ("background", "dog", "sky", "car")


def sample(label_map, names=NAMES, image_label=None):
    return TrainingSample(torch.randn(3, *label_map.shape), label_map, names, image_label)


def label_map(*ids, size=32):
    labels = torch.full((size, size), 255)
    for row, index in enumerate(ids):
        labels[row * 8 : row * 8 + 8] = index
    return labels


class Same(torch.utils.data.Dataset):
    """One picture again and again."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return self.sample


FIFTY = sample(label_map(1), tuple(f"n{i}" for i in range(50)))


class Linear(SegmentationModel):
    """One logit map a text: a 1x1 convolution of the pixels, by the text's features."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 1)

    def encode_texts(self, prompts):
        features = torch.randn(len(prompts), 5, generator=torch.Generator().manual_seed(0))
        return Texts(torch.nn.functional.normalize(features, dim=-1))

    def forward(self, images, texts):
        return torch.einsum("bchw,tc->bthw", self.layer(images), texts.features)


def rainbow(images):
    """Patch features of each image: the pixels, and two of their channels again."""
    return [torch.cat([image, image[:2]]) for image in images]
