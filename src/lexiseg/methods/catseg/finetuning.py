"""Which parameters are trained, and how fast: the published fine-tuning modes."""

from typing import Any, Literal, get_args

from torch import nn

from lexiseg.methods.catseg.model import CATSeg

Finetuning = Literal["attention", "full", "freeze"]

ENCODER_MULTIPLIER = 0.01
NORM_LAYERS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def set_finetuning(model: CATSeg, mode: str) -> None:
    """Choose what of the encoder is trained; the head always is.

    Args:
        model: whose parameters get their ``requires_grad``.
        mode: "attention" trains the query and value weights of every transformer block, "full" all
            of the blocks; embeddings, the norms outside the blocks and the projections into the
            joint space stay as they are. An encoder without transformer blocks knows "full", which
            trains all of it. "freeze" trains nothing of the encoder.

    Raises:
        ValueError: no such mode, or the encoder has no attention to train.
    """
    if mode not in get_args(Finetuning):
        raise ValueError(
            f"unknown fine-tuning mode {mode!r}; choose one of {', '.join(get_args(Finetuning))}"
        )
    encoder = {n: p for n, p in model.named_parameters() if n.startswith("encoder.")}
    in_blocks = {name for name in encoder if ".blocks." in name}
    queries_values = {
        name for name in in_blocks if name.endswith((".q_proj_weight", ".v_proj_weight"))
    }
    if mode == "attention" and not queries_values:
        raise ValueError(
            f"{type(model.encoder).__name__} has no attention blocks for mode 'attention'; "
            "choose 'full' or 'freeze'"
        )
    trained = {
        "attention": queries_values,
        "full": in_blocks or set(encoder),
        "freeze": set(),
    }[mode]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or name not in encoder)


def parameter_groups(
    model: CATSeg,
    *,
    lr: float = 2e-4,
    weight_decay: float = 1e-4,
    encoder_multiplier: float = ENCODER_MULTIPLIER,
) -> list[dict[str, Any]]:
    """Groups for an optimiser as published: a slow encoder, and norm layers without decay.

    Args:
        model: whose trained parameters are grouped.
        lr: learning rate of the head.
        weight_decay: of all but norm layers; biases are decayed too.
        encoder_multiplier: factor of the encoder's learning rate.

    Returns:
        One group a learning rate and decay, with the ``names`` of its ``params``.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    of_norm = {
        f"{prefix}.{name}"
        for prefix, part in model.named_modules()
        if isinstance(part, NORM_LAYERS)
        for name, _ in part.named_parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = lr * encoder_multiplier if name.startswith("encoder.") else lr
        decay = 0.0 if name in of_norm else weight_decay
        fresh: dict[str, Any] = {"params": [], "names": [], "lr": rate, "weight_decay": decay}
        group = groups.setdefault((rate, decay), fresh)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
