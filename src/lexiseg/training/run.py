"""The seam between recipes and the loop: what one hands to the other.

A recipe builds a :class:`Job`; the loop runs it and knows nothing of what is trained. A sample is
any dataclass with tensors: an image with its label map, a caption with superpixels, an expression
with a mask. All chance in it is drawn from the run's seed and its index.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from lexiseg.weights import save_weights

Precision = Literal["float32", "bfloat16", "float16"]
ScheduleName = Literal["cosine", "constant", "multi-step"]
Schedule = Callable[[int], float]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule.

    Attributes:
        lr: base learning rate.
        backbone_factor: learning rate of a pretrained backbone, as a factor of ``lr``.
        weight_decay: of what the recipe decays.
        clip_norm: largest norm of the whole gradient; 0 does not clip.
        schedule: "cosine" falls to 0, "constant" stays, "multi-step" falls at the milestones.
        warmup: share of the steps, less than 1, over which the learning rate rises, under every
            schedule.
        milestones: shares of the steps, between 0 and 1, after which "multi-step" lowers the rate.
        decay: factor of the learning rate at each milestone.
    """

    lr: float = 1e-3
    backbone_factor: float = 0.2
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    schedule: str = "cosine"
    warmup: float = 0.05
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("lr", "backbone_factor", "weight_decay", "warmup", "clip_norm", "decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"optim.{name} {getattr(self, name)} came; it must be 0 or more")
        if self.warmup >= 1:
            raise ValueError(f"optim.warmup {self.warmup} came; it is a share, less than 1")
        check_choice("optim.schedule", self.schedule, get_args(ScheduleName))
        if not all(0 < share < 1 for share in self.milestones):
            raise ValueError(f"optim.milestones {self.milestones} came; each is between 0 and 1")


@dataclass(frozen=True)
class TrainConfig:
    """One run. A recipe with settings of its own derives a frozen dataclass from this one.

    Attributes:
        steps: optimiser steps.
        batch_size: samples of an optimiser step, over all processes and accumulated parts.
        accumulate: parts in which a process takes its share of a step, one after another.
        seed: of the samples and of new weights.
        workers: processes that prepare samples; the samples do not depend on it.
        precision: of the forward pass: "float32", or "bfloat16" or "float16" where torch allows.
        average: decay of the running average of the weights, which is what is kept; 0 for none.
        checkpoint_every: steps between checkpoints and validations; 0 for once an epoch.
        keep: newest checkpoints that stay; the best one stays besides.
        tensorboard: write TensorBoard events too.
        optim: the optimiser.
    """

    steps: int
    batch_size: int = 16
    accumulate: int = 1
    seed: int = 0
    workers: int = 0
    precision: str = "float32"
    average: float = 0.998
    checkpoint_every: int = 100
    keep: int = 2
    tensorboard: bool = False
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} came; it must be at least 1")
        for name in ("seed", "workers", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} came; it must be 0 or more")
        if self.seed >= 2**63:
            raise ValueError(f"seed {self.seed} came; it must be less than 2**63")
        if not 0 <= self.average < 1:
            raise ValueError(f"average {self.average} came; it must be 0 or more and less than 1")
        check_choice("precision", self.precision, get_args(Precision))


class Batch(Sequence[Any]):
    """The samples that a process takes at once, on its device, and the step they belong to.

    Attributes:
        samples: the process's share of the batch.
        step: the optimiser step, from 0.
        seed: the run's.
    """

    def __init__(self, samples: Sequence[Any], *, step: int = 0, seed: int = 0) -> None:
        self.samples = samples
        self.step = step
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)

    def generator(self) -> torch.Generator:
        """Chance that belongs to the step: the same in every process and every part of it."""
        state = np.random.SeedSequence((self.seed, self.step)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


@dataclass(frozen=True)
class Job:
    """What is trained, on what.

    Attributes:
        objective: called with a :class:`Batch`, gives a dict of named losses, the same names at
            every call, whose sum is minimised. Each is a scalar and a mean over the batch's
            samples: the mean over processes of equal share is then the loss of the whole batch.
            Its parts hold what is trained. It draws no chance but from ``batch.generator()`` and,
            such as dropout, torch's own generators, which the loop seeds before each step.
        samples: at least ``steps * batch_size`` samples, used in order; sample ``i`` depends on
            the seed and ``i`` alone.
        groups: parameter groups of the optimiser: "params", "names", "lr" (of this group, at its
            peak), "weight_decay" and, where it is not the run's, "schedule": factor of the
            learning rate by step. See :func:`lexiseg.training.optim.parameter_groups`.
        save: writes the weights file at the path it gets and returns that path; what is in the
            objective's parts then are the averaged weights.
        validate: a score of what is in the objective's parts, higher is better; it decides which
            checkpoint is the best. None: the last one is.
        epoch: samples in a pass over the training data, where that means something.
        next: what follows when all steps are done, from the averaged weights.
        fingerprint: of the data, which must be the same when the run goes on; "" checks nothing.
    """

    objective: nn.Module
    samples: Dataset[Any]
    groups: list[dict[str, Any]]
    save: Callable[[Path], Path]
    validate: Callable[[], float] | None = None
    epoch: int | None = None
    next: "Stage | None" = None
    fingerprint: str = ""


@dataclass(frozen=True)
class Stage:
    """A second run on the same objects, in a folder of its own.

    Attributes:
        name: of the folder under the run's.
        config: of this stage.
        build: called when the stage begins.
        after: steps of the stages that follow it.
    """

    name: str
    config: TrainConfig
    build: Callable[[], Job]
    after: int = 0

    @property
    def steps(self) -> int:
        """Of this stage and of those that follow it."""
        return self.config.steps + self.after


@dataclass(frozen=True)
class Recipe:
    """A run with a name.

    Attributes:
        name: as in ``lexiseg train NAME``.
        summary: what it gives, in a line.
        config: the defaults, which ``--set`` changes.
        build: the job, from the folder of data sets and the configuration; its docstring has the
            command, the hardware, the time and the score to expect.
    """

    name: str
    summary: str
    config: TrainConfig
    build: Callable[[Path, Any], Job]


def save_whole(model: nn.Module, arch: str, path: Path) -> Path:
    """What a :class:`Job` saves of a model that is stored with all its parts.

    Args:
        model: the model.
        arch: its registered name.
        path: of the file.
    """
    save_weights(path, model.state_dict(), {"model": arch})
    return path


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a setting that is none of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} {value!r} came; choose one of {', '.join(allowed)}")
