"""A run's checkpoints, each whole or not there at all.

OUT/run.json                                  what is trained, as it was asked for
OUT/metrics.jsonl                             one line a step
OUT/checkpoints/step-000100/state.pt          all that the run needs to go on
OUT/checkpoints/step-000100/weights.safetensors    the averaged weights, ready to use
OUT/checkpoints/step-000100/checkpoint.json   step and score
OUT/weights.safetensors                       at the end: the best checkpoint's weights
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lexiseg.atomic import write_atomically, written_whole
from lexiseg.training.metrics import only_finite

WEIGHTS_FILE = "weights.safetensors"
FACTS_FILE = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        folder: where it is.
        step: steps that were done.
        score: of the validation, higher is better; None where there was none.
        row: what is to be logged of its last step, until its weights have been judged; then None.
    """

    folder: Path
    step: int
    score: float | None
    row: Mapping[str, Any] | None = None

    @property
    def weights(self) -> Path:
        """The file of averaged weights."""
        return self.folder / WEIGHTS_FILE

    def read(self, parts: Sequence[str] = ()) -> dict[str, Any]:
        """All that the run needs to go on.

        Args:
            parts: what must be in it.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch lets through whatever a damaged pickle brings about
            why = (f"{type(error).__name__}: {error}").splitlines()[0]
            raise _damaged(path, why) from error
        if not isinstance(state, dict) or state.get("step") != self.step:
            raise _damaged(path, f"it is not the state of step {self.step}")
        missing = [part for part in parts if part not in state]
        if missing:
            raise _damaged(path, f"it lacks {', '.join(missing)}")
        return state


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} is damaged ({why}); remove {path.parent} to go on from the checkpoint before it, "
        "or to start anew where there is none"
    )


def checkpoints_of(out: Path) -> list[Checkpoint]:
    """A run's checkpoints, oldest first.

    Raises:
        ValueError: one is damaged.
    """
    found = []
    for path in (out / "checkpoints").glob(f"step-*/{FACTS_FILE}"):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:  # the run has just removed it
            continue
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        if not _is_whole(facts):
            raise _damaged(path, "it holds no step and score")
        found.append(Checkpoint(path.parent, facts["step"], facts["score"], facts.get("row")))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _is_whole(facts: Any) -> bool:
    if not isinstance(facts, dict) or not {"step", "score"} <= facts.keys():
        return False
    score, row = facts["score"], facts.get("row")
    return (
        type(facts["step"]) is int
        and (score is None or type(score) in (int, float))
        and (row is None or isinstance(row, dict))
    )


def best_of(out: Path) -> Checkpoint | None:
    """The checkpoint with the highest score; the last one where none has a score."""
    found = checkpoints_of(out)
    scored = [c for c in found if c.score is not None]
    if scored:
        return max(scored, key=lambda c: (c.score, -c.step))
    return found[-1] if found else None


def write_checkpoint(
    out: Path,
    *,
    step: int,
    row: Mapping[str, float],
    state: Mapping[str, Any],
    save: Callable[[Path], object],
) -> None:
    """Write a checkpoint whose weights are not judged yet; :func:`judged` follows.

    It is made beside its place and moved there when it is on the disk, so that a process killed at
    any moment leaves the one before.

    Args:
        out: the run's folder.
        step: steps that were done.
        row: what is to be logged of the last of them.
        state: what :meth:`Checkpoint.read` gives back.
        save: writes the weights file.

    Raises:
        OSError: the disk is full, or the like; nothing of the checkpoint stays.
    """
    place = _place(out, step)
    partial = place.with_name(f".{place.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _save_state(state, partial / "state.pt")
        save(partial / WEIGHTS_FILE)
        facts = {"step": step, "score": None, "row": only_finite(row)}
        (partial / FACTS_FILE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _sync(path)
        _remove(place)  # a run that goes on from an older checkpoint writes later ones anew
        partial.rename(place)
        _sync(place.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        found = checkpoints_of(out)
        rest = f"{found[-1].folder}, the one before, is good" if found else "nothing was saved"
        raise OSError(f"{place}: cannot be written ({error.strerror or error}); {rest}") from error


def judged(out: Path, step: int, score: float | None, *, keep: int) -> None:
    """Add its score to a checkpoint, and remove those that are neither new nor the best.

    Args:
        out: the run's folder.
        step: of the checkpoint.
        score: of the validation; None where there was none.
        keep: newest checkpoints that stay.
    """
    finite = score is not None and math.isfinite(score)
    facts = {"step": step, "score": score if finite else None}
    write_atomically(_place(out, step) / FACTS_FILE, (json.dumps(facts) + "\n").encode())
    best = best_of(out)
    for old in checkpoints_of(out)[:-keep]:
        if best is None or old.step != best.step:
            _remove(old.folder)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is never half written."""
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def _place(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step-{step:06d}"


def _save_state(state: Mapping[str, Any], path: Path) -> None:
    try:
        torch.save(dict(state), path)
    except RuntimeError as error:  # what torch makes of a full disk, without a word of it
        left = shutil.disk_usage(path.parent).free / 1e6
        raise OSError(f"{str(error).splitlines()[0]}; {left:.1f} MB are left there") from error


def _remove(folder: Path) -> None:
    """Remove a checkpoint; it is out of sight before its first file is gone."""
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def _sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
