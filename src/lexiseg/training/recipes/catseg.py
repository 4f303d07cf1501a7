"""CAT-Seg: the published runs, and what one on one's own data has in common with them."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from lexiseg.data.augment import catseg_crop
from lexiseg.data.catalog import read_benchmark
from lexiseg.data.epochs import Augmentation
from lexiseg.data.semantic import SemanticDataset
from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import head_metadata
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.catseg import CATSeg, set_finetuning
from lexiseg.methods.catseg.finetuning import ENCODER_MULTIPLIER, Finetuning
from lexiseg.registry import builder_of
from lexiseg.segmenter import Segmenter
from lexiseg.training.dense import DenseTrainConfig, dense_job, trains_encoder
from lexiseg.training.run import Job, OptimConfig, Recipe, check_choice
from lexiseg.weights import load_state, read_weights, save_weights

CLIPS = {"catseg_vitb16": "clip_vitb16", "catseg_vitl14": "clip_vitl14_336"}


@dataclass(frozen=True)
class CATSegTrainConfig(DenseTrainConfig):
    """What all runs of CAT-Seg can change.

    Attributes:
        finetune: what of the encoder is trained, "attention", "full" or "freeze"; see
            :func:`lexiseg.methods.catseg.set_finetuning`.
        class_pooling: side of the square of cells that share one class attention in training.
    """

    finetune: str = "freeze"
    class_pooling: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("finetune", self.finetune, get_args(Finetuning))
        if self.class_pooling < 1:
            raise ValueError(f"class_pooling {self.class_pooling} came; it must be at least 1")


@dataclass(frozen=True)
class PublishedConfig(CATSegTrainConfig):
    """The run of the authors, theirs in every default.

    Attributes:
        clip: file of OpenAI's weights to start from; "" downloads them.
    """

    steps: int = 80_000
    batch_size: int = 4
    average: float = 0.0
    checkpoint_every: int = 5000
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=2e-4,
            backbone_factor=ENCODER_MULTIPLIER,
            weight_decay=1e-4,
            clip_norm=0.01,
            schedule="cosine",
            warmup=0.0,
        )
    )
    finetune: str = "attention"
    loss: str = "published"
    class_pooling: int = 2
    clip: str = ""


def catseg_vitb16(data: Path, config: PublishedConfig) -> Job:
    """CAT-Seg B from OpenAI's CLIP on COCO-Stuff, as published.

    ``lexiseg train catseg_vitb16 --data ROOT --out runs/vitb16 --set clip=ViT-B-16.pt``

    ROOT holds COCO-Stuff as ``lexiseg data check stuff171 ROOT`` asks for it. The weights of the
    last step count. The authors report 31.8 mIoU on ade150 (protocol "published"); their order of
    augmentations, groups, gradients and steps are tested against recordings of their code, the
    whole run was not repeated.
    """
    return _published("catseg_vitb16", data, config)


def catseg_vitl14(data: Path, config: PublishedConfig) -> Job:
    """CAT-Seg L from OpenAI's CLIP on COCO-Stuff, as published; else as :func:`catseg_vitb16`.

    ``lexiseg train catseg_vitl14 --data ROOT --out runs/vitl14 --set clip=ViT-L-14-336px.pt``

    The authors report 37.9 mIoU on ade150.
    """
    return _published("catseg_vitl14", data, config)


def _published(arch: str, data: Path, config: PublishedConfig) -> Job:
    dataset = read_benchmark("stuff171", data, "train")
    torch.manual_seed(config.seed)
    model = builder_of(arch)()
    clip = config.clip or clip_checkpoints.OPENAI[CLIPS[arch]]
    load_state(model.encoder, read_weights(clip), clip_checkpoints.from_published)
    protocol = "published_whole"
    return catseg_job(model, arch, dataset, config, augmentation=catseg_crop, protocol=protocol)


def catseg_job(
    model: CATSeg,
    arch: str,
    dataset: SemanticDataset,
    config: CATSegTrainConfig,
    *,
    augmentation: Augmentation,
    protocol: str = "default",
    val: SemanticDataset | None = None,
) -> Job:
    """What the published runs and one's own have in common.

    Args:
        model: with the weights to start from.
        arch: its registered name.
        dataset: what is learned from.
        config: the run.
        augmentation: see :class:`lexiseg.data.epochs.Epochs`.
        protocol: whose words and pixels are learned from.
        val: what decides which checkpoint is the best; None: the last one is.
    """
    set_finetuning(model, config.finetune)
    _check_share(model, config)
    model.class_pooling = config.class_pooling
    return dense_job(
        model,
        dataset,
        config,
        augmentation=augmentation,
        save=partial(_save, model, arch, trains_encoder(model)),
        multipliers={"encoder.": config.optim.backbone_factor},
        protocol=protocol,
        val=val,
        validate=None if val is None else partial(_score, model, val),
    )


def _check_share(model: CATSeg, config: CATSegTrainConfig) -> None:
    """Refuse single samples where the encoder's batch norms would be trained on them."""
    norms = [
        part
        for name, part in model.named_modules()
        if name.startswith("encoder.") and isinstance(part, nn.BatchNorm2d)
    ]
    learns = any(p.requires_grad for part in norms for p in part.parameters())
    if learns and config.batch_size == config.accumulate:
        raise ValueError(
            f"batch_size {config.batch_size} came with accumulate {config.accumulate} and finetune "
            f"{config.finetune!r}: the encoder's batch norms need two samples at once or more"
        )


def _score(model: CATSeg, val: SemanticDataset) -> float:
    """Mean IoU of the model as it will be used."""
    pooling, model.class_pooling = model.class_pooling, model.config.class_pooling
    try:
        device = next(model.parameters()).device
        return evaluate(Segmenter(model, device=device), val).mean_iou
    finally:
        model.class_pooling = pooling


def _save(model: CATSeg, arch: str, whole: bool, path: Path) -> Path:
    """The whole model, or the head alone; the bundled encoder is added when that is loaded."""
    state, metadata = model.state_dict(), {"model": arch}
    if isinstance(model.encoder, Lite) and not whole:
        state = {name: state[name] for name in state if not name.startswith("encoder.")}
        metadata = head_metadata(arch, model.encoder)
    save_weights(path, state, metadata)
    return path


CATSEG_VITB16 = Recipe(
    "catseg_vitb16", "CAT-Seg B on COCO-Stuff, as published", PublishedConfig(), catseg_vitb16
)
CATSEG_VITL14 = Recipe(
    "catseg_vitl14", "CAT-Seg L on COCO-Stuff, as published", PublishedConfig(), catseg_vitl14
)
