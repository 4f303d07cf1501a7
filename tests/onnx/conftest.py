"""A tiny CAT-Seg on a tiny CLIP, exported once: its graphs have every part of the large ones."""

from dataclasses import replace
from pathlib import Path

import jaxtyping
import pytest
import torch

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx.export import export
from tests.methods import contract


@pytest.fixture(scope="session")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    model = contract.tiny_catseg(replace(contract.TINY_CATSEG, layers=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def exported(model: SegmentationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    # torch.export sends symbols through the model in the place of sizes, which are no int.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        export(model, folder, name="tiny")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return folder
