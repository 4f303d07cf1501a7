"""The steps of a run: learn, log, validate, checkpoint, and go on from a checkpoint."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from lexiseg.training.average import WeightAverage
from lexiseg.training.batches import (
    ToldSamples,
    checkpoint_interval,
    indices_of_parts,
    samples_of,
    to_device,
)
from lexiseg.training.checkpoints import checkpoints_of, judged, write_checkpoint
from lexiseg.training.metrics import MetricsLog
from lexiseg.training.optim import schedule_of
from lexiseg.training.processes import spoiled_weights, whole_weights
from lexiseg.training.run import Batch, Job, TrainConfig
from lexiseg.training.state import parts_of_state, restore, state_of

logger = logging.getLogger(__name__)
OnStep = Callable[[int, dict[str, float]], None]


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the weights are not finite; the checkpoint is still good."""


class Run:
    """A job with all that its steps change."""

    def __init__(self, job: Job, config: TrainConfig, out: Path, accelerator: Accelerator) -> None:
        self.job, self.config, self.out, self.accelerator = job, config, out, accelerator
        self.main = accelerator.is_main_process
        self.every = checkpoint_interval(job, config)
        run_schedule = schedule_of(config.optim, config.steps)
        self.schedules = [group.get("schedule", run_schedule) for group in job.groups]
        self.peaks = [group["lr"] for group in job.groups]
        groups = [
            {key: group[key] for key in group if key not in ("names", "schedule")}
            for group in job.groups
        ]
        optimizer = torch.optim.AdamW(groups)
        self.objective, self.optimizer = self.accelerator.prepare(job.objective, optimizer)
        self.average = WeightAverage(job.objective, config.average)
        self.row: dict[str, Any] | None = None
        self.start = self._resume()

    def train(self, on_step: OnStep) -> None:
        """The steps that are still to be done."""
        config, began = self.config, time.monotonic()
        with contextlib.ExitStack() as stack:
            log = None
            if self.main:
                start = self.start if self.row is None else self.start - 1
                log = stack.enter_context(
                    MetricsLog(self.out, start=start, tensorboard=config.tensorboard)
                )
            if self.row is not None:
                self._judge(self.start, self.row, log)
            parts = iter(self._loader())
            for step in range(self.start, config.steps):
                losses, norm = self._step(step, parts)
                self.average.update(step)
                row = {**losses, "gradient norm": norm}
                row["lr"] = max(group["lr"] for group in self.optimizer.param_groups)
                row["seconds"] = round(time.monotonic() - began, 1)
                if (step + 1) % self.every == 0 or step + 1 == config.steps:
                    self._save(step + 1, row)
                    self._judge(step + 1, row, log)
                elif log is not None:
                    log.write(step, row)
                if self.main:
                    on_step(step, losses)

    def _judge(self, step: int, row: Mapping[str, Any], log: MetricsLog | None) -> None:
        """Score and log a checkpoint that is on the disk: a validation that fails loses nothing."""
        score = self._validate()
        if log is not None:
            log.write(step - 1, dict(row) if score is None else {**row, "score": score})
            judged(self.out, step, score, keep=self.config.keep)
        self.accelerator.wait_for_everyone()

    def _step(self, step: int, parts: Iterator[list[Any]]) -> tuple[dict[str, float], float]:
        """One step of the optimiser: the losses of the whole batch and the gradient's norm."""
        config, accelerator = self.config, self.accelerator
        for group, peak, factor in zip(
            self.optimizer.param_groups, self.peaks, self.schedules, strict=True
        ):
            group["lr"] = peak * factor(step)
        chance = (config.seed, step, accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))
        self.optimizer.zero_grad()
        total: dict[str, Tensor] = {}
        for part in range(config.accumulate):
            samples = to_device(samples_of(next(parts)), accelerator.device)
            last = part + 1 == config.accumulate
            with contextlib.nullcontext() if last else accelerator.no_sync(self.objective):
                losses = self.objective(Batch(samples, step=step, seed=config.seed))
                accelerator.backward(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                share = loss.detach().float() / config.accumulate
                total[name] = total[name] + share if name in total else share
        means = accelerator.reduce(torch.stack(list(total.values())), "mean").tolist()
        found = {name: mean + 0.0 for name, mean in zip(total, means, strict=True)}  # no -0.0
        self._stop_if(step, [f"{n} is {x:g}" for n, x in found.items() if not math.isfinite(x)])
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        limit = config.optim.clip_norm or math.inf
        norm = float(accelerator.clip_grad_norm_(trained, limit))
        # With float16 the scaler leaves such a step out, and scales less from then on.
        if config.precision != "float16" and not math.isfinite(norm):
            self._stop_if(step, [f"the norm of the gradient is {norm:g}"])
        self.optimizer.step()
        return found, norm

    def _stop_if(self, step: int, reasons: Sequence[str]) -> None:
        """End the run, in all processes alike, where there is a reason."""
        if not reasons:
            return
        found = checkpoints_of(self.out)
        good = f"{found[-1].folder} holds the last good weights" if found else "nothing was saved"
        raise NonFiniteLossError(
            f"step {step}: {', '.join(reasons[:3])}; {good}: lower optim.lr and start in another "
            "folder, or look at that step's samples"
        )

    def _loader(self) -> DataLoader[Any]:
        accelerator = self.accelerator
        workers = self.config.workers
        return DataLoader(
            ToldSamples(self.job.samples) if workers else self.job.samples,
            batch_sampler=indices_of_parts(
                self.config,
                start=self.start,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
            ),
            num_workers=workers,
            collate_fn=list,
            generator=torch.Generator(),  # its own, so that starting a loader draws no chance
        )

    def _validate(self) -> float | None:
        """The score of the averaged weights; every process finds the same."""
        if self.job.validate is None:
            return None
        modes = {part: part.training for part in self.job.objective.modules()}
        self.job.objective.eval()
        try:
            with self.average.in_module(), torch.no_grad():
                return self.job.validate()
        finally:
            for part, training in modes.items():
                part.training = training

    def _save(self, step: int, row: Mapping[str, Any]) -> None:
        spoiled = spoiled_weights(self.accelerator, self.job.objective, self.average)
        self._stop_if(step - 1, [f"{name} is not finite" for name in spoiled])
        state = state_of(self.accelerator, self.objective, self.optimizer.optimizer, self.average)
        with self.average.in_module(), whole_weights(self.job.objective):
            if self.main:
                write_checkpoint(
                    self.out, step=step, row=row, state={"step": step, **state}, save=self.job.save
                )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        """Load the last checkpoint, if there is one; the step to go on from."""
        found = checkpoints_of(self.out)
        self.accelerator.wait_for_everyone()
        if not found:
            return 0
        last = found[-1]
        restore(
            last.read(parts_of_state(self.average)),
            self.accelerator,
            self.objective,
            self.optimizer.optimizer,
            self.average,
        )
        self.row = None if last.row is None else dict(last.row)
        logger.info("%s: going on from step %d", last.folder, last.step)
        return last.step
