"""Training of a model that is asked for every text of one data set at once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lexiseg.data.epochs import Augmentation, Epochs, texts_of
from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import SemanticDataset
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.prompts import build_prompts
from lexiseg.training.losses import masked_bce, published_bce
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Job, TrainConfig, check_choice

LOSSES = {"masked": masked_bce, "published": published_bce}


@dataclass(frozen=True)
class DenseTrainConfig(TrainConfig):
    """What all such runs can change.

    Attributes:
        loss: "masked" leaves ignored pixels out, "published" takes them for examples of no text.
    """

    loss: str = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, tuple(LOSSES))


def dense_job(
    model: SegmentationModel,
    dataset: SemanticDataset,
    config: DenseTrainConfig,
    *,
    augmentation: Augmentation,
    save: Callable[[Path], Path],
    multipliers: Mapping[str, float],
    protocol: str = "default",
    val: SemanticDataset | None = None,
    validate: Callable[[], float] | None = None,
) -> Job:
    """Training on one data set, photograph by photograph.

    Args:
        model: with the weights to start from and its ``requires_grad`` set.
        dataset: what is learned from.
        config: the run.
        augmentation: see :class:`lexiseg.data.epochs.Epochs`.
        save: writes the model.
        multipliers: see :func:`lexiseg.training.optim.parameter_groups`.
        protocol: whose words and pixels are learned from.
        val: what the checkpoints are scored on, for the fingerprint.
        validate: scores the model.
    """
    way = model.protocols[protocol]
    texts = texts_of(dataset, way.authors)
    labels = texts.labels.first_names() if way.first_synonym else texts.labels
    prompts = build_prompts(labels, model.templates)
    objective = DenseObjective(model, prompts, loss=config.loss)
    samples = Epochs(
        dataset,
        texts,
        augmentation=augmentation,
        preprocess=way.preprocess,
        length=config.steps * config.batch_size,
        seed=config.seed,
    )
    learned = [dataset.fingerprint(), val.fingerprint() if val else "", prompts]
    return Job(
        objective=objective.train(),
        samples=samples,
        groups=parameter_groups(
            model,
            lr=config.optim.lr,
            weight_decay=config.optim.weight_decay,
            multipliers=multipliers,
            decay_vectors=True,
        ),
        save=save,
        validate=validate,
        epoch=len(dataset),
        fingerprint=hashlib.sha256(repr(learned).encode()).hexdigest(),
    )


def trains_encoder(model: SegmentationModel) -> bool:
    """Whether anything of the model's ``encoder`` is trained."""
    return any(p.requires_grad for p in model.get_submodule("encoder").parameters())


class DenseObjective(nn.Module):
    """Each text by itself at each pixel, against all texts of the data set.

    Where something of the model's ``encoder`` is trained, the texts are encoded at every step, with
    gradients (published for CAT-Seg); else once.

    Args:
        model: what is trained, by its parameters' ``requires_grad``.
        prompts: the sentences of each text.
        loss: one of ``LOSSES``.
    """

    text_features: Tensor | None

    def __init__(
        self, model: SegmentationModel, prompts: Sequence[Sequence[str]], *, loss: str = "published"
    ) -> None:
        super().__init__()
        self.model = model
        self.prompts = prompts
        self.loss = LOSSES[loss]
        self.frozen_encoder = not trains_encoder(model)
        features = None
        if self.frozen_encoder:
            with torch.no_grad():
                features = model.encode_texts(prompts).features
        self.register_buffer("text_features", features, persistent=False)

    def train(self, mode: bool = True) -> "DenseObjective":
        """As for any module, but a frozen encoder stays as it is in use."""
        super().train(mode)
        if self.frozen_encoder:
            self.model.get_submodule("encoder").eval()
        return self

    def forward(self, batch: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """The mean over the samples, each of which counts alike however much of it is labelled."""
        images = torch.stack([sample.image for sample in batch])
        features = self.text_features
        texts = self.model.encode_texts(self.prompts) if features is None else Texts(features)
        logits = self.model(images, texts).float()
        losses = [
            self.loss(each[None], sample.label_map[None], sample.ignore_index)
            for each, sample in zip(logits, batch, strict=True)
        ]
        return {"bce": torch.stack(losses).mean()}
