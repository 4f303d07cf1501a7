"""How models are measured: a row of numbers for each case."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import methodcaller
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lexiseg.tools.bench.cases import Case, cases, made_up_images, made_up_prompts
from lexiseg.tools.bench.machine import (
    CPU,
    MATRIX_SIDE,
    Timing,
    clock_of,
    describe,
    matrix_rate,
    peak,
    reset_peak,
    timed,
)
from lexiseg.tools.bench.row import Row
from lexiseg.tools.bench.subjects import Compiled, Eager, Exported, Subject

logger = logging.getLogger(__name__)


def bench(
    subjects: Iterable[Subject],
    *,
    sizes: Sequence[int] = (384,),
    labels: Sequence[int] = (20,),
    batches: Sequence[int] = (1,),
    one_at_a_time: bool = False,
    repeats: int = 3,
    at_most: float | None = None,
    matrix_side: int = MATRIX_SIDE,
    done: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Measure every subject in every case.

    Args:
        subjects: what is measured; all on one device.
        sizes: sides of the square images, rounded to what the model takes.
        labels: how many labels, or sentences.
        batches: images at once.
        one_at_a_time: vary one of these three, the others at their first number; else all cases.
        repeats: of each case, of which the median counts; one more before them does not.
        at_most: seconds of a case after which it is not repeated again; None for no such limit.
        matrix_side: of the matrices whose product is the measure of utilisation.
        done: is told each row as it comes.

    Returns:
        ``machine`` and ``rows``.

    Raises:
        ValueError: a number is below 1, or the devices differ.
    """
    if min([*sizes, *labels, *batches, repeats]) < 1:
        raise ValueError("a size, a number of labels, a batch or the repeats came below 1")
    subjects = list(subjects)
    devices = {subject.device for subject in subjects} or {CPU}
    if len(devices) > 1:
        named = " and ".join(sorted(str(device) for device in devices))
        raise ValueError(f"subjects on {named} came; measure one device at a time")
    (device,) = devices
    every = cases(labels, sizes, batches, one_at_a_time=one_at_a_time)
    of_one = _OfOne(repeats, at_most, matrix_rate(matrix_side, device=device))
    rows = []
    for subject in subjects:
        for row in of_one.rows(subject, every):
            rows.append(asdict(row))
            done(row)
    return {"machine": describe(device) | {"matrix_gflops": of_one.rate}, "rows": rows}


def flops(run: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products, convolutions and attention, in billions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


class _OfOne:
    """What is the same for all subjects, and the work that was counted so far."""

    def __init__(self, repeats: int, at_most: float | None, rate: float) -> None:
        self.repeats = repeats
        self.at_most = at_most
        self.rate = rate
        self.work: dict[tuple[Any, ...], float] = {}

    def rows(self, subject: Subject, every: Sequence[Case]) -> Iterable[Row]:
        """One subject in all cases; its texts are encoded once for each number of them."""
        for count, of_count in groupby(every, key=lambda case: case[0]):
            prompts = made_up_prompts(subject, count)
            self._warm((subject.name, count), subject, methodcaller("encode", prompts))
            text = self._timed(partial(subject.encode, prompts), subject)
            for _, size, batch in of_count:
                side = max(1, round(size / subject.unit)) * subject.unit
                images = made_up_images(batch, side).to(subject.device)
                yield self._row(subject, images, text, size=size, labels=count)

    def _row(
        self,
        subject: Subject,
        images: Float[Tensor, "B 3 H W"],
        text: Timing,
        *,
        size: int,
        labels: int,
    ) -> Row:
        row = partial(
            Row,
            model=subject.name,
            engine=subject.engine,
            texts=subject.texts,
            size=size,
            height=images.shape[2],
            width=images.shape[3],
            labels=labels,
            batch=len(images),
            text_seconds=text.seconds,
            text_cpu_seconds=text.cpu_seconds,
            text_gflop=self.work.get((subject.name, labels)),
        )
        try:
            return row(**self._numbers(subject, images, text, labels))
        except Exception as error:  # a compiler's and ONNX Runtime's errors have no base
            logger.debug("%s %s failed", subject.name, subject.engine, exc_info=True)
            return row(note=f"failed: {_first_line(error)}")

    def _numbers(
        self, subject: Subject, images: Float[Tensor, "B 3 H W"], text: Timing, labels: int
    ) -> dict[str, Any]:
        """What was measured of a case, by the names of a row."""
        run = partial(subject.run, images, text.result)
        found: dict[str, Any] = {}
        if isinstance(subject, Compiled):
            subject.forget()
            found["compile_seconds"] = timed(run, 1, device=subject.device).seconds
            found["graphs"] = subject.graphs()
        key = (subject.name, labels, images.shape[2], len(images))
        # Memory is of a run that is not timed: what was given back must be asked for again first.
        before = reset_peak(subject.device)
        gflop = self._warm(key, subject, methodcaller("run", images, text.result))
        after = peak(subject.device)
        timing = self._timed(run, subject)
        seconds = timing.by(clock_of(subject.device))
        keeps = isinstance(subject, Exported)  # ONNX Runtime never gives back what it once took
        return found | {
            "seconds": timing.seconds,
            "cpu_seconds": timing.cpu_seconds,
            "runs": timing.runs,
            "gflop": gflop,
            "extra_mb": None if keeps else _growth(before, after),
            "peak_mb": after,
            "utilisation": None if gflop is None else gflop / seconds / self.rate,
        }

    def _timed(self, run: Callable[[], Any], subject: Subject) -> Timing:
        return timed(run, self.repeats, at_most=self.at_most, device=subject.device)

    def _warm(
        self, key: tuple[Any, ...], subject: Subject, call: Callable[[Subject], Any]
    ) -> float | None:
        """The first run, which is not timed; the work, counted once for all engines of a model."""
        plain = subject.plain if isinstance(subject, Compiled) else subject
        counted = isinstance(plain, Eager) and key not in self.work
        if counted:
            self.work[key] = flops(partial(call, plain))
        if not counted or plain is not subject:
            call(subject)
        return self.work.get(key)


def _growth(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
