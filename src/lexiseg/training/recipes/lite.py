"""The runs that made the bundled weights."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.data.mixture import Mixture, MixtureConfig, bundled_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import (
    LITE_WEIGHTS,
    head_metadata,
    load_starting_weights,
    pack,
)
from lexiseg.methods.catseg.model import CATSeg
from lexiseg.registry import builder_of
from lexiseg.training.objectives import FewNames, HeadObjective, LiteObjective
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Job, OptimConfig, Recipe, Stage, TrainConfig
from lexiseg.training.teachers import DeepLabTeacher, TeacherLabels
from lexiseg.weights import load_state, read_weights, save_weights

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


def lite(data: Path, config: TrainConfig) -> Job:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``

    The first stage learns from the masks and names; the second, 3,400 steps, also from what a
    DeepLab for PASCAL VOC sees on the same photographs, and calls names by their synonyms too.
    """
    weights = data.resolve().parent / "weights"
    teacher = TeacherLabels(  # read now: what is missing is told before the first stage
        DeepLabTeacher.read(weights / "deeplabv3-mobilenetv2-voc" / "weights.npz")
    )
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
        return _encoder_job(encoder, data, taught, shares=TAUGHT_SHARES, teacher=teacher)

    return replace(_encoder_job(encoder, data, config), next=Stage("taught", taught, second))


def _encoder_job(encoder: Lite, data: Path, config: TrainConfig, **choices: Any) -> Job:
    """Training of all of the encoder but its sentence tower."""
    samples = _samples(data, config, **choices)
    objective = LiteObjective(
        encoder, samples.names, read_teacher(data.resolve().parent / "weights")
    )

    def save(path: Path) -> Path:
        save_weights(path, pack(encoder), {"model": "maskclip_lite"})
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


def catseg_lite(data: Path, config: TrainConfig) -> Job:
    """CAT-Seg's head on the bundled encoder, which stays as it is.

    ``lexiseg train catseg_lite --data ../shared/data --out runs/catseg_lite``

    The last steps, at a lower rate, count "background" in full: until then it counts half, so that
    the names are learned first, and the model calls too much of a picture by one of them.
    """
    torch.manual_seed(config.seed)
    model = builder_of("catseg_lite")()
    load_state(model.encoder, read_weights(LITE_WEIGHTS))
    finish = replace(
        config,
        steps=max(1, round(config.steps * 2 / 9)),
        seed=seed_of_stage(config.seed, 1),
        average=0.98,
        optim=replace(config.optim, lr=0.6 * config.optim.lr),
    )
    stage = Stage("finish", finish, lambda: _head_job(model, data, finish, background_weight=1.0))
    return replace(_head_job(model, data, config, background_weight=0.5), next=stage)


def _head_job(model: CATSeg, data: Path, config: TrainConfig, *, background_weight: float) -> Job:
    """Training of all of a model but its encoder; just that is stored."""
    encoder = cast(nn.Module, model.encoder)
    encoder.requires_grad_(False)
    samples = _samples(data, config)
    objective = HeadObjective(model, samples.names, background_weight=background_weight).train()
    encoder.eval()

    def save(path: Path) -> Path:
        head = {
            key: value.half()
            for key, value in model.state_dict().items()
            if not key.startswith("encoder.")
        }
        save_weights(path, head, head_metadata("catseg_lite", cast(Lite, encoder)))
        return path

    return Job(
        objective=objective,
        samples=FewNames(samples, seed=config.seed),
        groups=parameter_groups(
            objective, lr=config.optim.lr, weight_decay=config.optim.weight_decay
        ),
        save=save,
        fingerprint=samples.fingerprint(),
    )


def seed_of_stage(seed: int, stage: int) -> int:
    """A seed that no other run, and no other stage of one, has."""
    return int(np.random.SeedSequence((seed, stage)).generate_state(1)[0])


def _samples(data: Path, config: TrainConfig, **choices: Any) -> Mixture:
    return bundled_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=MixtureConfig(synonym_probability=0.35),
        length=config.steps * config.batch_size,
        seed=config.seed,
        synonyms=read_synonyms(),
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
    config=TrainConfig(
        steps=1800, batch_size=16, precision="bfloat16", optim=OptimConfig(lr=1.5e-3)
    ),
    build=lite,
)
CATSEG_LITE = Recipe(
    name="catseg_lite",
    summary="CAT-Seg's head on the bundled encoder",
    config=TrainConfig(
        steps=900, batch_size=8, average=0.995, optim=OptimConfig(lr=5e-4, clip_norm=1.0)
    ),
    build=catseg_lite,
)
