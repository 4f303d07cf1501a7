from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lexiseg.tools.bench import machine

CUDA = torch.device("cuda")


def test_the_machine_is_named() -> None:
    found = machine.describe()
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["clock"] == machine.clock_of()


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert machine.clock_of() == "processor"
    assert machine.clock_of(CUDA) == "wall"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert machine.clock_of() == "wall"


def test_a_rate() -> None:
    assert machine.matrix_rate(side=64, repeats=1) > 0


def test_runs_that_count() -> None:
    came: list[int] = []
    timing = machine.timed(lambda: came.append(1) or len(came), 4)
    assert (timing.runs, timing.result) == (4, 4)
    assert timing.by("wall") == timing.seconds
    assert timing.by("processor") == timing.cpu_seconds
    assert machine.timed(lambda: None, 4, at_most=1e-12).runs == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak")
def test_memory_that_was_taken_and_given_back() -> None:
    before = machine.reset_peak()
    np.ones(64 * 2**20 // 8).sum()
    after = machine.peak()
    if before is None or after is None:
        pytest.skip("this process may not ask")
    assert after - before == pytest.approx(64, abs=8)
    again = machine.reset_peak()
    assert again is not None
    assert again < before + 8


def test_nobody_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_STATUS", tmp_path / "nothing")
    monkeypatch.setattr(machine, "_CLEAR", tmp_path / "nothing" / "here")
    assert machine.reset_peak() is None
    assert machine.peak() is None
    assert machine.reset_peak(torch.device("mps")) is None
    assert machine.peak(torch.device("mps")) is None


def test_a_gpu_is_waited_for_and_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in: there is none here."""
    asked: list[str] = []

    def stand_in(name: str, result: Any) -> None:
        monkeypatch.setattr(
            torch.accelerator, name, lambda device: asked.append(name) or result, raising=False
        )

    stand_in("synchronize", None)
    stand_in("reset_peak_memory_stats", None)
    stand_in("memory_allocated", 2**20)
    stand_in("max_memory_allocated", 3 * 2**20)
    assert machine.timed(lambda: asked.append("run"), 1, device=CUDA).runs == 1
    assert asked == ["synchronize", "run", "synchronize"]
    assert machine.reset_peak(CUDA) == 1
    assert machine.peak(CUDA) == 3
