"""What the bundled models learn from: photographs, teachers, words."""

import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.cache import cache_folder
from lexiseg.data.mixture import Mixture, MixtureConfig, bundled_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS
from lexiseg.training.run import TrainConfig, check_choice
from lexiseg.training.teachers import DeepLabTeacher, ImageNetTeacher, TeacherLabels

# The second stage: more of the photographs that are hard, fewer of those that are learned.
TAUGHT_SHARES = {
    "scenes/msrc21": 0.22,
    "scenes/coco_mini": 0.21,
    "scenes/coco128": 0.08,
    "scenes/ccp_more": 0.09,
    "scenes/ccp": 0.03,
    "scenes/facades": 0.13,
    "objects/car_parts": 0.06,
    "image_labels/caltech101": 0.18,
}
# The third: pictures as large as they are evaluated, and more of what has small regions.
FINE_SHARES = {
    "scenes/msrc21": 0.15,
    "scenes/coco_mini": 0.21,
    "captions/coco": 0.02,
    "scenes/coco128": 0.09,
    "scenes/ccp_more": 0.11,
    "scenes/ccp": 0.04,
    "scenes/facades": 0.17,
    "objects/car_parts": 0.07,
    "image_labels/caltech101": 0.14,
}
# The fourth, in which car parts gain as much as scenes do.
WHOLE_SHARES = {
    "scenes/msrc21": 0.14,
    "scenes/coco_mini": 0.20,
    "scenes/coco128": 0.10,
    "scenes/ccp_more": 0.11,
    "scenes/ccp": 0.05,
    "scenes/facades": 0.16,
    "objects/car_parts": 0.14,
    "image_labels/caltech101": 0.10,
}
# How pictures are varied: squares out of them, larger ones, and whole as they will be segmented.
CROPS = MixtureConfig(crop=256, longest=(256, 640), synonym_probability=0.35)
LARGE_CROPS = replace(CROPS, crop=320, longest=(320, 800))
HEAD_CROPS = replace(CROPS, longest=(320, 768))
WHOLE = replace(CROPS, crop=None, longest=(448, 448), stretch=1.0)
IMAGENET_SURE = 0.5  # the probability that ImageNet's classifier must give a place


@dataclass(frozen=True)
class LiteTrainConfig(TrainConfig):
    """A run of the bundled models.

    Attributes:
        unseen: share of the names that are held out of training, chosen by their hash, with their
            synonyms and all names that contain them.
        unseen_in: "everything", or "masks": then they are held out of labelled pixels alone
            (masks, cutouts, what teachers see), and names of whole pictures still teach them.
        part: of what was learned, that which is stored.
    """

    unseen: float = 0.0
    unseen_in: str = "everything"
    part: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.unseen < 1:
            raise ValueError(f"unseen {self.unseen} came; it is a share, 0 or more and less than 1")
        check_choice("unseen_in", self.unseen_in, ("everything", "masks"))
        if not 0 < self.part <= 1:
            raise ValueError(f"part {self.part} came; it must be above 0 and at most 1")


def read_teachers(data: Path) -> tuple[TeacherLabels, TeacherLabels]:
    """DeepLab for PASCAL VOC and ImageNet's classifier, each where it is sure.

    Raises:
        ValueError: a file or a package is missing.
    """
    file = data.resolve().parent / "weights" / "deeplabv3-mobilenetv2-voc" / "weights.npz"
    voc, folder = DeepLabTeacher.read(file), cache_folder() / "teachers"
    return TeacherLabels(voc, folder), TeacherLabels(
        read_imagenet(data), folder, sure=IMAGENET_SURE
    )


def read_imagenet(data: Path) -> ImageNetTeacher:
    """ImageNet's classifier; the names of its classes lie beside the folder of data sets."""
    weights = data.resolve().parent / "weights"
    return ImageNetTeacher.read(weights / "mobilenetv2-imagenet" / "labels.txt")


def lite_samples(
    data: Path,
    config: LiteTrainConfig,
    *,
    varied: MixtureConfig,
    **choices: Any,
) -> Mixture:
    """The project's own photographs; ``choices`` are those of ``bundled_mixture``.

    Raises:
        ValueError: names are to be held out of masks, but no share of them; or a folder is missing.
    """
    masks_only = config.unseen_in == "masks"
    if masks_only and not config.unseen:
        raise ValueError("unseen_in masks came without names to hold out; set unseen=0.2, say")
    return bundled_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=varied,
        length=config.steps * config.batch_size,
        seed=config.seed,
        synonyms=read_synonyms(),
        unseen=config.unseen,
        masks_only=masks_only,
        **choices,
    )


def read_synonyms() -> dict[str, tuple[str, ...]]:
    """Other words for the names that the bundled models learn."""
    file = resources.files("lexiseg") / "assets" / "synonyms" / "training.json"
    listed = json.loads(file.read_text(encoding="utf-8"))["synonyms"]
    return {name: tuple(words) for name, words in listed.items()}


def read_teacher(weights: Path) -> tuple[list[str], Tensor]:
    """Names and CLIP ViT-B/32's vectors of them, their mean subtracted."""
    folder = weights / "clip-text-embeddings"
    vectors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("vitb32_*.names.json")):
        rows = torch.from_numpy(np.load(path.with_name(path.name.replace(".names.json", ".npy"))))
        for name, row in zip(json.loads(path.read_text()), F.normalize(rows.float()), strict=True):
            vectors.setdefault(name.replace("_", " ").replace("/", " or ").lower(), row)
    if not vectors:
        raise ValueError(f"{folder} holds no vitb32_*.names.json: the recipe's teacher is missing")
    table = torch.stack(list(vectors.values()))
    return list(vectors), table - table.mean(dim=0)
