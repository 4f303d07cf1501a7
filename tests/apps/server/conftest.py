"""A server in the process with models worked by hand, and one whose model waits to be let go."""

import base64
import io
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lexiseg import Segmenter
from lexiseg.apps.server import Settings, create_app
from lexiseg.result import Segmentation


class Stub:
    """Looks like a segmenter; waits until it is let go, and keeps what it was asked."""

    def __init__(self) -> None:
        self.go, self.entered = threading.Event(), threading.Semaphore(0)
        self.go.set()
        self.batches: list[tuple[tuple[str, ...], int]] = []
        self.error: Exception | None = None

    def segment_many(
        self, images: Iterable[np.ndarray], labels: Any, **_: Any
    ) -> Iterator[Segmentation]:
        pictures = list(images)
        self.batches.append((labels.labels, len(pictures)))
        self.entered.release()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        for picture in pictures:
            size = picture.shape[:2]
            nothing = np.zeros(size, dtype=np.uint8)
            yield Segmentation(labels.labels, nothing, np.ones(size, dtype=np.float32))


def png_of(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def as_json(picture: bytes, **fields: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(picture).decode(), **fields}


SMALL = png_of(np.zeros((2, 3, 3), dtype=np.uint8))
ASKED = as_json(SMALL, labels=["red"])
JSON = {"Content-Type": "application/json"}


def refused(answer: Any, status: int, code: str) -> str:
    """The message of a refusal, which is JSON of these two fields and shows no inner workings."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert set(answer.json()) == {"code", "message"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert str(Path(__file__).parents[3]) not in answer.text
    return str(answer.json()["message"])


@pytest.fixture
def picture(flag: np.ndarray) -> bytes:
    """The flag as a file."""
    return png_of(flag)


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def client(painter: Any, judge: Any) -> Iterator[TestClient]:
    """Of a server with the painter, by default, and the judge."""
    app = create_app({"painter": Segmenter(painter), "judge": Segmenter(judge)})
    with TestClient(app) as client:
        yield client


@pytest.fixture
def stub_client(stub: Stub) -> Iterator[TestClient]:
    """Of a server with the stub, two places in its queue and little patience."""
    app = create_app(stub, Settings(queue=2, timeout=0.5, upload_timeout=0.4, max_body=50_000))
    with TestClient(app) as client:
        yield client
        stub.go.set()
