"""The loop: step, log, validate, checkpoint, resume; on one process or on many.

Where the work is done and how processes talk is accelerate's: one process on the CPU, a GPU or MPS
by itself, several as started by ``torchrun`` or ``accelerate launch``.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch

from lexiseg.training.batches import check_job
from lexiseg.training.checkpoints import WEIGHTS_FILE, best_of, copy_whole
from lexiseg.training.folder import check_run, held, sweep, write_run
from lexiseg.training.processes import new_accelerator
from lexiseg.training.run import Job, TrainConfig
from lexiseg.training.steps import OnStep, Run


def ignore_step(step: int, losses: dict[str, float]) -> None:
    """What ``fit`` calls after a step if nothing else is wanted."""


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
        NonFiniteLossError: the loss, its gradient or the weights are not finite (steps.py).
        ValueError: ``out`` holds another run or another process trains there, the batch cannot be
            shared out, or the samples are too few.
        OSError: a checkpoint cannot be written.
    """
    about = about or {}
    accelerator = new_accelerator(job, config)
    check_job(job, config, processes=accelerator.num_processes)
    with contextlib.ExitStack() as stack:
        taken = accelerator.is_main_process and not stack.enter_context(held(out))
        told = torch.tensor(float(taken), device=accelerator.device)
        if accelerator.reduce(told, "sum").item():
            raise ValueError(f"another process trains in {out}; wait for it, or choose another")
        check_run(out, config, about, fingerprint=job.fingerprint)
        if accelerator.is_main_process:
            sweep(out)
        run = Run(job, config, out, accelerator)
        if run.main:
            following = job.next.name if job.next is not None else None
            write_run(out, config, about, fingerprint=job.fingerprint, following=following)
        run.train(on_step)
        run.average.copy_to_module()
        best = best_of(out)
        assert best is not None  # the last step wrote one
        weights, stage = best.weights, job.next
        if stage is not None:
            place = out / stage.name
            weights = fit(stage.build(), stage.config, place, on_step=on_step, about=about)
        if run.main:
            copy_whole(weights, out / WEIGHTS_FILE)
        accelerator.wait_for_everyone()
    return out / WEIGHTS_FILE
