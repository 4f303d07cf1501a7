"""The runs that made the bundled weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.cache import cache_folder
from lexiseg.data.mixture import Mixture, MixtureConfig, Teacher, weak_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import (
    LITE_WEAK_WEIGHTS,
    LITE_WEIGHTS,
    load_starting_weights,
    pack,
    pack_image_side,
    read_encoder,
)
from lexiseg.training.lite_objective import LiteObjective
from lexiseg.training.optim import parameter_groups
from lexiseg.training.recipes.lite_data import (
    FINE_SHARES,
    IMAGENET_SURE,
    TAUGHT_SHARES,
    LiteTrainConfig,
    lite_samples,
    read_imagenet,
    read_teacher,
    read_teachers,
)
from lexiseg.training.run import Job, OptimConfig, Recipe, Stage
from lexiseg.training.teachers import TeacherLabels
from lexiseg.weights import load_state, save_weights

WEAK = "lite_weak"
STARTS = {"lite": LITE_WEIGHTS, WEAK: LITE_WEAK_WEIGHTS}  # what is bundled, by name
FROZEN_STAGES = 3  # of the backbone in the third stage: they cost half the time and change little


@dataclass(frozen=True)
class EncoderTrainConfig(LiteTrainConfig):
    """A run of the bundled encoder itself.

    Attributes:
        start: what it begins with: "" for ImageNet's weights, "lite" or "lite_weak" for what is
            bundled, else a file of such a run.
    """

    start: str = ""


def lite(data: Path, config: EncoderTrainConfig) -> Job:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``

    The first stage learns from the masks and names; the second, 17/9 as long, also from what a
    DeepLab for PASCAL VOC sees on the same photographs, and calls names by their synonyms too; the
    third, 5/6 as long, on larger pictures and from what ImageNet's classifier sees as well.
    """
    check_start(config)
    voc, imagenet = read_teachers(data)  # now: what is missing is told before the first stage
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_start(encoder, config.start)
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
    encoder: Lite, data: Path, config: EncoderTrainConfig, teachers: Sequence[Teacher]
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


def lite_weak(data: Path, config: EncoderTrainConfig) -> Job:
    """The bundled encoder's twin, which never saw a mask.

    ``lexiseg train lite_weak --data ../shared/data --out runs/lite_weak``

    It learns from ImageNet's classifier, photographs with one name and captions; the photographs
    that have masks are read without them. Only what differs from the bundled encoder is stored:
    the sentence encoder is the same.
    """
    if config.unseen:
        raise ValueError(f"unseen {config.unseen} came; lite_weak holds no names out, lite does")
    teacher = read_imagenet(data)
    imagenet = TeacherLabels(teacher, cache_folder() / "teachers", sure=IMAGENET_SURE)
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_start(encoder, config.start)
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


def check_start(config: EncoderTrainConfig) -> None:
    """Refuse a bundled start that has learned the names which are held out."""
    fits = config.start == WEAK and config.unseen_in == "masks"
    if config.unseen and config.start in STARTS and not fits:
        raise ValueError(
            f"start {config.start} came with unseen {config.unseen}: what is bundled has learned "
            f"these names; leave start out, or take start={WEAK} with unseen_in=masks"
        )


def load_start(encoder: Lite, start: str) -> None:
    """What an encoder begins with; see :class:`EncoderTrainConfig`.

    Raises:
        ValueError: there is no such file, it does not fit, or a package is not installed.
    """
    if not start:
        load_starting_weights(encoder)
        return
    if start not in STARTS and not Path(start).is_file():
        raise ValueError(
            f"start {start!r} came; give a file of weights of `lexiseg train lite` or `lite_weak`, "
            f"or what is bundled: {' or '.join(STARTS)}"
        )
    try:
        load_state(encoder, read_encoder(STARTS.get(start, start)))
    except ValueError as error:
        raise ValueError(f"start {start!r} is no encoder of `train lite`: {error}") from error


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


LITE = Recipe(
    name="lite",
    summary="the bundled encoder, on the project's own photographs",
    config=EncoderTrainConfig(
        steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
    ),
    build=lite,
)
LITE_WEAK = Recipe(
    name="lite_weak",
    summary="the bundled encoder's twin, from whole-image names and captions alone",
    config=EncoderTrainConfig(
        steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
    ),
    build=lite_weak,
)
