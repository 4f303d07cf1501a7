"""Parameter groups and schedules."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from lexiseg.training.run import OptimConfig, Schedule

NORM_LAYERS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def parameter_groups(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
    decay_vectors: bool = False,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: decayed and not decayed, each at its own learning rate.

    Norm layers are not decayed; parameters that need no gradient are left out.

    Args:
        module: whose parameters are trained.
        lr: base learning rate.
        weight_decay: of all that is decayed.
        multipliers: learning rate factor of parameters by the beginning of their name; the first
            that fits counts.
        decay_vectors: decay biases and other vectors outside norm layers too, as CAT-Seg does.

    Returns:
        One group a learning rate and decay, with the ``names`` of its ``params``.
    """
    multipliers = multipliers or {}
    of_norm = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, NORM_LAYERS)
        for name, _ in part.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((f for start, f in multipliers.items() if name.startswith(start)), 1.0)
        spared = name in of_norm or (parameter.ndim < 2 and not decay_vectors)
        decay = 0.0 if spared else weight_decay
        group = groups.setdefault(
            (factor, decay), {"params": [], "names": [], "lr": lr * factor, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def schedule_of(config: OptimConfig, steps: int) -> Schedule:
    """Factor of the learning rate at each of ``steps`` steps: a straight rise, then the schedule.

    Raises:
        ValueError: there are milestones without "multi-step", or none with it.
    """
    if bool(config.milestones) != (config.schedule == "multi-step"):
        raise ValueError(
            f"optim.schedule {config.schedule!r} came with optim.milestones {config.milestones}; "
            "multi-step needs them, and no other schedule has them"
        )
    warmup = round(config.warmup * steps)
    milestones = [round(share * steps) for share in config.milestones]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "cosine":
            progress = (step - warmup) / max(1, steps - warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return config.decay ** sum(step >= milestone for milestone in milestones)

    return factor
