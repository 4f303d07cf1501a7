"""The machine that is measured on: its clocks, its memory, and how fast it multiplies."""

import ctypes
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange

from lexiseg.layers.linear import pointwise

CPU = torch.device("cpu")
MATRIX_SIDE = 1536
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Clock = Literal["processor", "wall"]


def clock_of(device: torch.device = CPU) -> Clock:
    """The clock of utilisation.

    The processor's where a single thread computes, because a busy machine does not stretch it.
    Several threads may wait for each other, and an accelerator works apart: there it is the wall's.
    """
    return "processor" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


@dataclass(frozen=True)
class Timing:
    """How long something took.

    Attributes:
        seconds: median of the runs, on the wall's clock.
        cpu_seconds: of all threads of the process in that time.
        runs: that counted.
        result: what came out of the last one.
    """

    seconds: float
    cpu_seconds: float
    runs: int
    result: Any = None

    def by(self, clock: Clock) -> float:
        """Seconds of a clock."""
        return self.cpu_seconds if clock == "processor" else self.seconds


def timed(
    run: Callable[[], Any],
    repeats: int,
    *,
    at_most: float | None = None,
    device: torch.device = CPU,
) -> Timing:
    """Time some runs; what has to be set up must have run before.

    Args:
        run: is called at least once.
        repeats: at most so many times.
        at_most: seconds of the clock of utilisation after which no other run begins; None for no
            such limit.
        device: is waited for before the clock is read.
    """
    times: list[float] = []
    of_cpu: list[float] = []
    result = None
    clock = of_cpu if clock_of(device) == "processor" else times
    while len(times) < repeats and not (times and at_most and sum(clock) > at_most):
        result = None  # or two of them would lie in memory
        _wait(device)
        of_process, start = time.process_time(), time.perf_counter()
        result = run()
        _wait(device)
        times.append(time.perf_counter() - start)
        of_cpu.append(time.process_time() - of_process)
    return Timing(statistics.median(times), statistics.median(of_cpu), len(times), result)


def matrix_rate(side: int = MATRIX_SIDE, repeats: int = 3, *, device: torch.device = CPU) -> float:
    """Billions of operations a second of the product of two large matrices of float32.

    On a CPU it is the faster of the product and the convolution that it is equal to, as
    layers/linear.py multiplies: on AMD's processors that is twice as fast.
    """
    left, right = (torch.ones(side, side, device=device) for _ in range(2))
    ways: list[Callable[[], Any]] = [lambda: left @ right]
    if device.type == "cpu":
        cells = rearrange(left[None, :, None], "B h w D -> B D h w")
        ways.append(lambda: pointwise(cells, right[:, :, None, None]))
    clock = clock_of(device)
    with torch.inference_mode():
        for way in ways:
            way()  # the first call sets up the library
        fastest = min(
            timed(way, 1, device=device).by(clock) for way in ways for _ in range(repeats)
        )
    return 2 * side**3 / fastest / 1e9


def describe(device: torch.device = CPU) -> dict[str, Any]:
    """What the numbers belong to."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "platform": platform.platform(),
        "device": name,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "flags": [flag for flag in FLAGS if flag in words],
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lexiseg": version("lexiseg"),
        "clock": clock_of(device),
    }


def reset_peak(device: torch.device = CPU) -> float | None:
    """Megabytes taken now, from which the peak is measured again; None where nobody tells.

    Of the process (Linux), or of a CUDA device.
    """
    gc.collect()
    if device.type == "cuda":
        torch.accelerator.reset_peak_memory_stats(device)
        return torch.accelerator.memory_allocated(device) / 2**20
    if device.type != "cpu":
        return None
    _trim()
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak(device: torch.device = CPU) -> float | None:
    """Megabytes taken at most since :func:`reset_peak`, or ever where that gave None."""
    if device.type == "cuda":
        return torch.accelerator.max_memory_allocated(device) / 2**20
    return _status("VmHWM") if device.type == "cpu" else None


def _trim() -> None:
    """Give back what earlier cases freed, or the next one would seem to need nothing (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _status(name: str) -> float | None:
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
