"""The runs that made the bundled weights, one function each.

A recipe is called as ``recipe(data, out, config)`` and returns the file of weights it wrote; its
docstring has the command, the hardware, the time and the score to expect.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.data.mixture import Mixture, MixtureConfig, bundled_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS, load_starting_weights, pack
from lexiseg.methods.catseg.model import CATSeg
from lexiseg.registry import builder_of
from lexiseg.training.loop import OnStep, OptimConfig, TrainConfig, fit, ignore_step
from lexiseg.training.objectives import HeadObjective, LiteObjective
from lexiseg.weights import load_state, read_weights, save_weights

LITE = TrainConfig(steps=1800, batch_size=16, bfloat16=True, optim=OptimConfig(lr=1.5e-3))
CATSEG_LITE = TrainConfig(
    steps=900,
    batch_size=8,
    average=0.995,
    optim=OptimConfig(lr=5e-4, clip_norm=1.0),
)


def lite(
    data: Path, out: Path, config: TrainConfig = LITE, *, on_step: OnStep = ignore_step
) -> Path:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``
    """
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_starting_weights(encoder)
    encoder.text.requires_grad_(False)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = _samples(data, config)
    objective = LiteObjective(encoder, samples.names, read_teacher(data.parent / "weights"))
    objective.train()
    factors = {"encoder.backbone": config.optim.backbone_factor}
    fit(objective, objective, samples, config, out, multipliers=factors, on_step=on_step)
    weights = out / "encoder.safetensors"
    save_weights(weights, pack(encoder), {"model": "maskclip_lite"})
    return weights


def catseg_lite(
    data: Path, out: Path, config: TrainConfig = CATSEG_LITE, *, on_step: OnStep = ignore_step
) -> Path:
    """CAT-Seg's head on the bundled encoder, which stays as it is.

    ``lexiseg train catseg_lite --data ../shared/data --out runs/catseg_lite``
    """
    torch.manual_seed(config.seed)
    model = builder_of("catseg_lite")()
    load_state(model.encoder, read_weights(LITE_WEIGHTS))
    return _train_head(model, data, out, config, on_step, name="catseg_lite")


def _train_head(
    model: CATSeg, data: Path, out: Path, config: TrainConfig, on_step: OnStep, *, name: str
) -> Path:
    """Train all of a model but its encoder, and store just that.

    The last steps, at a lower rate, count "background" in full: until then it counts half, so that
    the names are learned first, and the model calls too much of a picture by one of them.
    """
    encoder = cast(nn.Module, model.encoder)
    encoder.requires_grad_(False)
    finish = replace(
        config,
        steps=max(1, round(config.steps * 2 / 9)),
        seed=config.seed + 1,
        average=0.98,
        optim=replace(config.optim, lr=0.6 * config.optim.lr),
    )
    for folder, stage, weight in ((out / "first", config, 0.5), (out / "finish", finish, 1.0)):
        samples = _samples(data, stage)
        objective = HeadObjective(model, samples.names, background_weight=weight)
        objective.train()
        encoder.eval()
        fit(objective, objective, samples, stage, folder, on_step=on_step)
    head = {
        key: value.half()
        for key, value in model.state_dict().items()
        if not key.startswith("encoder.")
    }
    weights = out / f"{name}.safetensors"
    save_weights(weights, head, {"model": name})
    return weights


def _samples(data: Path, config: TrainConfig) -> Mixture:
    return bundled_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=MixtureConfig(),
        length=config.steps * config.batch_size,
        seed=config.seed,
    )


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


RECIPES = {"lite": (lite, LITE), "catseg_lite": (catseg_lite, CATSEG_LITE)}
