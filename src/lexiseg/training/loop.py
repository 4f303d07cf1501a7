"""The loop: step, log, validate, checkpoint, resume; on one process or on many.

Where the work is done and how processes talk is accelerate's: one process on the CPU, a GPU or MPS
by itself, several as started by ``torchrun`` or ``accelerate launch``.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.utils.data import DataLoader

from lexiseg.training.average import WeightAverage
from lexiseg.training.batches import (
    check_samples,
    checkpoint_interval,
    indices_of_parts,
    share_of_batch,
    to_device,
)
from lexiseg.training.checkpoints import (
    WEIGHTS_FILE,
    best_of,
    check_run,
    checkpoints_of,
    copy_whole,
    write_checkpoint,
    write_run,
)
from lexiseg.training.metrics import MetricsLog
from lexiseg.training.optim import schedule_of
from lexiseg.training.processes import new_accelerator, spoiled_weights, whole_weights
from lexiseg.training.run import Batch, Job, TrainConfig

logger = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], None]
# What is frozen comes with the job again, so that a checkpoint need not hold it.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
LOADED = StateDictOptions(full_state_dict=True, strict=False)


def ignore_step(step: int, losses: dict[str, float]) -> None:
    """What ``fit`` calls after a step if nothing else is wanted."""


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the weights are not finite; the checkpoint is still good."""


def fit(
    job: Job,
    config: TrainConfig,
    out: Path,
    *,
    on_step: OnStep = ignore_step,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Run a job, and what follows it; its parts then hold the averaged weights of the last step.

    Started again with the same arguments it goes on from the last checkpoint in ``out``, whose
    layout is in :mod:`lexiseg.training.checkpoints`; on the CPU the result is bit for bit that of
    a run that was never stopped.

    Args:
        job: what is trained.
        config: the run.
        out: its folder, which all processes see.
        on_step: called after each step, in the first process, with its number and its losses.
        about: what else to keep in ``run.json``: the recipe's name, the data.

    Returns:
        The file of weights: of the checkpoint with the best score, or else of the last.

    Raises:
        NonFiniteLossError: the loss, its gradient or the weights are not finite.
        ValueError: ``out`` holds another run, the batch cannot be shared out, or the samples are
            too few.
    """
    check_run(out, config, about or {})
    run = _Run(job, config, out)
    if run.main:
        write_run(out, config, about or {})
    run.train(on_step)
    run.average.copy_to_module()
    best = best_of(out)
    assert best is not None  # the last step wrote one
    weights = best.weights
    if job.next is not None:
        stage = job.next
        weights = fit(stage.build(), stage.config, out / stage.name, on_step=on_step, about=about)
    if run.main:
        copy_whole(weights, out / WEIGHTS_FILE)
    run.accelerator.wait_for_everyone()
    return out / WEIGHTS_FILE


class _Run:
    """A job with all that its steps change."""

    def __init__(self, job: Job, config: TrainConfig, out: Path) -> None:
        self.job, self.config, self.out = job, config, out
        self.accelerator = new_accelerator(job, config)
        self.main = self.accelerator.is_main_process
        share_of_batch(config, self.accelerator.num_processes)
        self.every = checkpoint_interval(job, config)
        check_samples(job, config)
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
        self.start = self._resume()

    def train(self, on_step: OnStep) -> None:
        """The steps that are still to be done."""
        config, began = self.config, time.monotonic()
        with contextlib.ExitStack() as stack:
            log = None
            if self.main:
                log = stack.enter_context(
                    MetricsLog(self.out, start=self.start, tensorboard=config.tensorboard)
                )
            parts = iter(self._loader())
            for step in range(self.start, config.steps):
                losses, norm = self._step(step, parts)
                self.average.update(step)
                row = {**losses, "gradient norm": norm}
                row["lr"] = max(group["lr"] for group in self.optimizer.param_groups)
                due = (step + 1) % self.every == 0 or step + 1 == config.steps
                score = self._validate() if due else None
                if score is not None:
                    row["score"] = score
                if log is not None:
                    log.write(step, {**row, "seconds": round(time.monotonic() - began, 1)})
                    on_step(step, losses)
                if due:
                    self._save(step + 1, score)

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
            samples = to_device(next(parts), accelerator.device)
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
        return DataLoader(
            self.job.samples,
            batch_sampler=indices_of_parts(
                self.config,
                start=self.start,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
            ),
            num_workers=self.config.workers,
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

    def _save(self, step: int, score: float | None) -> None:
        spoiled = spoiled_weights(self.accelerator, self.job.objective)
        self._stop_if(step - 1, [f"the weight {name} is not finite" for name in spoiled])
        optimizer = self.optimizer.optimizer
        scaler = self.accelerator.scaler
        state: dict[str, Any] = {
            "step": step,
            "model": get_model_state_dict(self.objective, options=WHOLE),
            "optimizer": get_optimizer_state_dict(self.objective, optimizer, options=WHOLE),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        state["model"] = {name: value.clone() for name, value in state["model"].items()}
        with self.average.in_module():
            if self.config.average:
                state["average"] = get_model_state_dict(self.objective, options=WHOLE)
            with whole_weights(self.job.objective):
                if self.main:
                    write_checkpoint(
                        self.out,
                        step=step,
                        score=score,
                        state=state,
                        save=self.job.save,
                        keep=self.config.keep,
                    )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        """Load the last checkpoint, if there is one; the step to go on from."""
        found = checkpoints_of(self.out)
        self.accelerator.wait_for_everyone()
        if not found:
            return 0
        state = found[-1].read()
        if self.config.average:
            set_model_state_dict(self.objective, state["average"], options=LOADED)
            self.average.take()
        set_model_state_dict(self.objective, state["model"], options=LOADED)
        optimizer = self.optimizer.optimizer
        set_optimizer_state_dict(self.objective, optimizer, state["optimizer"], options=LOADED)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        logger.info("%s: going on from step %d", found[-1].folder, found[-1].step)
        return found[-1].step
