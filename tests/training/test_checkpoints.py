import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lexiseg.training import checkpoints
from lexiseg.training.checkpoints import best_of, check_run, checkpoints_of, write_run
from tests.training.jobs import CONFIG

ROOT = Path(__file__).parents[2]


class KilledError(BaseException):
    """Stands for a process that ends here."""


def write(out: Path, step: int, score: float | None = None, keep: int = 2) -> None:
    checkpoints.write_checkpoint(
        out,
        step=step,
        score=score,
        state={"step": step, "weights": torch.full((3,), float(step))},
        save=lambda path: path.write_text(str(step)),
        keep=keep,
    )


def steps(out: Path) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints_of(out)]


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    for step, score in enumerate([0.2, 0.9, 0.1, 0.9, 0.3, 0.4], start=1):
        write(tmp_path, step, score)
    assert steps(tmp_path) == [2, 5, 6]
    best = best_of(tmp_path)
    assert best is not None
    assert (best.step, best.score, best.weights.read_text()) == (2, 0.9, "2")
    assert torch.equal(best.read()["weights"], torch.full((3,), 2.0))


def test_without_scores_the_last_is_the_best(tmp_path: Path) -> None:
    assert best_of(tmp_path) is None
    for step in range(999_998, 1_000_002):
        write(tmp_path, step)
    assert steps(tmp_path) == [1_000_000, 1_000_001]
    best = best_of(tmp_path)
    assert best is not None
    assert best.step == 1_000_001


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    write(tmp_path, 1, 0.1)
    write(tmp_path, 2, float("nan"))
    best = best_of(tmp_path)
    assert best is not None
    assert best.step == 1


@pytest.mark.parametrize("call", range(14))
def test_a_process_that_ends_at_any_call_leaves_a_checkpoint(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends before each of the calls that change the disk in turn."""
    for step in (1, 2):
        write(tmp_path, step)
    made = 0

    def fatal(function: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*words: object, **named: object) -> object:
            nonlocal made
            made += 1
            if made > call:
                raise KilledError
            return function(*words, **named)

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in [
            (torch, "save"),
            (os, "fsync"),
            (Path, "rename"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (shutil, "rmtree"),
        ]:
            patch.setattr(owner, name, fatal(getattr(owner, name)))
        with pytest.raises(KilledError):
            write(tmp_path, 3)
    assert steps(tmp_path) in ([1, 2], [1, 2, 3], [2, 3])
    for checkpoint in checkpoints_of(tmp_path):
        assert checkpoint.read()["step"] == checkpoint.step
        assert checkpoint.weights.read_text() == str(checkpoint.step)
    write(tmp_path, 3)
    assert steps(tmp_path) == [2, 3]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from lexiseg.training.loop import fit
from tests.training.jobs import CONFIG, line_job

count, save = 0, torch.save
def half(state, path):
    global count
    count += 1
    save(state, path)
    if count == 3:
        Path(path).write_bytes(Path(path).read_bytes()[:500])
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
fit(line_job(), CONFIG, Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that Windows lacks")
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    from lexiseg.training.loop import fit
    from tests.training.jobs import line_job

    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "cut")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert steps(tmp_path / "cut") == [5, 10]
    whole = fit(line_job(), CONFIG, tmp_path / "whole")
    resumed = fit(line_job(), CONFIG, tmp_path / "cut")
    assert whole.read_bytes() == resumed.read_bytes()


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_checkpoint_is_named(content: bytes | None, tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-000001" / "state.pt"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(ValueError, match=r"state\.pt is damaged .*remove .*step-000001"):
        checkpoints_of(tmp_path)[0].read()


def test_what_the_weights_do_not_depend_on_may_change(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, {"recipe": "line"})
    free = replace(CONFIG, workers=3, keep=7, tensorboard=True, checkpoint_every=1)
    check_run(tmp_path, free, {"recipe": "line"})
    with pytest.raises(ValueError, match=r"recipe \(there 'line', now 'other'\), steps \(there 20"):
        check_run(tmp_path, replace(CONFIG, steps=3), {"recipe": "other"})


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        check_run(tmp_path, CONFIG, {})
