"""SegCLIP's training step against recordings: losses, gradients, groups, Adam's first step.

The batch of two is run twice: as it is meant ("batchfirst") and as the authors' code ran it, with
keys that mix the images of a batch ("asrun").
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.encoders.tokenizer import tokenize
from lexiseg.methods.segclip import finetuning
from lexiseg.methods.segclip.checkpoints import rebuilding_to_published, to_published
from lexiseg.methods.segclip.objectives import published_superpixel_loss, superpixel_means
from lexiseg.methods.segclip.reconstruction import hide
from lexiseg.registry import builder_of
from lexiseg.training.recipes.segclip import (
    SegCLIPTrainConfig,
    optimiser_groups,
    published_objective,
)
from lexiseg.training.segclip_objective import Noise, SegCLIPObjective
from tests.methods.segclip.recordings import (
    box_of,
    on_both_sources,
    once,
    recording,
    training_crops,
    training_objective,
)
from tests.parity import cases

MODES = pytest.mark.parametrize("mode", ["batchfirst", "asrun"])
LOSSES = {"contrastive": "contrast", "superpixel_kl": "superpixels", "mae": "hidden patches"}


@dataclass
class TrainingRun:
    """What one step gave; names are the official ones."""

    losses: dict[str, float]
    gradients: dict[str, dict[str, Tensor]]
    norm: float
    steps: dict[str, Tensor]


def inputs() -> tuple[Tensor, Tensor, Tensor, Noise]:
    case = recording("train_2", "compact")
    noise = Noise(
        case.tensor("gumbel_main"),
        case.tensor("mask_noise_raw")[:, 1:],  # the class token's is set to -1: it is always kept
        case.tensor("gumbel_mae"),
    )
    superpixels = case.tensor("superpixel_patch_ids").long().flatten(1)
    return training_crops(), case.tensor("input_ids").long(), superpixels, noise


def official(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """What belongs to parameters of an objective, under the authors' names."""
    model = {n.removeprefix("model."): v for n, v in named.items() if n.startswith("model.")}
    rest = {
        n.removeprefix("reconstruction."): v
        for n, v in named.items()
        if n.startswith("reconstruction.")
    }
    return to_published(model) | rebuilding_to_published(rest)


@once
def run_training(mode: str, each_loss: bool) -> TrainingRun:
    """One step on the recorded batch and noise, on one thread, as recorded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return one_step(mode, each_loss)
    finally:
        torch.set_num_threads(threads)


def one_step(mode: str, each_loss: bool) -> TrainingRun:
    config = SegCLIPTrainConfig(steps=100, mix_batch=mode == "asrun")
    objective = training_objective(config)
    groups = optimiser_groups(objective, config)
    losses = objective.losses(*inputs())
    gradients: dict[str, dict[str, Tensor]] = {}
    if each_loss:
        for name in LOSSES.values():
            gradients[name] = gradients_of(objective, losses[name])
    total = gradients_of(objective, torch.stack(list(losses.values())).sum())
    trained = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    norm = float(torch.stack([p.grad.norm() for p in trained.values()]).norm())  # type: ignore
    return TrainingRun(
        losses={name: float(loss.detach()) for name, loss in losses.items()},
        gradients=gradients | {"total": total},
        norm=norm,
        steps=first_steps(groups, norm),
    )


def gradients_of(objective: SegCLIPObjective, loss: Tensor) -> dict[str, Tensor]:
    objective.zero_grad()
    loss.backward(retain_graph=True)
    found = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    return official(found)


def is_recorded(name: str, recorded: set[str]) -> bool:
    """Whether a parameter, or what the authors join it with, is among the recorded ones."""
    whole = name.replace("k_proj_weight", "q_proj_weight").replace("v_proj_weight", "q_proj_weight")
    stem = whole.removesuffix("q_proj_weight")
    parts = [stem + f"{letter}_proj_weight" for letter in "qkv"] if stem != whole else [whole]
    return not recorded.isdisjoint(official({part: torch.empty(1, 1) for part in parts}))


def first_steps(groups: list[dict], norm: float) -> dict[str, Tensor]:
    """What Adam's first step changes, of gradients that are clipped together."""
    clipped = min(1.0, finetuning.CLIP_NORM / (norm + 1e-6))
    recorded = set(recording("train_2", "compact")["parameter_names"].tolist())
    changes = {}
    for group in groups:
        rate = group["lr"] * group["schedule"](0)
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if parameter.grad is None or not is_recorded(name, recorded):
                continue
            copy = torch.nn.Parameter(parameter.detach().clone())
            copy.grad = parameter.grad * clipped
            torch.optim.AdamW(
                [copy],
                lr=rate,
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
            ).step()
            changes[name] = copy.detach() - parameter.detach()
    return official(changes)


def test_segclip_parity_inputs_of_training() -> None:
    """Tokens, crops, hidden patches and superpixels of the recorded batch."""
    case = recording("train_2", "full")
    tokens = tokenize(case["captions"].tolist(), context_length=32, truncate=True)
    np.testing.assert_array_equal(tokens, case["input_ids"])
    hiding = hide(case.tensor("mask_noise_raw")[:, 1:])
    np.testing.assert_array_equal(hiding.hidden, case["mae_mask"][:, 1:])
    np.testing.assert_array_equal(hiding.places + 1, case["mae_ids_restore"][:, 1:])
    for index in range(2):
        left, top, right, bottom = box_of(case, index, case[f"photo{index}_uint8"].shape)
        assert 0 <= left < right
        assert 0 <= top < bottom


@MODES
@on_both_sources
def test_segclip_parity_losses(source: str, mode: str) -> None:
    case, found = recording("train_2", source), run_training(mode, mode == "batchfirst")
    for theirs, ours in LOSSES.items():
        expected = float(case[f"{mode}/loss_{theirs}"])
        assert found.losses[ours] == pytest.approx(expected, rel=1e-4), theirs
    assert sum(found.losses.values()) == pytest.approx(float(case[f"{mode}/loss_total"]), rel=1e-4)
    assert found.norm == pytest.approx(float(case[f"{mode}/gradnorm_all"]), rel=1e-3)


@MODES
def test_segclip_parity_gradients(mode: str) -> None:
    case, found = recording("train_2", "full"), run_training(mode, mode == "batchfirst")
    names = case["parameter_names"].tolist()
    for loss, gradients in found.gradients.items():
        theirs = next((key for key, ours in LOSSES.items() if ours == loss), "total")
        norms = [float(gradients[n].norm()) if n in gradients else np.nan for n in names]
        np.testing.assert_allclose(norms, case[f"{mode}/gradnorm_{theirs}"], rtol=1e-2)
        if theirs != "total":
            centre = next(n for n in names if n.endswith("semantic_center"))
            key = f"{mode}/grad_center_{theirs}"
            case.check(key, gradients[centre][:, ::16], relative=1e-3)


@MODES
def test_segclip_parity_first_step(mode: str) -> None:
    """Its size, of each recorded parameter; single entries only where the gradient is not tiny."""
    case, found = recording("train_2", "full"), run_training(mode, mode == "batchfirst")
    names = case["parameter_names"].tolist()
    norms = [float(found.steps[name].norm()) for name in names]
    np.testing.assert_allclose(norms, case[f"{mode}/step1_delta_norm"], rtol=5e-2)
    first = torch.stack([F.pad(found.steps[n].flatten()[:8], (0, 7))[:8] for n in names])
    away = np.abs(first.numpy() - case[f"{mode}/step1_delta_first8"])
    rates = np.abs(case[f"{mode}/step1_delta_first8"]).max(axis=1)
    assert np.median(away.max(axis=1) / rates) < 2e-2


@once
@torch.no_grad()
def run_stages(mode: str) -> dict[str, Tensor]:
    """What is recorded on the way to the losses, by name."""
    config = SegCLIPTrainConfig(mix_batch=mode == "asrun")
    objective = training_objective(config)
    tower = objective.model.tower
    images, tokens, _, noise = inputs()
    embedded, grid = tower.embed(images)
    patches = tower.patches(embedded)
    groups = tower.grouping(patches, noise=noise.assignment, mix_batch=config.mix_batch)
    texts = F.normalize(objective.model.encoder.text(tokens).pooled, dim=-1)
    image_features = F.normalize(tower.join(groups)[0], dim=-1)
    scaled = objective.model.scale * texts @ image_features.T
    hiding = hide(noise.hiding)
    some = tower.grouping(
        tower.patches(embedded, hiding.visible),
        noise=noise.visible_assignment,
        mix_batch=config.mix_batch,
    )
    rebuilt = objective.reconstruction.rebuild(some)
    entering = torch.cat([rebuilt.mean(dim=1, keepdim=True), rebuilt], dim=1)
    predicted = objective.reconstruction.decoder(rebuilt, hiding, grid)
    return {
        "patch_tokens": patches[:, recording("train_2", "compact").tensor("patch_rows")],
        "text_features": texts,
        "image_features": image_features,
        "similarity_t2v": scaled,
        "similarity_v2t": scaled.T,
        "map_hard": groups.assignment.round(),
        "map_soft": groups.soft,
        "centres": groups.centres,
        "region_tokens_in": groups.regions,
        "mae_map_hard": some.assignment.round(),
        "mae_map_soft": some.soft,
        "mae_centres": some.centres,
        "mae_hidden": entering[:, ::6],
        "mae_pred": predicted[:, ::14, ::4],
    }


@MODES
@on_both_sources
def test_segclip_parity_stages_of_training(source: str, mode: str) -> None:
    case = recording("train_2", source)
    for name, actual in run_stages(mode).items():
        key = name if name in ("patch_tokens", "text_features") else f"{mode}/{name}"
        bound = {"absolute": 1e-4} if "map" in name else {"relative": 1e-4}
        case.check(key, actual, **bound)


@MODES
@on_both_sources
def test_segclip_parity_superpixel_divergences(source: str, mode: str) -> None:
    case = recording("train_2", source)
    superpixels = case.tensor("superpixel_patch_ids").long().flatten(1)
    hard = case.tensor(f"{mode}/map_hard").float()
    rows = hard.mT
    logs = rows.log_softmax(dim=2), superpixel_means(rows, superpixels).log_softmax(dim=2)
    parts = [float((a.exp() * (a - b)).mean()) for a, b in (logs[::-1], logs)]
    expected = [float(case[f"{mode}/{name}"]) for name in ("kl_1", "kl_2")]
    np.testing.assert_allclose(parts, expected, rtol=1e-4)
    loss = published_superpixel_loss(hard, superpixels)
    assert float(loss) == pytest.approx(sum(parts) / 2, rel=1e-4)


@on_both_sources
def test_segclip_parity_optimiser_groups(source: str) -> None:
    """Name by name, but for those that the authors freeze and yet hand to the optimiser."""
    recorded = cases("segclip", source).json("optimizer_groups.json")
    config = SegCLIPTrainConfig()
    with torch.device("meta"):
        objective = published_objective(builder_of("segclip_vitb16")(), config)
    groups = optimiser_groups(objective, config)
    ours: dict[str, tuple[float, float]] = {}
    for group in groups:
        of_group = {n: torch.empty(1, 1) for n in group["names"]}
        ours |= dict.fromkeys(official(of_group), (group["lr"], group["weight_decay"]))
        assert group["betas"] == (recorded["b1"], recorded["b2"])
        assert group["eps"] == recorded["eps"]
    expected = {
        name: (group["lr"], group["weight_decay"])
        for group in recorded["groups"]
        for name in group["params"]
        if name not in recorded["frozen"]
    }
    assert ours.keys() == expected.keys()
    for name, numbers in expected.items():
        assert ours[name] == pytest.approx(numbers), name
    assert config.optim.clip_norm == recorded["clip_grad_norm"]
    assert pytest.approx(recorded["logit_scale_clamp_max"]) == finetuning.LARGEST_LOG_SCALE
    for done, factor in recorded["lr_factor_of_progress"].items():
        step = round(float(done) * 100) - 1
        assert finetuning.rate_factor(step, 100) == pytest.approx(factor, abs=1e-6)
