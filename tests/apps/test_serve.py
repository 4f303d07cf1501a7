"""``lexiseg serve``: what it is told, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import uvicorn
from typer.testing import CliRunner

from lexiseg.apps import serve
from lexiseg.apps.cli import app
from lexiseg.apps.server import create_app
from tests.apps.server.conftest import Stub
from tests.apps.server.test_overload import ask, wait_until_ready

ROOT = Path(__file__).parents[2]
SERVED = """
import sys, time
import uvicorn
from lexiseg.apps.serve import run
from lexiseg.apps.server import create_app
from tests.apps.server.conftest import Stub

class Slow(Stub):
    def segment_many(self, *given, **options):
        print("began", flush=True)
        time.sleep(1)
        return super().segment_many(*given, **options)

run(uvicorn, create_app(Slow()), "127.0.0.1", int(sys.argv[1]))
"""


def told(words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """The result of ``lexiseg serve``, and with what the server would have run."""
    ran: dict[str, Any] = {}

    def run(uvicorn: Any, app: Any, host: str, port: int) -> None:
        ran.update(service=app.state.service, host=host, port=port)

    monkeypatch.setattr(serve, "run", run)
    return CliRunner().invoke(app, ["serve", *words]), ran


def test_it_listens_to_this_machine_alone(
    registered_painter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, ran = told(["--model", registered_painter, "--model", "painter.tests"], monkeypatch)
    assert result.exit_code == 0, result.output
    assert (ran["host"], ran["port"]) == ("127.0.0.1", 8000)
    assert list(ran["service"].segmenters) == ["painter", "painter.tests"]
    assert ran["service"].settings.api_key is None
    assert "warning" not in result.stderr


def test_it_warns_of_a_door_that_is_open(
    registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", registered_painter, "--host", "0.0.0.0"]
    assert "anyone who reaches 0.0.0.0" in told(words, monkeypatch)[0].stderr
    (tmp_path / "key").write_text("0123456789abcdef\n")
    result, ran = told([*words, "--api-key-file", str(tmp_path / "key")], monkeypatch)
    assert "warning" not in result.stderr
    assert ran["service"].settings.api_key == "0123456789abcdef"


@pytest.mark.parametrize("key", ["", "short\n", "schlüssel-schlüssel", None])
def test_a_key_file_must_have_a_key(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        (tmp_path / "key").write_text(key, encoding="utf-8")
    result, ran = told(["--api-key-file", str(tmp_path / "key")], monkeypatch)
    assert result.exit_code == 2
    assert str(tmp_path / "key") in result.stderr
    assert not ran


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    result, _ = told([], monkeypatch)
    assert result.exit_code == 1
    assert 'pip install "lexiseg[serve]"' in result.stderr


def test_an_unknown_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = told(["--model", "catseg_light"], monkeypatch)
    assert result.exit_code == 2
    assert "did you mean" in result.stderr


def test_a_port_that_is_taken_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(typer.Exit) as end:
            serve.run(uvicorn, create_app(Stub()), "127.0.0.1", port)
    assert end.value.exit_code == 1
    assert f"error: no server at 127.0.0.1, port {port}; give another" in capfd.readouterr().err


@pytest.fixture
def process() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server in a process of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-c", SERVED, str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_sigterm_lets_a_request_finish(process: tuple["subprocess.Popen[str]", str]) -> None:
    server, address = process
    wait_until_ready(address)
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(ask(address)))
    client.start()
    assert server.stdout is not None
    assert server.stdout.readline() == "began\n"
    server.send_signal(signal.SIGTERM)
    _, log = server.communicate(timeout=20)
    client.join(20)
    assert answers == [(200, None)]
    assert server.returncode in (0, -signal.SIGTERM)  # uvicorn hands the signal on at the end
    assert "Traceback" not in log
    assert "/segment 200" in log
