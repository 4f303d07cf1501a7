"""The run of the small model, on rendered shapes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lexiseg.data.referring.shapes import draw_shapes
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.base import Protocol
from lexiseg.registry import builder_of
from lexiseg.segmenter import Segmenter
from lexiseg.training.loop import fit
from lexiseg.training.recipes import cris_lite as recipe
from lexiseg.weights import load_state, read_weights
from tests.methods import contract


def test_the_small_run_trains_the_head_alone(tmp_path: Path) -> None:
    model = contract.tiny_cris_lite()
    config = replace(recipe.CRIS_LITE.config, steps=2, batch_size=2, sentences=2)
    job = recipe.lite_job(model, [draw_shapes(6, size=(64, 80))], config, sides=(64, 96))
    assert not any("encoder." in name for group in job.groups for name in group["names"])
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    state = read_weights(fit(job, config, tmp_path / "run"))
    assert state
    assert not any(name.startswith("encoder.") for name in state)
    assert all(torch.equal(v, before[k]) for k, v in model.encoder.state_dict().items())


@pytest.mark.parametrize(
    "changes", [{"sentences": 0}, {"overlap": -1.0}, {"overlap": float("nan")}]
)
def test_settings_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} .* came; it must be"):
        replace(recipe.CRIS_LITE.config, **changes)


@pytest.mark.slow
def test_the_small_model_learns_rendered_shapes(tmp_path: Path) -> None:
    """Ten minutes on one core; what it reaches is in docs/methods/cris.md."""
    torch.manual_seed(0)
    model = builder_of("cris_lite")()
    load_state(model.encoder, read_weights(LITE_WEIGHTS))
    config = replace(recipe.CRIS_LITE.config, steps=600, checkpoint_every=600)
    fit(recipe.lite_job(model, [draw_shapes(400)], config, sides=(128, 160)), config, tmp_path)
    protocol = Protocol(replace(model.preprocess, shorter=160, longest=160))
    model.protocols = {"default": protocol}
    val = draw_shapes(40, seed=1, split="val")
    assert evaluate(Segmenter(model.eval(), device="cpu"), val).mean_iou > 0.7
