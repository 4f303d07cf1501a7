"""The runs that made the bundled weights, one function each.

A recipe is called as ``recipe(data, out, config)`` and returns the trained module; its docstring
has the command, the hardware, the time and the score to expect.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.data.mixture import MixtureConfig, bundled_mixture
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import load_starting_weights
from lexiseg.training.lite import LiteObjective
from lexiseg.training.loop import OptimConfig, TrainConfig, fit

LITE = TrainConfig(steps=2400, batch_size=16, bfloat16=True, optim=OptimConfig(lr=1.5e-3))


def lite(data: Path, out: Path, config: TrainConfig = LITE) -> Lite:
    """The bundled encoder, from ImageNet and sentence weights.

    ``lexiseg train lite --data ../shared/data --out runs/lite``
    """
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_starting_weights(encoder)
    encoder.text.requires_grad_(False)
    encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = bundled_mixture(
        data,
        preprocess=LITE_PREPROCESS,
        config=MixtureConfig(),
        length=config.steps * config.batch_size,
        seed=config.seed,
    )
    objective = LiteObjective(encoder, samples.names, read_teacher(data.parent / "weights"))
    objective.train()
    fit(
        objective,
        objective,
        samples,
        config,
        out,
        multipliers={"encoder.backbone": config.optim.backbone_factor},
    )
    return encoder.eval()


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
