"""What a head over the frozen bundled encoder minimises, and the names it is scored against."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from lexiseg.data.mixture import TrainingSample, some_ids
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.losses import (
    image_label_loss,
    masked_bce,
    overlap_loss,
    weighted_cross_entropy,
)
from lexiseg.training.run import Batch


class HeadObjective(nn.Module):
    """Losses of a method's head over a frozen encoder, on one batch.

    ``dense`` is the weighted cross-entropy between names, ``each`` the binary cross-entropy of
    every name by itself, which makes scores comparable between label sets, ``overlap`` counts
    regions, ``image`` is the loss of whole-image names (:mod:`lexiseg.training.losses`).

    A sample is scored against the names that it shows, those absent ones that the encoder itself
    finds most like some patch of it, and a few others: what a head must learn to refuse.

    Args:
        model: what is trained.
        find: patch features of each image in the space of the texts, from the model's frozen
            encoder; images may differ in size.
        names: every name that can occur.
        at_most: names of a sample, unless it shows more.
        hard: of these, how many are the absent ones that the encoder finds.
        background_weight: weight of a "background" pixel.
        image_weight: weight of the whole-image loss.
        overlap_weight: weight of the overlap loss.
    """

    texts: Tensor

    def __init__(
        self,
        model: SegmentationModel,
        find: Callable[[Sequence[Tensor]], Sequence[Tensor]],
        names: Sequence[str],
        *,
        at_most: int = 16,
        hard: int = 8,
        background_weight: float = 1.0,
        image_weight: float = 0.3,
        overlap_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.model = model
        self.find = find
        self.rows = {name: row for row, name in enumerate(names)}
        self.at_most = at_most
        self.hard = hard
        self.background_weight = background_weight
        self.image_weight = image_weight
        self.overlap_weight = overlap_weight
        with torch.no_grad():
            texts = model.encode_texts([[name] for name in names])
        self.register_buffer("texts", texts.features, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        losses: dict[str, list[Tensor]] = {"dense": [], "each": [], "overlap": [], "image": []}
        for sample in self._chosen(batch):
            names = sample.class_names
            rows = [self.rows[name] for name in names]
            logits = self.model(sample.image[None], Texts(self.texts[rows])).float()
            if sample.image_label is not None:
                whole = image_label_loss(logits[0], sample.image_label)
                losses["image"].append(self.image_weight * whole)
                continue
            labels, ignored = sample.label_map[1::2, 1::2], sample.ignore_index
            logits = F.interpolate(logits, size=labels.shape, mode="bilinear")
            weight = self.background_weight
            dense = weighted_cross_entropy(logits[0], labels, names, weight, ignored)
            losses["dense"].append(dense)
            losses["each"].append(masked_bce(logits, labels[None], ignored))
            overlap = overlap_loss(logits[0], labels, names, ignored)
            losses["overlap"].append(self.overlap_weight * overlap)
        nothing = logits.sum() * 0
        return {name: sum(x, start=nothing) / len(batch) for name, x in losses.items()}

    @torch.no_grad()
    def _chosen(self, batch: Batch) -> list[TrainingSample]:
        """The samples against the names they show, hard ones and some others."""
        if all(len(sample.class_names) <= self.at_most for sample in batch):
            return list(batch)
        patches = self.find([sample.image for sample in batch])
        chosen = []
        for sample, features in zip(batch, patches, strict=True):
            rows = [self.rows[name] for name in sample.class_names]
            likeness = cosine_cost(features[None].float(), self.texts[rows])[0].amax(dim=(-2, -1))
            chosen.append(hardest_names(sample, likeness, self.at_most, self.hard))
        return chosen


class FewNames(Dataset[TrainingSample]):
    """Samples scored against the names that they show and some that they do not.

    The cost of a sample is bounded, and a head cannot learn one list by heart.

    Args:
        samples: the samples; they change with their index alone, and so do these.
        at_most: names of a sample, unless it shows more; those that it shows come first, the
            others in random order.
        seed: of the choice of names.
    """

    def __init__(self, samples: Dataset[TrainingSample], *, at_most: int = 96, seed: int) -> None:
        self.samples = samples
        self.at_most = at_most
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index, 1))  # not the chance of its pixels
        sample = self.samples[index]
        return sample.against(
            some_ids(sample.shown(), len(sample.class_names), self.at_most, generator)
        )


def hardest_names(
    sample: TrainingSample, likeness: Float[Tensor, " T"], at_most: int, hard: int
) -> TrainingSample:
    """The sample against the names it shows, the most alike of the others, and the first of those.

    Args:
        sample: the picture.
        likeness: of each name, that of the patch most like it.
        at_most: names in all, unless it shows more.
        hard: names at most that are chosen by likeness.
    """
    shown = sample.shown()
    order = [i for i in likeness.argsort(descending=True).tolist() if i not in shown]
    kept = dict.fromkeys([*shown, *order[:hard], *range(len(sample.class_names))])
    return sample.against(list(kept)[: max(at_most, len(shown))])
