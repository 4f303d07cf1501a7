"""Conversions as lists of jobs: one job makes the file, or the two, of one photograph."""

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt
from PIL import Image as PILImage

from lexiseg.atomic import write_atomically
from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.paths import read_listing


class SourceError(ValueError):
    """The raw download is not there; the message says where to get it and where it belongs."""


@dataclass(frozen=True)
class Job:
    """Files to be made out of others.

    Attributes:
        targets: what is written.
        sources: what it is made of; a target older than one of them is made again. Without any,
            the targets are always made.
        make: gives the contents of each target; raises ValueError or OSError where a source is
            missing or damaged.
    """

    targets: tuple[Path, ...]
    sources: tuple[Path, ...]
    make: Callable[[], Sequence[bytes]]

    def is_done(self) -> bool:
        """Whether every target is there and no older than the sources."""
        if not self.sources:
            return False
        try:
            newest = max(source.stat().st_mtime_ns for source in self.sources)
            return all(target.stat().st_mtime_ns >= newest for target in self.targets)
        except OSError:
            return False


@dataclass(frozen=True)
class Outcome:
    """What became of one job: its last target, and why it failed where it did."""

    file: Path
    state: Literal["written", "kept", "failed"]
    reason: str = ""


def run(jobs: Sequence[Job], *, workers: int = 1) -> Generator[Outcome, None, None]:
    """Do the jobs, in order, ``workers`` at a time; a failure does not stop the others.

    Each file is complete or not there, and what is done already is kept, so that a run which was
    stopped goes on where it was. At most ``2 * workers`` jobs are in memory.

    Raises:
        ValueError: ``workers`` is less than 1.
    """
    if workers < 1:
        raise ValueError(f"workers {workers} came; at least 1 is needed")
    return _run(jobs, workers)


def _run(jobs: Iterable[Job], workers: int) -> Generator[Outcome, None, None]:
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Outcome]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(_do, job))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _do(job: Job) -> Outcome:
    last = job.targets[-1]
    if job.is_done():
        return Outcome(last, "kept")
    try:
        for target, data in zip(job.targets, job.make(), strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
    except (ValueError, OSError) as error:
        return Outcome(last, "failed", _one_line(error) or type(error).__name__)
    return Outcome(last, "written")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def png(label_map: UInt[np.ndarray, "H W"]) -> bytes:
    """A grey PNG, 8 or 16 bits as the array."""
    buffer = io.BytesIO()
    PILImage.fromarray(label_map).save(buffer, format="PNG")
    return buffer.getvalue()


def tif(label_map: UInt[np.ndarray, "H W"]) -> bytes:
    """A grey TIFF of 16 bits, compressed without loss."""
    buffer = io.BytesIO()
    image = PILImage.fromarray(label_map.astype(np.uint16))
    image.save(buffer, format="TIFF", compression="tiff_deflate")
    return buffer.getvalue()


def find_folder(benchmark: Benchmark, root: Path, contents: Sequence[str]) -> Path:
    """The first of a benchmark's places that has one of these files or folders.

    Raises:
        SourceError: none has; the message says where the download comes from.
    """
    for place in benchmark.places:
        if any((root / place / content).exists() for content in contents):
            return root / place
    wanted = " or ".join(contents)
    raise SourceError(
        f"{root / benchmark.places[0]}: {wanted} is missing; get it from {benchmark.masks_from}"
    )


def listed_names(files: Sequence[Path], source: str) -> list[str]:
    """The names in the first of ``files`` that is there, one a line.

    Raises:
        SourceError: there is none of them, or it cannot be used.
    """
    for file in files:
        if file.is_file():
            try:
                return read_listing(file)
            except ValueError as error:
                raise SourceError(str(error)) from error
    wanted = " or ".join(map(str, files))
    raise SourceError(f"{wanted} is missing: the names of the split's photographs; from {source}")
