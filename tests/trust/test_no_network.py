"""No address is ever fetched, whoever gives it and wherever.

Every address below leads to a server of this test, which counts who comes.
"""

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import Result

from lexiseg import Segmenter
from lexiseg.apps.server import create_app
from lexiseg.images import ImageError, read_image
from lexiseg.jobs.video import VideoReader
from lexiseg.pictures.strips import open_strips
from tests.conftest import Painter
from tests.trust.conftest import in_one_line


@pytest.fixture
def trap() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what was sent there."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(0.2)
                    heard.append(b"came")

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], heard
        stop.set()
        thread.join()
    assert heard == []


def addresses(port: int) -> list[str]:
    """Ways to write an address of this machine, and other schemes."""
    hosts = [
        *("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1"),
        *("[::ffff:127.0.0.1]", "127.1", "a@127.0.0.1", "127.0.0.1.nip.io", "169.254.169.254"),
    ]
    found = [f"http://{host}:{port}/a.png" for host in hosts]
    found += [f"{scheme}://127.0.0.1:{port}/a.png" for scheme in ("https", "ftp", "gopher", "s3")]
    found += [f"HTTP://127.0.0.1:{port}/a.png", f" http://127.0.0.1:{port}/", "file:///etc/passwd"]
    return [
        *found,
        f"//127.0.0.1:{port}/a.png",
        f"tcp://127.0.0.1:{port}",
        f"rtsp://127.0.0.1:{port}",
    ]


def test_the_trap_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        socket.create_connection(server.getsockname()).close()
        server.accept()[0].close()


def test_the_library(trap: tuple[int, list[bytes]], tmp_path: Path) -> None:
    segmenter = Segmenter(Painter(), device="cpu")
    for address in addresses(trap[0]):
        for read in (read_image, VideoReader, lambda a: segmenter(a, ["red"])):
            with pytest.raises(ImageError):
                read(address)
        with pytest.raises((ImageError, OSError)):
            open_strips(address, max_pixels=10**9)
        with pytest.raises(ValueError, match=r"\S"):
            Segmenter.from_pretrained(address)


def test_a_playlist_in_place_of_a_video(trap: tuple[int, list[bytes]], tmp_path: Path) -> None:
    """FFmpeg knows lists of videos; those on this disk must lead to no other place."""
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{trap[0]}/a.ts\n"
    texts = [
        f"{playlist}#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile 'http://127.0.0.1:{trap[0]}/a.ts'\n",
        f"v=0\nc=IN IP4 127.0.0.1\nm=video {trap[0]} RTP/AVP 96\n",
        f"<MPD><Period><BaseURL>http://127.0.0.1:{trap[0]}/</BaseURL></Period></MPD>",
    ]
    for text in texts:
        for suffix in (".mp4", ".m3u8", ".ffconcat", ".sdp", ".mpd"):
            path = tmp_path / f"in{suffix}"
            path.write_text(text)
            with pytest.raises(ImageError), VideoReader(path) as reader:
                for _ in reader:
                    pass


def test_the_command_line(
    trap: tuple[int, list[bytes]], run: Callable[..., Result], flags: Path, flag_file: Path
) -> None:
    for address in addresses(trap[0])[::4]:
        in_one_line(run("segment", address, "--labels", "red", "--model", "painter"))
        in_one_line(run("refer", address, "red", "--model", "painter"))
        in_one_line(run("segment", flag_file, "--labels", "red", "--model", address))
        in_one_line(run("evaluate", "painter", address))
        in_one_line(run("evaluate", f"painter={address}", flags))
        in_one_line(run("convert", address, "out.safetensors"))
        in_one_line(
            run("video", address, "--labels", "red", "--model", "painter", "--out", "v.mp4")
        )
        words = run(
            "segment", flag_file, "--labels", f"red, {address.strip()}", "--model", "painter"
        )
        assert words.exit_code == 0, words.output  # as a label it is a text


def test_the_server(trap: tuple[int, list[bytes]]) -> None:
    with TestClient(create_app(Segmenter(Painter(), device="cpu"))) as client:
        for address in addresses(trap[0]):
            asked: dict[str, Any] = {"image": address, "labels": ["red"]}
            codes = {"url_refused", "invalid_image"}
            for path, fields in (
                ("/segment", asked),
                ("/refer", {**asked, "expressions": ["red"]}),
            ):
                body = {k: v for k, v in fields.items() if path == "/segment" or k != "labels"}
                answer = client.post(path, json=body)
                assert (answer.status_code, answer.json()["code"] in codes) == (422, True)
            form = client.post("/segment", data=asked, files={"x": ("", b"")})
            assert form.status_code == 422
            picture = base64.b64encode(address.encode()).decode()
            in_file = client.post("/segment", json={**asked, "image": picture})
            assert in_file.json()["code"] == "invalid_image"
            model = client.post(
                "/segment", json={**asked, "image": picture, "model": f"hf:{address}"}
            )
            assert model.json()["code"] in {"unknown_model", "invalid_request"}


def test_data_sets(trap: tuple[int, list[bytes]], run: Callable[..., Result], flags: Path) -> None:
    """The addresses in the files of COCO and of a folder are not followed."""
    (flags / "classes.json").unlink()
    row = {"image": f"http://127.0.0.1:{trap[0]}/a.png", "expression": "red"}
    (flags / "refs.json").write_text(json.dumps([row | {"polygon": [0, 0, 10, 0, 10, 10]}]))
    in_one_line(run("evaluate", "painter", flags))
