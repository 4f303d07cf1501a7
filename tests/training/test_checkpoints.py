import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lexiseg.training import checkpoints
from lexiseg.training.checkpoints import best_of, checkpoints_of

ROOT = Path(__file__).parents[2]


class KilledError(BaseException):
    """Stands for a process that ends here."""


def write(out: Path, step: int, score: float | None = None, keep: int = 2) -> None:
    checkpoints.write_checkpoint(
        out,
        step=step,
        row={"loss": 0.5},
        state={"step": step, "weights": torch.full((3,), float(step))},
        save=lambda path: path.write_text(str(step)),
    )
    checkpoints.judged(out, step, score, keep=keep)


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


@pytest.mark.parametrize("call", range(16))
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
            (Path, "replace"),
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
    from tests.training.jobs import CONFIG, line_job

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
    assert not list((tmp_path / "cut" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_checkpoint_is_named(content: bytes | None, tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-000001" / "state.pt"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(ValueError, match=r"state\.pt is damaged .*remove .*step-000001"):
        checkpoints_of(tmp_path)[0].read()


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"x", b"\xff\xfe", b'{"step": null, "score": null}']
)
def test_a_damaged_record_is_named(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-000001" / "checkpoint.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.json is damaged .*remove .*step-000001"):
        checkpoints_of(tmp_path)


def test_a_state_that_is_another_or_lacks_something_is_named(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    first, second = (tmp_path / "checkpoints" / f"step-00000{n}" / "state.pt" for n in (1, 2))
    with pytest.raises(ValueError, match=r"state\.pt is damaged \(it lacks model, scaler\)"):
        checkpoints_of(tmp_path)[0].read(("model", "weights", "scaler"))
    shutil.copy(first, second)
    with pytest.raises(ValueError, match=r"state\.pt is damaged \(it is not the state of step 2\)"):
        checkpoints_of(tmp_path)[1].read()
    torch.save([1], first)
    with pytest.raises(ValueError, match=r"state\.pt is damaged \(it is not the state of step 1\)"):
        checkpoints_of(tmp_path)[0].read()


def test_until_it_is_judged_a_checkpoint_keeps_its_row_and_none_goes(tmp_path: Path) -> None:
    write(tmp_path, 1, 0.5, keep=1)
    state = {"step": 2}
    row = {"loss": float("inf"), "lr": 0.1}
    checkpoints.write_checkpoint(tmp_path, step=2, row=row, state=state, save=Path.touch)
    assert steps(tmp_path) == [1, 2]
    last = checkpoints_of(tmp_path)[-1]
    assert (last.score, last.row) == (None, {"loss": None, "lr": 0.1})
    best = best_of(tmp_path)
    assert best is not None
    assert best.step == 1
    checkpoints.judged(tmp_path, 2, 0.6, keep=1)
    (only,) = checkpoints_of(tmp_path)
    assert (only.step, only.score, only.row) == (2, 0.6, None)


@pytest.mark.parametrize("kind", ["weights", "state"])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: object) -> None:
        raise (
            OSError(28, "No space left on device")
            if kind == "weights"
            else RuntimeError("write failed\nmore")
        )

    def attempt(step: int) -> None:
        save = full if kind == "weights" else Path.touch
        checkpoints.write_checkpoint(tmp_path, step=step, row={}, state={"step": 1}, save=save)

    full_disk = r"write failed; [\d.]+ MB are left there"
    why = "No space left on device" if kind == "weights" else full_disk
    with monkeypatch.context() as patch:
        if kind == "state":
            patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match=rf"step-000001: cannot .*\({why}\); nothing was saved$"):
            attempt(1)
    write(tmp_path, 1)
    with monkeypatch.context() as patch:
        if kind == "state":
            patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match=rf"step-000002: cannot .*\({why}\); .*000001, .* good$"):
            attempt(2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
