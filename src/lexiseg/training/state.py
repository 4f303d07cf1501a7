"""What of a run's objects goes into a checkpoint, and back."""

from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from lexiseg.training.average import WeightAverage

# What is frozen comes with the job again, so that a checkpoint need not hold it.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
LOADED = StateDictOptions(full_state_dict=True, strict=False)


def state_of(
    accelerator: Accelerator, objective: nn.Module, optimizer: Optimizer, average: WeightAverage
) -> dict[str, Any]:
    """All that changes while a run goes on; all processes ask together.

    Args:
        accelerator: of the run.
        objective: as accelerate prepared it.
        optimizer: the plain one.
        average: of the objective's weights.
    """
    scaler = accelerator.scaler
    state: dict[str, Any] = {
        "model": _copy(get_model_state_dict(objective, options=WHOLE)),
        "optimizer": get_optimizer_state_dict(objective, optimizer, options=WHOLE),
        "scaler": scaler.state_dict() if scaler is not None else {},
    }
    if average.decay:
        with average.in_module():
            state["average"] = _copy(get_model_state_dict(objective, options=WHOLE))
    return state


def parts_of_state(average: WeightAverage) -> tuple[str, ...]:
    """What :func:`state_of` gives."""
    return ("model", "optimizer", "scaler", *(("average",) if average.decay else ()))


def restore(
    state: dict[str, Any],
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Optimizer,
    average: WeightAverage,
) -> None:
    """Bring everything to where :func:`state_of` found it."""
    if average.decay:
        set_model_state_dict(objective, state["average"], options=LOADED)
        average.take()
    set_model_state_dict(objective, state["model"], options=LOADED)
    moments = set(state["optimizer"]["state"])
    set_optimizer_state_dict(objective, optimizer, state["optimizer"], options=LOADED)
    # torch takes a step of its own to make room for moments. Parameters that had none yet would
    # keep what came of that, and count one step too many when their first gradient comes.
    for name, parameter in accelerator.unwrap_model(objective).named_parameters():
        if name not in moments:
            optimizer.state.pop(parameter, None)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() for name, value in state.items()}
