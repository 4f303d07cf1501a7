"""What models cost: seconds, floating-point work, memory, and how near they are to the machine.

Everything is measured in one process, one case after the other, so that ratios hold where seconds
swing with the load.
"""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx import OnnxSegmenter
from lexiseg.tiling import protocol_scores

MATRIX_SIDE = 1536
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        model: its name.
        engine: "eager" (torch), "onnx" (ONNX Runtime, float32) or "int8".
        height: of the images, in pixels.
        width: likewise.
        labels: how many.
        batch: images at once.
        text_seconds: to encode all labels, which is spared where they are cached.
        seconds: of a batch with labels that are cached, the median of the repeats.
        cpu_seconds: of all threads in that time, which a busy machine disturbs less.
        text_gflop: floating-point operations of the labels, in billions; None where not counted.
        gflop: of a batch; None where not counted. Multiplication and addition count as one each.
        extra_mb: by which the process grew at most during a batch; None where the system does not
            tell.
        utilisation: operations a second, as a part of those of a large matrix product.
    """

    model: str
    engine: str
    height: int
    width: int
    labels: int
    batch: int
    text_seconds: float
    seconds: float
    cpu_seconds: float
    text_gflop: float | None
    gflop: float | None
    extra_mb: float | None
    utilisation: float | None


@runtime_checkable
class Subject(Protocol):
    """What is measured: a model under one of the engines."""

    name: str
    engine: str
    unit: int

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels."""

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Logits."""


class Eager:
    """A model in torch.

    Args:
        name: of the model.
        model: is measured as it is, whatever its weights.
        protocol: the name of one of the model's; with windows a batch is all windows of its images.
    """

    engine = "eager"

    def __init__(self, name: str, model: SegmentationModel, *, protocol: str = "default") -> None:
        self.name = name
        self.model = model.eval().requires_grad_(False)  # the counter of work needs it so
        self.protocol = model.protocols[protocol]
        preparation = self.protocol.preprocess
        self.unit = max(preparation.multiple, preparation.pad_multiple)

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels."""
        with torch.inference_mode():
            return self.model.encode_texts(prompts)

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Scores."""
        protocol = self.protocol
        with torch.inference_mode():
            asked = replace(texts, at_most=protocol.texts_at_most, rule=protocol.rule)
            return protocol_scores(self.model, protocol, images, asked)


class Exported:
    """A model's graphs in ONNX Runtime, which take one image at a time."""

    def __init__(self, segmenter: OnnxSegmenter) -> None:
        description = segmenter.description
        self.name = description.model
        self.engine = "int8" if description.int8 else "onnx"
        self.segmenter = segmenter
        preparation = description.preparation
        self.unit = max(preparation["multiple"], preparation["pad_multiple"])

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels, computed anew."""
        self.segmenter.forget()
        return self.segmenter.encode_texts(prompts)

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Logits, image by image."""
        return np.stack([self.segmenter.logits(image.numpy(), texts) for image in images])


def bench(
    subjects: Iterable[Subject],
    *,
    sizes: Sequence[int] = (384,),
    labels: Sequence[int] = (20,),
    batches: Sequence[int] = (1,),
    repeats: int = 3,
    matrix_side: int = MATRIX_SIDE,
    done: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Measure every subject in every case.

    Args:
        subjects: what is measured.
        sizes: sides of the square images, rounded to what the model takes.
        labels: how many labels.
        batches: images at once.
        repeats: of each case, of which the median counts; one more before them does not.
        matrix_side: of the matrices whose product is the measure of utilisation.
        done: is told each row as it comes.

    Returns:
        ``machine`` and ``rows``.

    Raises:
        ValueError: a number is below 1.
    """
    if min([*sizes, *labels, *batches, repeats]) < 1:
        raise ValueError("a size, a number of labels, a batch or the repeats came below 1")
    peak = matrix_rate(matrix_side)
    rows = []
    work: dict[tuple[Any, ...], float | None] = {}
    for subject in subjects:
        for count in labels:
            prompts = [[f"thing number {number}"] for number in range(count)]
            text_seconds, _, texts = _timed(partial(subject.encode, prompts), repeats)
            if isinstance(subject, Eager):
                work[subject.name, count] = flops(partial(subject.encode, prompts))
            for size in sizes:
                side = max(1, round(size / subject.unit)) * subject.unit
                for batch in batches:
                    images = torch.zeros(batch, 3, side, side)
                    key = (subject.name, count, side, batch)
                    if isinstance(subject, Eager):
                        work[key] = flops(partial(subject.run, images, texts))
                    row = _measured(subject, images, texts, text_seconds, repeats, work, peak)
                    rows.append(row)
                    done(row)
    return {"machine": machine() | {"matrix_gflops": peak}, "rows": [asdict(row) for row in rows]}


def _measured(
    subject: Subject,
    images: Float[Tensor, "B 3 H W"],
    texts: Any,
    text_seconds: float,
    repeats: int,
    work: dict[tuple[Any, ...], float | None],
    peak: float,
) -> Row:
    count = len(texts)
    key = (subject.name, count, images.shape[2], len(images))
    before = _reset_peak()
    seconds, cpu_seconds, _ = _timed(lambda: subject.run(images, texts), repeats)
    after = _peak()
    gflop = work.get(key)
    return Row(
        model=subject.name,
        engine=subject.engine,
        height=images.shape[2],
        width=images.shape[3],
        labels=count,
        batch=len(images),
        text_seconds=text_seconds,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        text_gflop=work.get(key[:2]),
        gflop=gflop,
        extra_mb=None if before is None or after is None else max(0.0, after - before),
        utilisation=None if gflop is None else gflop / seconds / peak,
    )


def flops(run: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products, convolutions and attention, in billions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def matrix_rate(side: int = MATRIX_SIDE, repeats: int = 3) -> float:
    """Billions of operations a second of the product of two large matrices of float32."""
    left, right = torch.ones(side, side), torch.ones(side, side)
    left @ right  # noqa: B018 (the first call sets up the library)
    fastest = min(_once(lambda: left @ right)[0] for _ in range(repeats))
    return 2 * side**3 / fastest / 1e9


def machine() -> dict[str, Any]:
    """What the numbers belong to."""
    flags = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    return {
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "flags": [flag for flag in flags if flag in words],
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lexiseg": version("lexiseg"),
    }


def _timed(run: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Medians of the seconds and of the processor's, and what came out; the first run is none."""
    _once(run)
    times, of_cpu, result = [], [], None
    for _ in range(repeats):
        before = time.process_time()
        seconds, result = _once(run)
        of_cpu.append(time.process_time() - before)
        times.append(seconds)
    return statistics.median(times), statistics.median(of_cpu), result


def _once(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def _reset_peak() -> float | None:
    """Megabytes that the process takes now, from which its peak is measured again (Linux)."""
    gc.collect()
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak() -> float | None:
    return _status("VmHWM")


def _status(name: str) -> float | None:
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None
