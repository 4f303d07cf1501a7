"""Parameter groups and schedules."""

import math
from collections.abc import Mapping

from torch import nn

NORM_LAYERS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def parameter_groups(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
) -> list[dict]:
    """Groups for an optimiser: decayed and not decayed, each at its own learning rate.

    Norm layers and biases are not decayed; parameters that need no gradient are left out.

    Args:
        module: whose parameters are trained.
        lr: base learning rate.
        weight_decay: of all that is decayed.
        multipliers: learning rate factor of parameters by the beginning of their name; the first
            that fits counts.
    """
    multipliers = multipliers or {}
    of_norm = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if isinstance(part, NORM_LAYERS)
        for name, _ in part.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((f for start, f in multipliers.items() if name.startswith(start)), 1.0)
        decay = 0.0 if name in of_norm or parameter.ndim < 2 else weight_decay
        group = groups.setdefault(
            (factor, decay), {"params": [], "names": [], "lr": lr * factor, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def warmup_cosine(step: int, *, steps: int, warmup: int) -> float:
    """Factor of the learning rate: a straight rise over ``warmup`` steps, then a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
