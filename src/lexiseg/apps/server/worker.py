"""One thread that runs the models, and the requests that wait for it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[list[Any]], Sequence[Any]]
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    key: Hashable
    run: Run
    payload: Any
    future: "Future[Any]" = field(default_factory=Future)


class Worker:
    """Runs jobs one batch after the other, in their order of arrival.

    Attributes:
        seconds: how long a job took lately, on average.
    """

    def __init__(self, *, max_batch: int, observe: Callable[[int], None] | None = None) -> None:
        """Starts nothing yet.

        Args:
            max_batch: jobs of one key that run together at most.
            observe: is told the size of every batch.
        """
        self.seconds = 1.0
        self._max_batch, self._observe = max_batch, observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether a job that comes now will be run."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Starts the thread; it ends with the process at the latest."""
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._loop, name="lexiseg-model", daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Cancels what waits, lets the running batch finish, and says whether it did in time."""
        with self._changed:
            self._stopping = True
            waiting = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in waiting:
            job.future.cancel()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def submit(self, run: Run, payload: Any, *, key: Hashable = None) -> "Future[Any]":
        """Queues a job.

        Args:
            run: is given the payloads of a batch; gives a result, or an exception, for each.
            payload: of this job; let go when the job is cancelled.
            key: jobs with equal keys may run together; None: this one runs alone.
        """
        job = _Job(key, run, payload)
        job.future.add_done_callback(lambda future: self._drop(job) if future.cancelled() else None)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _drop(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def _loop(self) -> None:
        while (batch := self._take()) is not None:
            began = time.monotonic()
            self._work(batch)
            taken = (time.monotonic() - began) / max(1, len(batch))
            self.seconds += 0.2 * (taken - self.seconds)
            del batch  # its pictures need not stay while nothing comes

    def _take(self) -> list[_Job] | None:
        """The first job and those that can run with it; None at the end."""
        with self._changed:
            while not self._jobs and not self._stopping:
                self._changed.wait()
            if not self._jobs:
                return None
            first = self._jobs.popleft()
            batch = [first]
            if first.key is not None:
                alike = (job for job in self._jobs if job.key == first.key)
                batch += [job for job, _ in zip(alike, range(self._max_batch - 1), strict=False)]
            for job in batch[1:]:
                self._jobs.remove(job)
        return [job for job in batch if job.future.set_running_or_notify_cancel()]

    def _work(self, batch: list[_Job]) -> None:
        if not batch:
            return
        if self._observe is not None:
            self._observe(len(batch))
        try:
            results = batch[0].run([job.payload for job in batch])
        except Exception as error:  # of any kind: the thread must outlive every job
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            _log.info("a batch of %d failed; its jobs run alone", len(batch))
            for job in batch:
                self._work([job])
            return
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
