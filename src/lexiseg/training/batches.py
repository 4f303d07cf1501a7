"""Which samples a process takes when."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.training.optim import schedule_of
from lexiseg.training.run import Job, TrainConfig


def share_of_batch(config: TrainConfig, processes: int) -> int:
    """Samples that a process takes at once.

    Raises:
        ValueError: the batch cannot be shared out evenly.
    """
    parts = processes * config.accumulate
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size {config.batch_size} came with {processes} processes and accumulate "
            f"{config.accumulate}; it must be a multiple of {parts}"
        )
    return config.batch_size // parts


def indices_of_parts(
    config: TrainConfig, *, start: int, process: int = 0, processes: int = 1
) -> list[list[int]]:
    """The samples of a process, part by part, from the step ``start`` on.

    The batch of step ``s`` is the samples from ``s * batch_size`` on, however it is shared out.
    """
    share = share_of_batch(config, processes)
    firsts = [
        step * config.batch_size + (part * processes + process) * share
        for step in range(start, config.steps)
        for part in range(config.accumulate)
    ]
    return [list(range(first, first + share)) for first in firsts]


def checkpoint_interval(job: Job, config: TrainConfig) -> int:
    """Steps between checkpoints.

    Raises:
        ValueError: once an epoch was asked for, and the job knows of no epoch.
    """
    if config.checkpoint_every:
        return config.checkpoint_every
    if job.epoch is None:
        raise ValueError("checkpoint_every 0 came, but this recipe has no epochs; give steps")
    return max(1, math.ceil(job.epoch / config.batch_size))


def check_samples(job: Job, config: TrainConfig) -> None:
    """Refuse samples that are too few.

    Raises:
        ValueError: there are fewer than the steps take.
    """
    count, needed = len(job.samples), config.steps * config.batch_size  # type: ignore[arg-type]
    if count < needed:
        raise ValueError(
            f"{count} samples came; {config.steps} steps of batch_size {config.batch_size} take "
            f"{needed}: a recipe repeats its data as often as that takes"
        )


def check_job(job: Job, config: TrainConfig, *, processes: int) -> None:
    """Refuse a run that cannot be, before anything is written.

    Raises:
        ValueError: the batch cannot be shared out, the samples are too few, the job has no epochs
            to go by, or the schedule makes no sense.
    """
    share_of_batch(config, processes)
    checkpoint_interval(job, config)
    check_samples(job, config)
    schedule_of(config.optim, config.steps)


@dataclasses.dataclass(frozen=True)
class Refused:
    """What a worker gives in place of a sample that cannot be made.

    Attributes:
        message: why, in a line.
    """

    message: str


class ToldSamples(Dataset[Any]):
    """Samples for workers, whose errors torch would hand on with a traceback in their message."""

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        try:
            return self.samples[index]
        except (ValueError, OSError) as error:
            return Refused(str(error))


def samples_of(part: list[Any]) -> list[Any]:
    """The samples that a loader gave.

    Raises:
        ValueError: one could not be made, as a worker told.
    """
    for sample in part:
        if isinstance(sample, Refused):
            raise ValueError(sample.message)
    return part


def to_device(value: Any, device: torch.device) -> Any:
    """Every tensor in a sample, however it is nested, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: to_device(getattr(value, field.name), device)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **parts)
    if isinstance(value, dict):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(to_device(part, device) for part in value)
    return value
