"""What a run would do, without doing it."""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lexiseg.training.batches import check_job, checkpoint_interval, share_of_batch
from lexiseg.training.folder import RUN_FILE
from lexiseg.training.metrics import METRICS_FILE
from lexiseg.training.run import Batch, Job, TrainConfig

ADAMW_MOMENTS = 2


@dataclass(frozen=True)
class Plan:
    """A run in numbers.

    Attributes:
        groups: name, parameters, learning rate and weight decay of each group.
        trained: trained parameters.
        frozen: the others.
        steps: optimiser steps.
        samples: that they take.
        epochs: passes over the training data, where that is known.
        memory: what takes memory in a process, in bytes; activations are left out where they
            could not be measured.
        files: what will be written.
        next: the plan of what follows.
    """

    groups: tuple[tuple[str, int, float, float], ...]
    trained: int
    frozen: int
    steps: int
    samples: int
    epochs: float | None
    memory: dict[str, int]
    files: tuple[Path, ...]
    next: str | None

    def lines(self) -> list[str]:
        """The plan for people."""
        rows = [
            f"group {name}: {count:,} parameters, lr {lr:g}, weight decay {decay:g}"
            for name, count, lr, decay in self.groups
        ]
        rows.append(f"parameters: {self.trained:,} trained, {self.frozen:,} frozen")
        epochs = "" if self.epochs is None else f", {self.epochs:.1f} epochs"
        rows.append(f"steps: {self.steps:,}, of {self.samples // self.steps} samples{epochs}")
        parts = ", ".join(f"{name} {megabytes(size)}" for name, size in self.memory.items())
        without = "" if "activations" in self.memory else ", without activations"
        rows.append(f"memory: {megabytes(sum(self.memory.values()))} a process{without} ({parts})")
        rows += [f"writes: {path}" for path in self.files]
        if self.next is not None:
            rows.append(f"then: {self.next}")
        return rows


def plan(job: Job, config: TrainConfig, out: Path, *, processes: int = 1) -> Plan:
    """What :func:`lexiseg.training.loop.fit` would do with the same arguments.

    The activations are those of a forward pass of one and of two samples, from which the rest is
    reckoned; the memory of the work between them is not counted.

    Raises:
        ValueError: as from :func:`lexiseg.training.batches.check_job`.
    """
    check_job(job, config, processes=processes)
    share = share_of_batch(config, processes)
    every = checkpoint_interval(job, config)
    parameters = list(job.objective.parameters())
    trained = [p for p in parameters if p.requires_grad]
    buffers = list(job.objective.buffers())
    memory = {
        "weights": size_of([*parameters, *buffers]),
        "gradients": size_of(trained),
        "optimiser": ADAMW_MOMENTS * size_of(trained),
        "average": size_of([*trained, *buffers]) if config.average else 0,
    }
    activations = measure_activations(job, config, share)
    if activations is not None:
        memory["activations"] = activations
    followed = job.next
    samples = config.steps * config.batch_size
    return Plan(
        groups=tuple(_describe(group) for group in job.groups),
        trained=sum(p.numel() for p in trained),
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        steps=config.steps,
        samples=samples,
        epochs=samples / job.epoch if job.epoch else None,
        memory=memory,
        files=_files(out, config, every),
        next=f"{followed.config.steps} steps in {out / followed.name}" if followed else None,
    )


def measure_activations(job: Job, config: TrainConfig, share: int) -> int | None:
    """Bytes that the backward pass of ``share`` samples needs; None where it cannot be found."""
    one_two = []
    for count in (1, 2)[:share]:
        samples = [job.samples[index] for index in range(count)]
        kept: dict[int, int] = {}

        def count_storage(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        precision = getattr(torch, config.precision)
        narrow = config.precision != "float32"
        try:
            with (
                saved_tensors_hooks(count_storage, lambda tensor: tensor),
                torch.autocast("cpu", precision if narrow else None, enabled=narrow),
            ):
                losses = job.objective(Batch(samples, seed=config.seed))
        except (RuntimeError, ValueError):  # an objective may need more samples at once
            return None
        del losses
        owned = [*job.objective.parameters(), *job.objective.buffers()]
        for tensor in owned:
            kept.pop(tensor.untyped_storage().data_ptr(), None)
        one_two.append(sum(kept.values()))
    return one_two[0] + (share - 1) * max(0, one_two[-1] - one_two[0])


def size_of(tensors: Sequence[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def megabytes(size: int) -> str:
    """A size to read."""
    return f"{size / 2**20:,.1f} MiB"


def _describe(group: dict[str, Any]) -> tuple[str, int, float, float]:
    names = group["names"]
    prefix = os.path.commonprefix(names).rpartition(".")[0]
    whole = (
        names[0] if len(names) == 1 else f"{prefix}{'.' if prefix else ''}* ({len(names)} tensors)"
    )
    count = sum(p.numel() for p in group["params"])
    return whole, count, group["lr"], group["weight_decay"]


def _files(out: Path, config: TrainConfig, every: int) -> tuple[Path, ...]:
    first = min(every, config.steps)
    files = [out / RUN_FILE, out / METRICS_FILE]
    files += [out / "tensorboard"] if config.tensorboard else []
    folder = out / "checkpoints" / f"step-{first:06d}"
    files += [folder / name for name in ("state.pt", "weights.safetensors", "checkpoint.json")]
    return (*files, out / "weights.safetensors")
