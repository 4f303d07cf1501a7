"""The runs that made the bundled weights."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.data.mixture import Mixture, MixtureConfig, Teacher, bundled_mixture, weak_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import (
    load_starting_weights,
    pack,
    pack_image_side,
)
from lexiseg.training.objectives import LiteObjective
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Job, OptimConfig, Recipe, Stage, TrainConfig
from lexiseg.training.teachers import DeepLabTeacher, ImageNetTeacher, TeacherLabels
from lexiseg.weights import cache_folder, save_weights

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
IMAGENET_SURE = 0.5  # the probability that ImageNet's classifier must give a place
FROZEN_STAGES = 3  # of the backbone in the third stage: they cost half the time and change little


@dataclass(frozen=True)
class LiteTrainConfig(TrainConfig):
    """A run of the bundled models.

    Attributes:
        unseen: share of the names that are held out of training, chosen by their hash, with their
            synonyms and all names that contain them.
    """

    unseen: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.unseen < 1:
            raise ValueError(f"unseen {self.unseen} came; it is a share, 0 or more and less than 1")


def lite(data: Path, config: LiteTrainConfig) -> Job:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``

    The first stage learns from the masks and names; the second, 17/9 as long, also from what a
    DeepLab for PASCAL VOC sees on the same photographs, and calls names by their synonyms too; the
    third, 5/6 as long, on larger pictures and from what ImageNet's classifier sees as well.
    """
    voc, imagenet = read_teachers(data)  # now: what is missing is told before the first stage
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_starting_weights(encoder)
    encoder.text.requires_grad_(False)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    taught = replace(
        config,
        steps=max(1, round(config.steps * 17 / 9)),
        seed=seed_of_stage(config.seed, 1),
        optim=replace(config.optim, lr=config.optim.lr * 2 / 3, backbone_factor=0.25, warmup=0.03),
    )

    def second() -> Job:
        job = _encoder_job(encoder, data, taught, shares=TAUGHT_SHARES, teachers=[voc])
        return replace(job, next=fine_stage(encoder, data, config, [voc, imagenet]))

    return replace(_encoder_job(encoder, data, config), next=Stage("taught", taught, second))


def fine_stage(
    encoder: Lite, data: Path, config: LiteTrainConfig, teachers: Sequence[Teacher]
) -> Stage:
    """The last stage of the encoder."""
    fine = replace(
        config,
        steps=max(1, round(config.steps * 5 / 6)),
        seed=seed_of_stage(config.seed, 2),
        optim=replace(config.optim, lr=config.optim.lr / 2, backbone_factor=0.25, warmup=0.03),
    )

    def third() -> Job:
        encoder.backbone.freeze(FROZEN_STAGES)
        return _encoder_job(
            encoder,
            data,
            fine,
            crop=320,
            longest=(320, 800),
            overlap_weight=0.3,
            shares=FINE_SHARES,
            teachers=teachers,
        )

    return Stage("fine", fine, third)


def lite_weak(data: Path, config: LiteTrainConfig) -> Job:
    """The bundled encoder's twin, which never saw a mask.

    ``lexiseg train lite_weak --data ../shared/data --out runs/lite_weak``

    It learns from ImageNet's classifier, photographs with one name and captions; the photographs
    that have masks are read without them. Only what differs from the bundled encoder is stored:
    the sentence encoder is the same.
    """
    teacher = read_imagenet(data)
    imagenet = TeacherLabels(teacher, cache_folder() / "teachers", sure=IMAGENET_SURE)
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_starting_weights(encoder)
    encoder.text.requires_grad_(False)
    encoder.backbone.freeze(FROZEN_STAGES)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = weak_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=MixtureConfig(crop=288, longest=(288, 640), synonym_probability=0.35),
        length=config.steps * config.batch_size,
        seed=config.seed,
        teachers=[imagenet],
        synonyms=teacher.synonyms,
    )
    return _job(encoder, data, config, samples, store=pack_image_side, teacher_weight=1.0)


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


def _encoder_job(
    encoder: Lite,
    data: Path,
    config: LiteTrainConfig,
    *,
    crop: int = 256,
    longest: tuple[int, int] = (256, 640),
    overlap_weight: float = 0.0,
    **choices: Any,
) -> Job:
    """Training from masks."""
    samples = lite_samples(data, config, crop=crop, longest=longest, **choices)
    return _job(encoder, data, config, samples, overlap_weight=overlap_weight)


def _job(
    encoder: Lite,
    data: Path,
    config: LiteTrainConfig,
    samples: Mixture,
    *,
    store: Callable[[Lite], dict[str, Tensor]] = pack,
    **weights: Any,
) -> Job:
    """Training of all of the encoder but its sentence tower."""
    likeness = read_teacher(data.resolve().parent / "weights")
    objective = LiteObjective(encoder, samples.names, likeness, **weights)

    def save(path: Path) -> Path:
        save_weights(path, store(encoder), {"model": "maskclip_lite"})
        return path

    return Job(
        objective=objective.train(),
        samples=samples,
        groups=parameter_groups(
            objective,
            lr=config.optim.lr,
            weight_decay=config.optim.weight_decay,
            multipliers={"encoder.backbone": config.optim.backbone_factor},
        ),
        save=save,
        fingerprint=samples.fingerprint(),
    )


def seed_of_stage(seed: int, stage: int) -> int:
    """A seed that no other run, and no other stage of one, has."""
    return int(np.random.SeedSequence((seed, stage)).generate_state(1)[0])


def lite_samples(
    data: Path,
    config: LiteTrainConfig,
    *,
    crop: int = 256,
    longest: tuple[int, int] = (256, 640),
    **choices: Any,
) -> Mixture:
    """The project's own photographs, varied; ``choices`` are those of ``bundled_mixture``."""
    return bundled_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=MixtureConfig(crop=crop, longest=longest, synonym_probability=0.35),
        length=config.steps * config.batch_size,
        seed=config.seed,
        synonyms=read_synonyms(),
        unseen=config.unseen,
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


LITE = Recipe(
    name="lite",
    summary="the bundled encoder, on the project's own photographs",
    config=LiteTrainConfig(
        steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
    ),
    build=lite,
)
LITE_WEAK = Recipe(
    name="lite_weak",
    summary="the bundled encoder's twin, from whole-image names and captions alone",
    config=LiteTrainConfig(
        steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
    ),
    build=lite_weak,
)
