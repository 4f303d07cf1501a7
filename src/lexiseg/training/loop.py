"""The loop: step, log, checkpoint, resume."""

import json
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from lexiseg.training.optim import parameter_groups, warmup_cosine

logger = logging.getLogger(__name__)

Objective = Callable[[Sequence[Any]], dict[str, Tensor]]
OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule (warm-up, then a cosine to 0).

    Attributes:
        lr: base learning rate.
        backbone_factor: learning rate of a pretrained backbone, as a factor of ``lr``.
        weight_decay: of all weights but norms and biases.
        warmup: share of the steps over which the learning rate rises.
        clip_norm: largest norm of the whole gradient.
    """

    lr: float = 1e-3
    backbone_factor: float = 0.2
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("lr", "backbone_factor", "weight_decay", "warmup", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"optim.{name} {getattr(self, name)} came; it must be 0 or more")


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        steps: optimiser steps.
        batch_size: samples a step.
        seed: of the samples and of new weights.
        workers: processes that prepare samples; the samples do not depend on it.
        bfloat16: run the model in bfloat16 where torch allows.
        average: decay of the running average of the weights, which is what is kept.
        checkpoint_every: steps between checkpoints.
        optim: the optimiser.
    """

    steps: int
    batch_size: int = 16
    seed: int = 0
    workers: int = 0
    bfloat16: bool = False
    average: float = 0.998
    checkpoint_every: int = 100
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} came; it must be at least 1")


def ignore_step(step: int, losses: dict[str, float]) -> None:
    """What ``fit`` calls after a step if nothing else is wanted."""


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN; the last checkpoint is still good."""


def fit(
    model: nn.Module,
    objective: Objective,
    samples: Dataset[Any],
    config: TrainConfig,
    out: Path,
    *,
    multipliers: dict[str, float] | None = None,
    on_step: OnStep = ignore_step,
) -> nn.Module:
    """Train ``model`` and return it with the running average of its weights.

    The run writes ``checkpoint.pt`` (atomically) and ``metrics.jsonl`` into ``out``; started again
    with the same arguments it goes on from there.

    Args:
        model: what is trained; parameters that need no gradient stay as they are.
        objective: named losses of a batch; their sum is minimised.
        samples: at least ``steps * batch_size`` samples, used in order.
        config: the run.
        out: folder of the run.
        multipliers: see :func:`lexiseg.training.optim.parameter_groups`.
        on_step: called after each step with its number and its losses.

    Raises:
        NonFiniteLossError: the loss is not a finite number.
        ValueError: ``out`` holds a run of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    groups = parameter_groups(
        model,
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
        multipliers=multipliers,
    )
    optimizer = torch.optim.AdamW(groups)
    peaks = [group["lr"] for group in groups]
    average = WeightAverage(model, config.average)
    start = _resume(out / "checkpoint.pt", model, average, optimizer, config)
    rest = Subset(samples, range(start * config.batch_size, config.steps * config.batch_size))
    loader = DataLoader(
        rest,
        config.batch_size,
        num_workers=config.workers,
        collate_fn=list,
        generator=torch.Generator(),  # its own, so that starting a loader draws no chance
    )
    began = time.monotonic()
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for step, batch in enumerate(loader, start=start):
            warmup = max(1, round(config.optim.warmup * config.steps))
            factor = warmup_cosine(step, steps=config.steps, warmup=warmup)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            losses = _step(model, objective, batch, optimizer, config)
            if not all(map(math.isfinite, losses.values())):
                raise NonFiniteLossError(
                    f"step {step}: losses {losses}; {out / 'checkpoint.pt'} holds the last good "
                    "weights: lower optim.lr and start again"
                )
            average.update(model, step)
            seconds = round(time.monotonic() - began, 1)
            log.write(json.dumps({"step": step, **losses, "seconds": seconds}) + "\n")
            log.flush()
            on_step(step, losses)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                _save(out / "checkpoint.pt", model, average, optimizer, config, step + 1)
    average.copy_to(model)
    return model


def _step(
    model: nn.Module,
    objective: Objective,
    batch: Sequence[Any],
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> dict[str, float]:
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=config.bfloat16):
        losses = objective(batch)
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    found = {name: round(loss.item(), 6) for name, loss in losses.items()}
    if math.isfinite(total.item()):
        total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
        if math.isfinite(norm.item()):
            optimizer.step()
        else:
            found["gradient norm"] = norm.item()
    return found


class WeightAverage:
    """A running average of all that a model's state holds (Polyak and Juditsky, 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; faster in the first steps."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        model.load_state_dict(self.state)


def _save(
    path: Path,
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    step: int,
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "model": model.state_dict(),
        "average": average.state,
        "optimizer": optimizer.state_dict(),
        "config": json.dumps(asdict(config), sort_keys=True),
        "step": step,
        "rng": torch.get_rng_state(),
    }
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _resume(
    path: Path,
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> int:
    """Load the checkpoint, if there is one, and return the step to go on from."""
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to start anew") from error
    if state["config"] != json.dumps(asdict(config), sort_keys=True):
        raise ValueError(
            f"{path} belongs to a run with another configuration ({state['config']}); choose "
            "another folder or remove it"
        )
    model.load_state_dict(state["model"])
    average.state = state["average"]
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    logger.info("%s: going on from step %d", path, state["step"])
    return int(state["step"])
