"""CAT-Seg's training against recordings: what is trained, losses, gradients, optimiser steps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.methods.catseg import CATSeg, set_finetuning
from lexiseg.methods.catseg.checkpoints import from_published, to_published
from lexiseg.methods.catseg.finetuning import ENCODER_MULTIPLIER
from lexiseg.registry import builder_of
from lexiseg.training.losses import published_bce
from lexiseg.training.optim import parameter_groups
from tests.methods.catseg.recordings import (
    LOGITS,
    inputs_of,
    on_both_sources,
    once,
    prompts_of,
    published_model,
    recording,
)
from tests.parity import cases


@dataclass
class TrainingRun:
    """What two optimiser steps gave."""

    logits: Tensor
    gradients: dict[str, Tensor]
    total_norm: float
    first_change: dict[str, float]
    losses: list[float]


@once
def run_training() -> TrainingRun:
    """Two steps at a constant rate under the published recipe, on the recorded batch."""
    case = inputs_of("train")
    with torch.device("meta"):
        model = builder_of("catseg_vitb16")(class_pooling=2)
    shared = published_model().state_dict()
    model.load_state_dict(shared, assign=True)
    set_finetuning(model, "attention")
    places = published_names(model)
    for name, parameter in list(model.named_parameters()):
        if parameter.requires_grad:  # what is trained is a copy, what is frozen is shared
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.Parameter(parameter.detach().clone()))
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(published_groups(model, lr=2e-4))
    images = torch.stack(
        [
            model.preprocess.normalise(x)
            for x in torch.from_numpy(case["images"]).movedim(-1, 1).float()
        ]
    )
    labels = torch.from_numpy(case["labels"])
    result = TrainingRun(torch.empty(0), {}, 0.0, {}, [])
    for step in range(3):
        logits = model.train()(images, model.encode_texts(prompts_of(case)))
        loss = published_bce(logits, labels)
        result.losses.append(float(loss.detach()))
        if step == 2:
            break
        optimiser.zero_grad()
        loss.backward()
        trained = {places[n]: p for n, p in model.named_parameters() if p.requires_grad}
        if step == 0:
            result.logits = logits.detach()
            result.gradients = {
                n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for n, p in trained.items()
            }
        norm = nn.utils.clip_grad_norm_(list(trained.values()), 0.01)
        result.total_norm = result.total_norm or float(norm)
        optimiser.step()
        if step == 0:
            result.first_change = {
                places[n]: float((p.detach() - before[n]).norm())
                for n, p in model.named_parameters()
                if p.requires_grad
            }
    return result


def published_groups(model: CATSeg, lr: float) -> list[dict[str, Any]]:
    """The published recipe's groups: a slow encoder, and norm layers without decay."""
    return parameter_groups(
        model,
        lr=lr,
        weight_decay=1e-4,
        multipliers={"encoder.": ENCODER_MULTIPLIER},
        decay_vectors=True,
    )


def published_names(model: CATSeg) -> dict[str, str]:
    """The official name of each trained parameter."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    published = {id(p): name for name, p in to_published(named).items()}
    return {name: published[id(p)] for name, p in named.items()}


@on_both_sources
@pytest.mark.parametrize("mode", ["attention", "full", "freeze"])
def test_catseg_parity_finetuning_modes(source: str, mode: str) -> None:
    recorded = cases("catseg", source).json("finetune_modes.json")
    expected = {**recorded["always"], **recorded["modes"][mode]}
    with torch.device("meta"):
        model = builder_of("catseg_vitb16")()
    set_finetuning(model, mode)
    ours = {
        name: [group["lr"], group["weight_decay"]]
        for group in published_groups(model, lr=1.0)
        for name in group["names"]
    }
    placeholders = dict.fromkeys(expected, torch.empty(0))
    places = {list(from_published({key: v}))[0]: key for key, v in placeholders.items()}
    assert {places[name] for name in ours} == set(expected)
    for name, numbers in ours.items():
        assert numbers == pytest.approx(expected[places[name]], rel=1e-9)


@on_both_sources
def test_catseg_parity_training_loss(source: str) -> None:
    case = recording("train", source)
    assert run_training().losses[0] == pytest.approx(float(case["loss"]), abs=1e-6)
    case.check("logits_s4", run_training().logits[:, :, ::4, ::4], absolute=LOGITS)


@on_both_sources
@pytest.mark.parametrize("kind", ["grad", "all_grad"])
def test_catseg_parity_gradient_norms(source: str, kind: str) -> None:
    case, gradients = recording("train", source), run_training().gradients
    names = case["grad_names" if kind == "grad" else "all_names"].tolist()
    if kind == "all_grad":
        assert set(names) == set(gradients)
    ours = np.array([float(gradients[name].norm()) for name in names])
    # Key biases cancel in a softmax: what is recorded of them, below 1e-10, is rounding.
    np.testing.assert_allclose(ours, case[f"{kind}_norms"], rtol=1e-3, atol=1e-9)


@on_both_sources
def test_catseg_parity_complete_gradients(source: str) -> None:
    case, gradients = recording("train", source), run_training().gradients
    head = "sem_seg_head.predictor.transformer."
    for key, name in [
        ("grad_head_weight", "head.weight"),
        ("grad_conv1_bias", "conv1.bias"),
        ("grad_padding_tokens0", "layers.0.attention.padding_tokens"),
    ]:
        gradient = gradients[head + name]
        case.check(key, gradient.flatten() if "tokens" in name else gradient, relative=1e-3)


@on_both_sources
def test_catseg_parity_total_gradient_norm(source: str) -> None:
    recorded = float(recording("train", source)["total_grad_norm"])
    assert run_training().total_norm == pytest.approx(recorded, rel=1e-3)


@on_both_sources
def test_catseg_parity_optimiser_step(source: str) -> None:
    case, changes = recording("train", source), run_training().first_change
    ours = [changes[name] for name in case["grad_names"].tolist()]
    np.testing.assert_allclose(ours, case["step1_delta_norms"], rtol=1e-3, atol=1e-9)


@on_both_sources
def test_catseg_parity_losses_of_further_steps(source: str) -> None:
    recorded = recording("train", source)["losses_constant_lr"]
    np.testing.assert_allclose(run_training().losses, recorded, rtol=0, atol=2e-5)
