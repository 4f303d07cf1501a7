"""A real server on loopback, asked by more clients than it has places for."""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn

from lexiseg.apps.server import Settings, create_app
from lexiseg.apps.server.worker import Worker
from tests.apps.server.conftest import ASKED, Stub

CLIENTS, REQUESTS, PLACES = 8, 25, 3


class Slow(Stub):
    """Takes a few milliseconds, and counts how many run at a time.

    Attributes:
        waits: of each request that got a place, how many batches ended while it waited.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running, self.most, self.ended = 0, 0, 0
        self.waits: list[int] = []

    def segment_many(self, images, labels, **options):  # type: ignore[no-untyped-def]
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(0.005)
        self.running -= 1
        self.ended += 1
        return super().segment_many(images, labels, **options)

    def watch(self, worker: Worker) -> None:
        """Notes the waits of what a worker is given."""
        submit = worker.submit

        def watched(run: Any, payload: Any, **options: Any) -> "Future[Any]":
            before = self.ended
            future = submit(run, payload, **options)
            future.add_done_callback(lambda _: self.waits.append(self.ended - before))
            return future

        worker.submit = watched  # type: ignore[method-assign]


@pytest.fixture
def served() -> Iterator[tuple[str, Slow]]:
    """A server's address, and its model."""
    model = Slow()
    app = create_app(model, Settings(queue=PLACES))
    model.watch(app.state.service.worker)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", model
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def ask(address: str) -> tuple[int, str | None]:
    """The status of one request, and when to try again."""
    request = urllib.request.Request(
        f"{address}/segment", json.dumps(ASKED).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]


def wait_until_ready(address: str) -> None:
    for _ in range(3000):  # a minute: a busy machine takes long to start it
        try:
            with urllib.request.urlopen(f"{address}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"{address} did not get ready")


def check_overload(address: str, model: Slow, asked: Callable[[], bool]) -> Counter[int]:
    """Many clients, each again and again as long as it is to be asked; how often came what."""
    wait_until_ready(address)

    def client(_: int) -> list[tuple[int, str | None]]:
        answers = []
        while asked():
            answers.append(ask(address))
        return answers

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for each in pool.map(client, range(CLIENTS)) for answer in each]
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 429}
    assert all(after is not None and int(after) >= 1 for code, after in answers if code == 429)
    assert model.most == 1
    assert sum(count for _, count in model.batches) == statuses[200]
    assert max(count for _, count in model.batches) <= PLACES + 1
    assert len(model.waits) == statuses[200]
    assert max(model.waits) <= PLACES + 1  # the places before it, and itself
    assert ask(address) == (200, None)
    return statuses


def test_overload_is_refused_and_leaves_no_trace(served: tuple[str, Slow]) -> None:
    count = iter(range(CLIENTS * REQUESTS))
    statuses = check_overload(*served, lambda: next(count, None) is not None)
    assert statuses.total() == CLIENTS * REQUESTS


def test_a_client_that_sends_too_much_still_reads_why(served: tuple[str, Slow]) -> None:
    address, _ = served
    wait_until_ready(address)
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    body = (b" " * 1_000_000 for _ in range(25))  # goes in chunks, without Content-Length
    connection.request("POST", "/segment", body, {"Content-Type": "application/json"})
    with connection.getresponse() as answer:
        assert (answer.status, json.load(answer)["code"]) == (413, "body_too_large")
    connection.close()
    assert ask(address) == (200, None)
