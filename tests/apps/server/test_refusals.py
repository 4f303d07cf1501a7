"""What a server answers beyond its limits, without its key, and when it fails."""

import asyncio
import base64
import gc
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient

from lexiseg.apps.server import Settings, create_app, guard
from lexiseg.apps.server.metrics import Metrics
from tests.apps.server.conftest import ASKED, JSON, SMALL, Stub, as_json, png_of, refused


def test_other_paths_and_methods(client: TestClient) -> None:
    refused(client.get("/docs"), 404, "not_found")
    answer = client.get("/segment")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_large_picture_is_refused_by_its_header(client: TestClient) -> None:
    bomb = png_of(np.zeros((8000, 8000), dtype=bool))
    assert len(bomb) < 20_000
    answer = client.post("/segment", json=as_json(bomb, labels=["red"]))
    assert "64.0 megapixels" in refused(answer, 422, "invalid_image")


def test_large_bodies(stub_client: TestClient) -> None:
    def stream() -> Iterator[bytes]:  # goes without Content-Length
        for _ in range(60):
            yield b" " * 1000

    assert "0.05 MB" in refused(
        stub_client.post("/segment", content=b" " * 50_001, headers=JSON), 413, "body_too_large"
    )
    streamed = stub_client.post("/segment", content=stream(), headers=JSON)
    refused(streamed, 413, "body_too_large")
    file = {"image": ("a.png", b" " * 50_001)}
    refused(stub_client.post("/segment", files=file), 413, "body_too_large")


def test_a_body_is_counted_as_it_comes() -> None:
    """Whatever the application makes of it, and however long it goes on."""
    read = 0

    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/segment", "method": "POST", "headers": []}
    guarded = guard.Guard(greedy, settings=Settings(max_body=25), metrics=Metrics())
    asyncio.run(guarded(scope, receive, send))
    assert (read, sent[0]["status"]) == (6, 413)  # three more, so that the client reads the answer


def test_a_slow_body_is_given_up(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_DRAIN_SECONDS", 0.05)
    app = create_app(stub, Settings(upload_timeout=0.05))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(30)
        raise AssertionError("nobody waits so long")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "path": "/segment", "method": "POST", "query_string": b""},
        "headers": [(b"content-type", b"application/json")],
    }
    app.state.service.worker.start()
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408


def test_a_full_queue_and_a_slow_model(stub: Stub, stub_client: TestClient) -> None:
    stub.go.clear()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(stub_client.post, "/segment", json=ASKED) for _ in range(3)]
        assert stub.entered.acquire(timeout=10)
        service = stub_client.app.state.service  # type: ignore[attr-defined]
        while service._admitted < 3:
            time.sleep(0.001)
        answer = stub_client.post("/segment", json=ASKED)
        assert "2 requests wait already" in refused(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        for each in waiting:
            refused(each.result(), 504, "timeout")
    stub.go.set()
    assert stub_client.post("/segment", json=ASKED).status_code == 200
    asked = sum(count for _, count in stub.batches)
    assert asked == 2  # who was given up before their turn were never looked at


def test_a_failure_shows_nothing(
    stub: Stub, stub_client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    stub.error = RuntimeError(f"secret of {__file__}")
    with caplog.at_level(logging.ERROR, "lexiseg"):
        answer = stub_client.post("/segment", json=ASKED, headers={"X-Request-ID": "find-me"})
    assert "find-me" in refused(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "find-me" in caplog.text
    assert "secret of" in caplog.text
    stub.error = None
    assert stub_client.post("/segment", json=ASKED).status_code == 200


KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer 0123456789abcdeF"}, 401),
        ({"Authorization": f"Bearer {KEY}x"}, 401),
        ({"Authorization": "Basic !!"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode()}, 200),
    ],
)
def test_the_key(stub: Stub, headers: dict[str, str], status: int) -> None:
    settings = Settings(api_key=KEY)
    assert KEY not in repr(settings)
    with TestClient(create_app(stub, settings)) as client:
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        for path in ("/models", "/metrics", "/openapi.json"):
            assert client.get(path, headers=headers).status_code == status
        answer = client.post("/segment", json=ASKED, headers=headers)
        assert answer.status_code == status
        if status == 401:
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert not stub.batches


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="queue 0 came; it must be above 0"):
        Settings(queue=0)
    with pytest.raises(ValueError, match="3 characters; give at least 16"):
        Settings(api_key="abc")


def test_a_thousand_bad_requests_leave_nothing_behind(stub: Stub) -> None:
    wrong = [
        json.dumps(each).encode()
        for each in (
            {},
            {"image": "http://x/y", "labels": ["a"]},
            as_json(b"x" * 10_000, labels=["a"]),
            as_json(SMALL[:40], labels=["a"]),
            as_json(SMALL, labels=["x" * 300]),
        )
    ] + [b"{" * 5000]
    asked: list[tuple[str, str, bytes, dict[str, str], int]] = [
        *(("POST", "/segment", body, JSON, 422) for body in wrong),
        ("POST", "/refer", wrong[1], JSON, 422),
        ("POST", "/segment", b" " * 300_000, JSON, 413),
        ("POST", "/segment", b"x", {"Content-Type": "text/plain"}, 415),
        ("POST", "/segment", b"--a", {"Content-Type": "multipart/form-data; boundary=a"}, 422),
        ("GET", "/segment", b"", {}, 405),
        ("GET", "/nothing" + "x" * 500, b"", {}, 404),
    ]
    with TestClient(create_app(stub, Settings(max_body=200_000))) as client:

        def ask(count: int) -> None:
            for number in range(count):
                verb, path, body, headers, status = asked[number % len(asked)]
                answer = client.request(verb, path, content=body, headers=headers)
                assert answer.status_code == status

        ask(200)
        gc.collect()
        before, threads = psutil.Process().memory_info().rss, threading.active_count()
        ask(1000)
        gc.collect()
        assert psutil.Process().memory_info().rss < 1.05 * before
        assert threading.active_count() <= threads + 1
        assert not stub.batches  # no model was asked
        assert client.post("/segment", json=ASKED).status_code == 200
