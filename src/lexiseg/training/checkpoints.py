"""The folder of a run: whose it is, and its checkpoints, each whole or not there at all.

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
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lexiseg import __version__
from lexiseg.training.run import TrainConfig

RUN_FILE = "run.json"
WEIGHTS_FILE = "weights.safetensors"
# What may change between a run and its continuation: the weights do not depend on it.
FREE_FIELDS = ("workers", "keep", "tensorboard", "checkpoint_every")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        folder: where it is.
        step: steps that were done.
        score: of the validation, higher is better; None where there was none.
    """

    folder: Path
    step: int
    score: float | None

    @property
    def weights(self) -> Path:
        """The file of averaged weights."""
        return self.folder / WEIGHTS_FILE

    def read(self) -> dict[str, Any]:
        """All that the run needs to go on.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "state.pt"
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{path} is damaged ({first}); remove {self.folder} to go on from the checkpoint "
                "before it, or to start anew where there is none"
            ) from error
        return state


def checkpoints_of(out: Path) -> list[Checkpoint]:
    """A run's checkpoints, oldest first."""
    found = []
    for path in (out / "checkpoints").glob("step-*/checkpoint.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        found.append(Checkpoint(path.parent, facts["step"], facts["score"]))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def best_of(out: Path) -> Checkpoint | None:
    """The checkpoint with the highest score; the last one where none has a score."""
    found = checkpoints_of(out)
    scored = [(c.score, -c.step, c) for c in found if c.score is not None]
    return max(scored)[2] if scored else found[-1] if found else None


def write_checkpoint(
    out: Path,
    *,
    step: int,
    score: float | None,
    state: Mapping[str, Any],
    save: Callable[[Path], object],
    keep: int,
) -> Checkpoint:
    """Write a checkpoint and remove those that are neither the newest nor the best.

    It is made beside its place and moved there when it is on the disk, so that a process killed at
    any moment leaves the one before.

    Args:
        out: the run's folder.
        step: steps that were done.
        score: of the validation.
        state: what :meth:`Checkpoint.read` gives back.
        save: writes the weights file.
        keep: newest checkpoints that stay.
    """
    place = out / "checkpoints" / f"step-{step:06d}"
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(dict(state), partial / "state.pt")
    save(partial / WEIGHTS_FILE)
    finite = score is not None and math.isfinite(score)
    facts = {"step": step, "score": score if finite else None}
    (partial / "checkpoint.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    _remove(place)  # a run that goes on from an older checkpoint writes later ones anew
    partial.rename(place)
    _sync(place.parent)
    best = best_of(out)
    for old in checkpoints_of(out)[:-keep]:
        if best is None or old.step != best.step:
            _remove(old.folder)
    return Checkpoint(place, step, facts["score"])


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is never half written."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    _sync(partial)
    partial.replace(target)


def check_run(out: Path, config: TrainConfig, about: Mapping[str, str]) -> None:
    """Refuse a folder that holds another run.

    Raises:
        ValueError: the run there differs; the message names the fields.
    """
    path = out / RUN_FILE
    if not path.is_file():
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        old = {**_flat(there["config"]), **{key: there.get(key) for key in about}}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another folder") from error
    new = {**_flat(_as_json(asdict(config))), **about}
    differing = [
        f"{key} (there {old.get(key)!r}, now {new.get(key)!r})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in FREE_FIELDS
    ]
    if differing:
        raise ValueError(
            f"{out} holds a run with another configuration: {', '.join(differing)}; choose another "
            "folder, or the same settings to go on there"
        )


def write_run(out: Path, config: TrainConfig, about: Mapping[str, str]) -> None:
    """Say in the folder what is trained there."""
    out.mkdir(parents=True, exist_ok=True)
    facts = {"lexiseg": __version__, **about, "config": _as_json(asdict(config))}
    partial = out / f".{RUN_FILE}.partial"
    partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / RUN_FILE)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        flat.update(_flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat


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
