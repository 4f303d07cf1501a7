"""Which parameters are trained: the published fine-tuning modes."""

from typing import Literal, get_args

from lexiseg.methods.catseg.model import CATSeg

Finetuning = Literal["attention", "full", "freeze"]

ENCODER_MULTIPLIER = 0.01  # of the learning rate, as published


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
