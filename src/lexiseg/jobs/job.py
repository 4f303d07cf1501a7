"""A job: photographs into a folder of results, by an engine that yields what comes of each."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg import outputs
from lexiseg.atomic import write_atomically
from lexiseg.jobs.contest import AnySegmenter
from lexiseg.jobs.large import segment_photo, tile_side
from lexiseg.jobs.manifest import Manifest
from lexiseg.jobs.photos import Task
from lexiseg.pictures.reading import ImageError, read_picture
from lexiseg.prompts import Background, LabelSet
from lexiseg.result import Segmentation


@dataclass(frozen=True)
class Outcome:
    """What came of a photo.

    Attributes:
        table: the result's table; None where it failed.
        files: the encoded results by format.
        reason: why it failed.
        final: it would fail again, as the photo itself cannot be read.
    """

    table: list[dict[str, Any]] | None
    files: dict[str, bytes]
    reason: str | None = None
    final: bool = False


# Takes tasks and yields each with its outcome, in their order.
Engine = Callable[[Sequence[Task]], Iterator[tuple[Task, Outcome]]]
# What a Segmentation comes from: the task, and the picture where it has been read already.
Segment = Callable[[Task, Any], Segmentation]


@dataclass(frozen=True)
class Work:
    """What is done with each photo; called, it makes a Segmentation.

    Attributes:
        segmenter: the model with all around it.
        labels: what is looked for.
        background: when a pixel has no label.
        formats: what is written, the table among it.
        tile: larger pictures go in tiles of this side; None: as :mod:`lexiseg.jobs.large` has it.
        explain: a folder for pictures of what the model saw, one in it for each photo; or None.
    """

    segmenter: AnySegmenter
    labels: LabelSet
    background: Background
    formats: tuple[str, ...]
    tile: int | None = None
    explain: Path | None = None

    def read(self, task: Task) -> Any:
        """The picture, read ahead of the model; of one that goes in tiles only the path.

        Raises:
            ImageError: it cannot be read.
        """
        if tile_side(task.photo.path, self.tile) is not None:
            return task.photo.path
        return read_picture(task.photo.path, max_pixels=self.segmenter.max_pixels)

    def segment(self, task: Task, picture: Any) -> Segmentation:
        """One photo's result."""
        arguments: dict[str, Any] = {"background": self.background}
        if isinstance(picture, Path):
            result = segment_photo(
                self.segmenter, picture, self.labels, tile=self.tile, **arguments
            )
        else:
            kept = "maps" in self.formats or "npz" in self.formats
            result = self.segmenter(picture, self.labels, scores=kept, **arguments)
        if self.explain is not None:
            place = self.explain / task.photo.place / task.files["json"].stem
            self.segmenter.explain(picture, self.labels).save(place)
        return replace(result, source=str(task.photo.path))

    def encode(self, task: Task, result: Segmentation) -> Outcome:
        """The bytes of its files."""
        files = {kind: outputs.encode(result, kind, task.files) for kind in task.files}
        return Outcome(result.table(), files)


def local_engine(work: Work, *, workers: int) -> Engine:
    """The model in this thread; reading and decoding before it and encoding behind it in others.

    Args:
        work: what is done.
        workers: how many photos are read ahead, and threads that read and encode; 0 for none.
    """
    return (lambda tasks: _in_turn(work, tasks)) if workers == 0 else _threaded(work, workers)


def run_job(
    engine: Engine,
    tasks: Sequence[Task],
    manifest: Manifest,
    *,
    on_outcome: Callable[[Task, Outcome], None],
) -> None:
    """Write what the engine yields; each photo is noted when its files are on the disk.

    Args:
        engine: makes the results.
        tasks: what is left to do.
        manifest: open.
        on_outcome: told of each photo.

    Raises:
        OSError: the manifest itself cannot be written.
    """
    folder = manifest.folder
    for task, outcome in engine(tasks):
        if outcome.table is not None:
            manifest.write(task.entry("begun", folder))
            try:
                write_files(task, outcome, folder)
            except (OSError, ValueError) as error:
                outcome = Outcome(None, {}, reason_of(error))
        if outcome.table is not None:
            manifest.write(task.entry("done", folder))
        else:
            state = "failed" if outcome.final else "stopped"
            manifest.write(task.entry(state, folder, outcome.reason))
        on_outcome(task, outcome)
    manifest.finish()


def write_files(task: Task, outcome: Outcome, folder: Path) -> None:
    """Every file of a photo, each complete or not there.

    Raises:
        ValueError: a link leads outside of the output folder.
    """
    root = folder.resolve()
    for kind, path in task.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(root):
            raise ValueError(f"{path.parent} is a link that leads outside of {folder}")
        write_atomically(path, outcome.files[kind], part=path.name)


def failure(error: BaseException) -> Outcome:
    """What is kept of an error: final where the photo itself is at fault."""
    return Outcome(None, {}, reason_of(error), isinstance(error, ImageError))


def reason_of(error: BaseException) -> str:
    """One line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


# What makes one photo fail and not the job.
ERRORS = (ValueError, OSError, RuntimeError, MemoryError)


def _in_turn(work: Work, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
    for task in tasks:
        try:
            yield task, work.encode(task, work.segment(task, work.read(task)))
        except ERRORS as error:
            yield task, failure(error)


def _threaded(work: Work, workers: int) -> Engine:
    def run(tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        readers = ThreadPoolExecutor(workers, "lexiseg-read")
        encoders = ThreadPoolExecutor(workers, "lexiseg-encode")
        ahead: deque[tuple[Task, Future[np.ndarray]]] = deque()
        behind: deque[tuple[Task, Future[Outcome]]] = deque()
        waiting = iter(tasks)
        try:
            while True:
                while len(ahead) <= workers and (task := next(waiting, None)) is not None:
                    ahead.append((task, readers.submit(work.read, task)))
                if not ahead:
                    break
                task, picture = ahead.popleft()
                behind.append((task, _segmented(work, task, picture, encoders)))
                while behind and (len(behind) > workers or behind[0][1].done()):
                    yield _outcome(*behind.popleft())
            while behind:
                yield _outcome(*behind.popleft())
        finally:
            readers.shutdown(cancel_futures=True)
            encoders.shutdown(cancel_futures=True)

    return run


def _segmented(
    work: Work, task: Task, picture: "Future[Any]", encoders: ThreadPoolExecutor
) -> "Future[Outcome]":
    """The outcome to come; of what went wrong so far it is there already."""
    try:
        result = work.segment(task, picture.result())
    except ERRORS as error:
        settled: Future[Outcome] = Future()
        settled.set_result(failure(error))
        return settled
    return encoders.submit(work.encode, task, result)


def _outcome(task: Task, future: "Future[Outcome]") -> tuple[Task, Outcome]:
    try:
        return task, future.result()
    except ERRORS as error:
        return task, failure(error)
