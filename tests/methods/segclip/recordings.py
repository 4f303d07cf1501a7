"""The recordings of the authors' code, and the published model that is compared with them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.methods.segclip import SegCLIP
from lexiseg.methods.segclip.checkpoints import from_published, rebuilding_from_published
from lexiseg.registry import builder_of
from lexiseg.training.captioned import crop_photograph
from lexiseg.training.recipes.segclip import SegCLIPTrainConfig, published_objective
from lexiseg.training.segclip_objective import SegCLIPObjective
from tests.parity import SOURCES, Case, cases, once

MANIFEST = "manifest_vitb16.json"

on_both_sources = pytest.mark.parametrize("source", SOURCES)


def recording(name: str, source: str) -> Case:
    return cases("segclip", source).open(f"{name}.npz")


@once
def published_state() -> dict[str, Tensor]:
    """The official checkpoint but for the table of positions, which is computed."""
    return cases("segclip", "compact").weights(MANIFEST)


@once
def published_model() -> SegCLIP:
    """In evaluation mode; it shares the state's tensors."""
    with torch.device("meta"):
        model = builder_of("segclip_vitb16")()
    model.load_state_dict(from_published(published_state()), assign=True)
    return model.eval()


def training_objective(config: SegCLIPTrainConfig) -> SegCLIPObjective:
    """The published losses on the published weights; it shares the state's tensors."""
    with torch.device("meta"):
        objective = published_objective(builder_of("segclip_vitb16")(), config)
    objective.model.load_state_dict(from_published(published_state()), assign=True)
    rebuilding = rebuilding_from_published(published_state())
    objective.reconstruction.load_state_dict(rebuilding, assign=True)
    return objective.train()


def normalised(case: Case, picture: np.ndarray) -> Tensor:
    """H x W x 3 bytes, as the model wants them; some recordings have the mean on 0 to 1."""
    scale = 255 if case["mean"].max() > 1 else 1
    mean, std = (torch.from_numpy(np.array(case[name])).float() for name in ("mean", "std"))
    pixels = torch.from_numpy(np.array(picture)).float() * (scale / 255)
    return ((pixels - mean) / std).movedim(-1, 0)[None]


def box_of(case: Case, index: int, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The crop of a training photograph in pixels."""
    x0, y0, x1, y1 = case["coord"][index]
    down, across = size[0] - 1, size[1] - 1
    return round(x0 * across), round(y0 * down), round(x1 * across) + 1, round(y1 * down) + 1


def training_crops() -> Tensor:
    """The two pictures of the recorded batch."""
    case = recording("train_2", "compact")
    photo = case["photo0_uint8"]
    crops = (crop_photograph(photo, box_of(case, 0, photo.shape), 224), case["crop1_uint8"])
    return torch.cat([normalised(case, crop) for crop in crops])
