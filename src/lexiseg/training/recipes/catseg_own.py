"""A CAT-Seg trained further on one's own data."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from lexiseg.data.augment import varied_crop
from lexiseg.data.datasets import open_dataset
from lexiseg.data.epochs import hold_out
from lexiseg.data.semantic import SemanticDataset
from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.catseg.finetuning import ENCODER_MULTIPLIER
from lexiseg.registry import create_model, pretrained_name
from lexiseg.training.recipes.catseg import CATSegTrainConfig, catseg_job
from lexiseg.training.run import Job, OptimConfig, Recipe


@dataclass(frozen=True)
class OwnConfig(CATSegTrainConfig):
    """A run on one's own data.

    Attributes:
        model: what is trained further: a CAT-Seg by its name, as ``lexiseg models`` shows it.
        weights: a checkpoint of that model to start from; "" starts from those of its name.
        dataset: a benchmark in the data folder; "" reads the folder itself.
        crop: side of the squares that are learned from, in pixels.
    """

    steps: int = 600
    batch_size: int = 8
    average: float = 0.99
    checkpoint_every: int = 0
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=2e-4, backbone_factor=ENCODER_MULTIPLIER, weight_decay=1e-4, clip_norm=1.0
        )
    )
    model: str = "catseg_lite"
    weights: str = ""
    dataset: str = ""
    crop: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 1:
            raise ValueError(f"crop {self.crop} came; it must be at least 1")


def catseg_own(data: Path, config: OwnConfig) -> Job:
    """A CAT-Seg trained further on photographs and masks of one's own.

    ``lexiseg train catseg_own --data FOLDER --out runs/own``

    FOLDER has ``classes.json`` or COCO's annotations, or with ``--set dataset=NAME`` holds a
    benchmark. The split "val" decides which checkpoint is the best; where there are no splits,
    every tenth photograph does. ``--set model=catseg_vitb16 --set finetune=attention --set
    crop=384`` trains the published model, which wants a GPU.
    """
    train, val = _own_splits(data, config)
    torch.manual_seed(config.seed)
    name = config.model if config.weights else pretrained_name(config.model)
    model = create_model(name, weights=config.weights or None)
    if not isinstance(model, CATSeg):
        raise ValueError(f"model {config.model!r} came; the recipe trains CAT-Seg's models only")
    augmentation = partial(
        varied_crop,
        size=config.crop,
        longest=(config.crop, config.crop * 5 // 2),
        stretch=1.3,
        jitter=0.3,
    )
    arch = name.partition(".")[0]
    return catseg_job(model, arch, train, config, augmentation=augmentation, val=val)


def _own_splits(data: Path, config: OwnConfig) -> tuple[SemanticDataset, SemanticDataset]:
    """What is learned from, and what is scored."""
    name, root = (config.dataset, data) if config.dataset else (data, None)
    train, val = (open_dataset(name, split=split, root=root) for split in ("train", "val"))
    if not isinstance(train, SemanticDataset) or not isinstance(val, SemanticDataset):
        raise ValueError(f"{config.dataset or data} has expressions; the recipe needs label maps")
    if train.images == val.images:
        return hold_out(train)
    if train.class_names != val.class_names:
        raise ValueError(
            f"{train.name} has {len(train.class_names)} classes in train and "
            f"{len(val.class_names)} in val, or others; both splits need the same"
        )
    return train, val


CATSEG_OWN = Recipe(
    "catseg_own", "a CAT-Seg trained further on one's own data", OwnConfig(), catseg_own
)
