import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from lexiseg.apps.server.worker import Worker


class Gated:
    """Runs batches once it may, and keeps them."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, payloads: list[Any]) -> Sequence[Any]:
        self.entered.set()
        assert self.go.wait(10)
        self.batches.append(payloads)
        if "bad" in payloads:
            raise ValueError("a bad one")
        return [KeyError(each) if each == "missing" else f"{each}!" for each in payloads]


def queued(run: Gated, worker: Worker, jobs: Sequence[tuple[Any, Any]]) -> list["Future[Any]"]:
    """Jobs that all wait behind a first one, which is let go with them."""
    worker.start()
    first = worker.submit(run, "first")
    assert run.entered.wait(10)
    futures = [worker.submit(run, payload, key=key) for payload, key in jobs]
    run.go.set()
    assert first.result(10) == "first!"
    return futures


def test_equal_keys_run_together_in_order() -> None:
    run, sizes = Gated(), []
    worker = Worker(max_batch=3, observe=sizes.append)
    jobs = [("a", 1), ("b", 2), ("c", 1), ("d", 1), ("e", 1), ("f", None), ("g", None)]
    answers = [future.result(10) for future in queued(run, worker, jobs)]
    assert answers == [f"{payload}!" for payload, _ in jobs]
    assert run.batches == [["first"], ["a", "c", "d"], ["b"], ["e"], ["f"], ["g"]]
    assert sizes == [1, 3, 1, 1, 1, 1]
    assert worker.stop(10.0)


def test_one_bad_job_spoils_no_other() -> None:
    run, worker = Gated(), Worker(max_batch=4)
    good, bad, missing = queued(run, worker, [("a", 1), ("bad", 1), ("missing", 1)])
    assert good.result(10) == "a!"
    with pytest.raises(ValueError, match="a bad one"):
        bad.result(10)
    with pytest.raises(KeyError, match="missing"):
        missing.result(10)
    assert worker.alive
    assert worker.stop(10.0)


def test_a_cancelled_job_is_let_go_and_never_run() -> None:
    run, worker = Gated(), Worker(max_batch=4)
    worker.start()
    first = worker.submit(run, "first")
    assert run.entered.wait(10)
    second = worker.submit(run, "second")
    assert second.cancel()
    assert not worker._jobs  # nothing holds its picture
    run.go.set()
    assert first.result(10) == "first!"
    assert worker.stop(10.0)
    assert run.batches == [["first"]]


def test_stopping_finishes_what_runs_and_cancels_what_waits() -> None:
    run, worker = Gated(), Worker(max_batch=4)
    worker.start()
    first = worker.submit(run, "first")
    assert run.entered.wait(10)
    second = worker.submit(run, "second")
    assert not worker.stop(0.01)  # it does not finish in time
    assert not worker.alive
    run.go.set()
    assert first.result(10) == "first!"
    with pytest.raises(CancelledError):
        second.result(10)
    assert worker.stop(10.0)
