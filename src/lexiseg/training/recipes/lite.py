"""The runs that made the bundled weights."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lexiseg.cache import cache_folder
from lexiseg.data.mixture import Mixture, Teacher, weak_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import pack, pack_image_side
from lexiseg.training.lite_objective import LiteObjective
from lexiseg.training.optim import parameter_groups
from lexiseg.training.recipes.lite_data import (
    CROPS,
    FINE_SHARES,
    IMAGENET_SURE,
    LARGE_CROPS,
    TAUGHT_SHARES,
    WHOLE,
    WHOLE_SHARES,
    lite_samples,
    read_imagenet,
    read_teacher,
    read_teachers,
)
from lexiseg.training.recipes.lite_start import (
    EncoderTrainConfig,
    between,
    check_start,
    starting,
)
from lexiseg.training.run import Job, OptimConfig, Recipe, Stage
from lexiseg.training.teachers import TeacherLabels
from lexiseg.weights import save_weights

FLOOR = "maskclip_lite"  # the model whose weights an encoder's file holds
FROZEN_STAGES = 3  # of the backbone in the third stage: they cost half the time and change little


def lite(data: Path, config: EncoderTrainConfig) -> Job:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``

    The first stage learns from the masks and names; the second, 17/9 as long, also from what a
    DeepLab for PASCAL VOC sees on the same photographs, and calls names by their synonyms too; the
    third, 5/6 as long, on larger pictures and from what ImageNet's classifier sees as well; the
    fourth, 2/9 as long, on whole pictures as they will be segmented, with the backbone frozen.
    """
    check_start(config)
    voc, imagenet = read_teachers(data)  # now: what is missing is told before the first stage
    encoder = starting(config)
    taught = replace(
        config,
        steps=max(1, round(config.steps * 17 / 9)),
        seed=seed_of_stage(config.seed, 1),
        optim=replace(config.optim, lr=config.optim.lr * 2 / 3, backbone_factor=0.25, warmup=0.03),
    )

    following = fine_stage(encoder, data, config, [voc, imagenet])

    def second() -> Job:
        job = _encoder_job(
            encoder, data, taught, varied=CROPS, shares=TAUGHT_SHARES, teachers=[voc]
        )
        return replace(job, next=following)

    first = _encoder_job(encoder, data, config, varied=CROPS)
    return replace(first, next=Stage("taught", taught, second, after=following.steps))


def fine_stage(
    encoder: Lite, data: Path, config: EncoderTrainConfig, teachers: Sequence[Teacher]
) -> Stage:
    """The third stage of the encoder, and what follows it."""
    fine = replace(
        config,
        steps=max(1, round(config.steps * 5 / 6)),
        seed=seed_of_stage(config.seed, 2),
        optim=replace(config.optim, lr=config.optim.lr / 2, backbone_factor=0.25, warmup=0.03),
    )

    following = whole_stage(encoder, data, config, teachers)

    def third() -> Job:
        encoder.backbone.freeze(FROZEN_STAGES)
        job = _encoder_job(
            encoder,
            data,
            fine,
            varied=LARGE_CROPS,
            overlap_weight=0.3,
            shares=FINE_SHARES,
            teachers=teachers,
        )
        return replace(job, next=following)

    return Stage("fine", fine, third, after=following.steps)


def whole_stage(
    encoder: Lite, data: Path, config: EncoderTrainConfig, teachers: Sequence[Teacher]
) -> Stage:
    """The fourth stage of the encoder."""
    whole = replace(whole_config(config), seed=seed_of_stage(config.seed, 3))
    return Stage("whole", whole, lambda: whole_job(encoder, data, whole, teachers))


def whole_config(config: EncoderTrainConfig) -> EncoderTrainConfig:
    """The fourth stage of a run: shorter than its first, at a lower rate."""
    optim = replace(config.optim, lr=config.optim.lr * 2 / 3, warmup=0.03)
    return replace(config, steps=max(1, round(config.steps * 2 / 9)), optim=optim)


def whole_job(
    encoder: Lite, data: Path, config: EncoderTrainConfig, teachers: Sequence[Teacher]
) -> Job:
    """What follows the backbone is trained on whole pictures.

    A network that learned from squares meets things at other sizes, and in other contexts, when it
    is asked about whole pictures; training its last layers on these mends it (FixRes: Touvron et
    al., NeurIPS 2019, section 3).
    """
    encoder.backbone.requires_grad_(False)
    job = _encoder_job(
        encoder,
        data,
        config,
        varied=WHOLE,
        overlap_weight=1.0,
        shares=WHOLE_SHARES,
        teachers=teachers,
    )
    encoder.eval()  # pictures come one by one: norms keep what they know of many
    return job


def lite_whole(data: Path, config: EncoderTrainConfig) -> Job:
    """The fourth stage of ``lite`` alone, from weights of an earlier one.

    ``lexiseg train lite_whole --data ../shared/data --out runs/whole --set start=FILE``
    """
    if not config.start:
        raise ValueError("no start came; give a file of weights of `lexiseg train lite`, or lite")
    check_start(config)
    teachers = read_teachers(data)
    return whole_job(starting(config), data, config, teachers)


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
    encoder = starting(config)
    encoder.backbone.freeze(FROZEN_STAGES)
    samples = weak_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=replace(CROPS, crop=288, longest=(288, 640)),
        length=config.steps * config.batch_size,
        seed=config.seed,
        teachers=[imagenet],
        synonyms=teacher.synonyms,
    )
    return _job(encoder, data, config, samples, store=pack_image_side, teacher_weight=1.0)


def _encoder_job(
    encoder: Lite,
    data: Path,
    config: EncoderTrainConfig,
    *,
    overlap_weight: float = 0.0,
    **choices: Any,
) -> Job:
    """Training from masks."""
    samples = lite_samples(data, config, **choices)
    return _job(encoder, data, config, samples, overlap_weight=overlap_weight)


def _job(
    encoder: Lite,
    data: Path,
    config: EncoderTrainConfig,
    samples: Mixture,
    *,
    store: Callable[[Lite], dict[str, Tensor]] = pack,
    **weights: Any,
) -> Job:
    """Training of all of the encoder but its sentence tower."""
    likeness = read_teacher(data.resolve().parent / "weights")
    objective = LiteObjective(encoder, samples.names, likeness, **weights)

    def save(path: Path) -> Path:
        save_weights(path, {**store(encoder), **between(encoder, config)}, {"model": FLOOR})
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


LITE_CONFIG = EncoderTrainConfig(
    steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
)
LITE = Recipe(
    name="lite",
    summary="the bundled encoder, on the project's own photographs",
    config=LITE_CONFIG,
    build=lite,
)
LITE_WHOLE = Recipe(
    name="lite_whole",
    summary="the bundled encoder's last stage, on whole pictures, from earlier weights",
    config=whole_config(LITE_CONFIG),
    build=lite_whole,
)
LITE_WEAK = Recipe(
    name="lite_weak",
    summary="the bundled encoder's twin, from whole-image names and captions alone",
    config=LITE_CONFIG,
    build=lite_weak,
)
