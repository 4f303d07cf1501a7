"""What the bundled models minimise, each a function of a batch of training samples."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from lexiseg.data.mixture import Taught, TrainingSample, some_ids
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.losses import dice_loss, masked_bce
from lexiseg.training.run import Batch

BACKGROUND = "background"


class LiteObjective(nn.Module):
    """Losses of the encoder on one batch.

    * ``dense``: each labelled pixel is classified among its picture's own names. "background" is
      what nobody labelled, so it counts less, and rare names count more.
    * ``overlap``: the same pixels as regions; see :func:`overlap_loss`.
    * ``image``: the picture's one name is found by its best-matching patches.
    * ``teacher``: each pixel of which a teacher is sure is classified among the names it knows.
    * ``likeness``: names are as alike as a teacher finds them (relational distillation, Park et
      al., CVPR 2019), on some of the teacher's names, which the step chooses.

    Args:
        encoder: what is trained.
        names: every name that can occur.
        teacher: names and their vectors in the teacher's space, the mean name subtracted.
        background_weight: weight of a "background" pixel.
        likeness_weight: weight of the likeness loss.
        likeness_names: names compared in a step.
        teacher_weight: weight of the teacher's loss.
        teacher_background_weight: weight of a pixel that the teacher calls "background".
        overlap_weight: weight of the overlap loss; 0 leaves it out.
    """

    sentences: Tensor
    teacher_sentences: Tensor
    teacher: Tensor

    def __init__(
        self,
        encoder: Lite,
        names: Sequence[str],
        teacher: tuple[Sequence[str], Float[Tensor, "K C"]],
        *,
        background_weight: float = 0.5,
        likeness_weight: float = 10.0,
        likeness_names: int = 384,
        teacher_weight: float = 0.5,
        teacher_background_weight: float = 0.4,
        overlap_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = {name: row for row, name in enumerate(names)}
        self.background_weight = background_weight
        self.likeness_weight = likeness_weight
        self.likeness_names = likeness_names
        self.teacher_weight = teacher_weight
        self.teacher_background_weight = teacher_background_weight
        self.overlap_weight = overlap_weight
        with torch.no_grad():
            fixed = {
                "sentences": encode_in_chunks(encoder, names),
                "teacher_sentences": encode_in_chunks(encoder, teacher[0]),
                "teacher": F.normalize(teacher[1], dim=-1),
            }
        for name, rows in fixed.items():
            self.register_buffer(name, rows, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        images = torch.stack([s.image for s in batch]).contiguous(memory_format=torch.channels_last)
        patches = self.encoder.encode_images(images).patch_features
        with torch.autocast(patches.device.type, enabled=False):
            patches = F.normalize(patches.float(), dim=1)
            texts = F.normalize(self.encoder.text_projection(self.sentences), dim=-1)
            nothing = texts.sum() * 0
            losses = dict.fromkeys(("dense", "overlap", "image", "teacher"), nothing)
            for sample, features in zip(batch, patches, strict=True):
                logits = self._logits(features, texts, sample.class_names)
                if sample.image_label is None:
                    dense, overlap = self._dense(logits, sample)
                    losses["dense"] = losses["dense"] + dense
                    losses["overlap"] = losses["overlap"] + overlap
                else:
                    whole = image_label_loss(logits, sample.image_label)
                    losses["image"] = losses["image"] + whole
                for taught in sample.taught:
                    logits = self._logits(features, texts, taught.class_names)
                    seen = self._teacher(logits, taught, sample.ignore_index)
                    losses["teacher"] = losses["teacher"] + seen
            losses = {name: total / len(batch) for name, total in losses.items()}
            losses["likeness"] = self.likeness_weight * self._likeness(batch)
        return losses

    def _logits(
        self, features: Float[Tensor, "D h w"], texts: Float[Tensor, "K D"], names: Sequence[str]
    ) -> Float[Tensor, "T h w"]:
        rows = [self.rows[name] for name in names]
        return self.encoder.logit_scale.exp() * torch.einsum("dhw,td->thw", features, texts[rows])

    def _dense(
        self, logits: Float[Tensor, "T h w"], sample: TrainingSample
    ) -> tuple[Tensor, Tensor]:
        # One label out of 4 x 4 pixels is enough for patches of 8.
        labels = sample.label_map[2::4, 2::4]
        names, ignored = sample.class_names, sample.ignore_index
        dense = weighted_cross_entropy(logits, labels, names, self.background_weight, ignored)
        if not self.overlap_weight:
            return dense, torch.zeros_like(dense)
        return dense, self.overlap_weight * overlap_loss(logits, labels, names, ignored)

    def _teacher(self, logits: Float[Tensor, "T h w"], taught: Taught, ignore_index: int) -> Tensor:
        labels, weight = taught.label_map[2::4, 2::4], self.teacher_background_weight
        return self.teacher_weight * weighted_cross_entropy(
            logits, labels, taught.class_names, weight, ignore_index
        )

    def _likeness(self, batch: Batch) -> Tensor:
        order = torch.randperm(len(self.teacher), generator=batch.generator())
        chosen = order[: self.likeness_names].to(self.teacher.device)
        ours = F.normalize(self.encoder.text_projection(self.teacher_sentences[chosen]), dim=-1)
        theirs = self.teacher[chosen]
        return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


class HeadObjective(nn.Module):
    """Losses of a method's head over a frozen encoder, on one batch.

    ``dense`` is the weighted cross-entropy between names, ``each`` the binary cross-entropy of
    every name by itself, which makes scores comparable between label sets, ``overlap`` counts
    regions (:func:`overlap_loss`), ``image`` is the loss of whole-image names.

    A sample is scored against the names that it shows, those absent ones that the encoder itself
    finds most like some patch of it, and a few others: what a head must learn to refuse.

    Args:
        model: what is trained.
        find: patch features of images in the space of the texts, from the model's frozen encoder.
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
        find: Callable[[Tensor], Tensor],
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
        patches = self.find(torch.stack([sample.image for sample in batch]))
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


def weighted_cross_entropy(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    background_weight: float,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Cross-entropy over the labelled pixels; 0 where there are none.

    "background" is what nobody labelled, which may be anything, so it counts less.
    """
    if bool((labels == ignore_index).all()):
        return logits.sum() * 0
    weights = name_weights(labels[labels != ignore_index], len(names))
    if BACKGROUND in names:
        weights[list(names).index(BACKGROUND)] *= background_weight
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")
    return F.cross_entropy(logits, labels[None], weights, ignore_index=ignore_index)


def overlap_loss(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """One minus the Dice overlap of each name on the picture, on average; 0 where there is none.

    It counts regions, as mIoU does (:func:`lexiseg.training.losses.dice_loss`). "background" is no
    region.
    """
    known = labels != ignore_index
    shown = [i for i in labels[known].unique().tolist() if names[i] != BACKGROUND]
    if not shown:
        return logits.sum() * 0
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")[0]
    scores = logits.softmax(dim=0)[shown] * known
    truth = labels == torch.tensor(shown, device=labels.device)[:, None, None]
    return dice_loss(scores, truth)


def name_weights(labels: Int[Tensor, " N"], count: int) -> Float[Tensor, " T"]:
    """Weights that let a small region speak: one over the fourth root of its share."""
    pixels = torch.bincount(labels, minlength=count).float()
    share = pixels / pixels.sum().clamp(min=1)
    return share.clamp(min=1e-3).pow(-0.25)


def image_label_loss(logits: Float[Tensor, "T h w"], image_label: int) -> Tensor:
    """Cross-entropy of the whole picture: each name by a soft maximum over the patches."""
    pooled = logits.flatten(1).logsumexp(dim=1) - torch.tensor(float(logits[0].numel())).log()
    return F.cross_entropy(pooled[None], torch.tensor([image_label], device=logits.device))


def encode_in_chunks(encoder: Lite, names: Sequence[str], size: int = 256) -> Tensor:
    """The frozen sentence encoder's vectors of many names."""
    return torch.cat([encoder.text(chunk).pooled for chunk in _chunks(names, size)])


def _chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield list(names[start : start + size])
