"""What the loop needs of accelerate, and of processes that each hold a part of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
)
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from lexiseg.training.average import WeightAverage, moving_parts
from lexiseg.training.run import Job, TrainConfig

ACCELERATE_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def new_accelerator(job: Job, config: TrainConfig) -> Accelerator:
    """The devices and processes of this run, as it was launched.

    Raises:
        ValueError: the way of sharing the weights out does not fit the job, or the device lacks
            the precision.
    """
    AcceleratorState._reset_state()  # or a second run in a process could not change the precision
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or several processes would not find each other
        mixed_precision=ACCELERATE_PRECISION[config.precision],
        # The plugin, since a number would give way to an environment variable of the launcher.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.accumulate, sync_with_dataloader=False
        ),
        # CAT-Seg trains, as published, a weight that its dense features never use.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if config.precision != "float32" and not accelerator.native_amp:
        raise ValueError(
            f"precision {config.precision} came, which cannot be trained in on this "
            f"{accelerator.device.type}; choose float32"
        )
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP version 1 came; launch with `--fsdp_version 2`")
    if kind == DistributedType.FSDP and (job.validate is not None or job.next is not None):
        raise ValueError(
            "FSDP came with a recipe that validates or has a second stage, which need every weight "
            "in one place; launch without FSDP"
        )
    plain = (DistributedType.NO, DistributedType.FSDP)
    if kind not in plain and not kind.value.startswith("MULTI_"):
        raise ValueError(f"{kind.value} came; launch on one process, with DDP or with FSDP 2")
    return accelerator


def spoiled_weights(
    accelerator: Accelerator, module: nn.Module, average: WeightAverage
) -> list[str]:
    """What is not finite of a checkpoint's weights, the same in every process.

    These are trained parameters, stored buffers and the averages of both.
    """
    parts = {f"the weight {name}": value for name, value in moving_parts(module).items()}
    parts.update({f"the average of {name}": value for name, value in average.values.items()})
    own = {
        name: value.to_local() if isinstance(value, DTensor) else value
        for name, value in parts.items()
        if value.is_floating_point()
    }
    bad = torch.stack([~value.detach().isfinite().all() for value in own.values()]).float()
    count = accelerator.reduce(bad, "sum").tolist()
    return [name for name, spoiled in zip(own, count, strict=True) if spoiled]


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Every weight is whole in the first process meanwhile, where FSDP had shared it out.

    All processes must enter together.
    """
    shared = {name: p for name, p in module.named_parameters() if isinstance(p, DTensor)}
    if not shared:
        yield
        return
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(module, options=options)
    for name in shared.keys() & state.keys():
        _put(module, name, nn.Parameter(cast(Tensor, state[name]), requires_grad=False))
    try:
        yield
    finally:
        for name, parameter in shared.items():
            _put(module, name, parameter)


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, parameter)
