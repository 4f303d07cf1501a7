"""Training samples of one data set: every photograph once an epoch, in a new order each time.

Sample ``i`` depends on the seed and on ``i`` alone, as in a mixture.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch.utils.data import Dataset

from lexiseg.data.augment import Cropped, ignored_id
from lexiseg.data.mixture import TrainingSample
from lexiseg.data.order import EpochOrder
from lexiseg.data.semantic import SemanticDataset, Vocabulary
from lexiseg.images import Preprocess
from lexiseg.prompts import LabelSet
from lexiseg.result import none_index

Augmentation = Callable[..., Cropped]


class Epochs(Dataset[TrainingSample]):
    """``length`` augmented samples; their labels are positions among the texts to learn.

    A pixel is ignored where its class is none of the texts, or several of them.

    Args:
        dataset: photographs with label maps.
        vocabulary: the texts, by class; see :func:`texts_of`.
        augmentation: from a photograph, its label maps and ``generator`` to those that are learned
            from, such as :func:`lexiseg.data.augment.catseg_crop`.
        preprocess: its normalisation (and stretching to a square) follows; its resize does not.
        length: samples in all.
        seed: of the order and of the augmentation.

    Raises:
        ValueError: the data set is empty.
    """

    def __init__(
        self,
        dataset: SemanticDataset,
        vocabulary: Vocabulary,
        *,
        augmentation: Augmentation,
        preprocess: Preprocess,
        length: int,
        seed: int,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"{dataset.name}/{dataset.split} holds no photographs to learn from")
        self.dataset = dataset
        self.class_names = vocabulary.labels.labels
        self.augmentation = augmentation
        self.preprocess = preprocess
        self.length = length
        self.seed = seed
        self.positions = _positions(dataset, vocabulary)
        self.photograph = EpochOrder(len(dataset), seed=seed, key=2)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        sample = self.dataset[self.photograph(index)]
        generator = np.random.default_rng((self.seed, index))
        label_map = self.positions[sample.label_map]
        image, (label_map,) = self.augmentation(sample.image, (label_map,), generator=generator)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
        return TrainingSample(
            image=self.preprocess.normalise(pixels),
            label_map=torch.from_numpy(label_map.astype(np.int64)),
            class_names=self.class_names,
            ignore_index=ignored_id(label_map),
        )


def texts_of(dataset: SemanticDataset, authors: str | None = None) -> Vocabulary:
    """What a model is taught on a data set: its labels, and the one name of what is none of them.

    Several background names compete when the data set is scored, but which of them a pixel shows is
    not known, so that those are left out.

    Args:
        dataset: whose vocabulary it is.
        authors: whose words; None for the default ones.
    """
    vocabulary = dataset.vocabulary(authors)
    if vocabulary.none is None or len(vocabulary.background) != 1:
        return vocabulary
    labels, background = vocabulary.labels, vocabulary.background
    joined = LabelSet(labels.labels + background, (*labels.names, background))
    return replace(vocabulary, labels=joined, classes=(*vocabulary.classes, vocabulary.none))


def hold_out(dataset: SemanticDataset, every: int = 10) -> tuple[SemanticDataset, SemanticDataset]:
    """All but each ``every``-th photograph to learn from, and those to score on.

    Raises:
        ValueError: there are fewer than two photographs.
    """
    if len(dataset) < 2:
        raise ValueError(
            f"{dataset.name} has {len(dataset)} photographs and no split to score on; give it at "
            "least 2, or the folders train and val"
        )
    every = min(every, len(dataset))
    kept = [i for i in range(len(dataset)) if i % every != every - 1]
    scored = range(every - 1, len(dataset), every)
    train, val = (
        replace(
            dataset,
            split=split,
            images=tuple(dataset.images[i] for i in indices),
            truths=tuple(dataset.truths[i] for i in indices),
        )
        for split, indices in (("train", kept), ("val", scored))
    )
    return train, val


def _positions(dataset: SemanticDataset, vocabulary: Vocabulary) -> np.ndarray:
    """Of each number in a sample's label map, the position of its text, or what is ignored."""
    ignored = none_index(len(vocabulary.labels))
    dtype = np.uint8 if ignored <= np.iinfo(np.uint8).max else np.uint16
    positions = np.full(dataset.ignore_index + 1, ignored, dtype)
    for text, class_id in enumerate(vocabulary.classes):
        alone = vocabulary.classes.count(class_id) == 1
        positions[class_id] = text if alone else ignored
    return cast(np.ndarray, positions)
