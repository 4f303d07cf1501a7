"""What a server answers to fields and bodies that are not as they must be."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.apps.server.conftest import JSON, SMALL, as_json, refused


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"labels": []}, "invalid_request", "labels: "),
        ({"labels": ""}, "invalid_request", "labels: "),
        ({"labels": ["dog", "Dog"]}, "invalid_labels", "came twice"),
        ({"labels": ["a\u0000b"]}, "invalid_labels", "control characters"),
        ({"labels": ["x" * 257]}, "invalid_request", "256 characters"),
        ({"labels": "x" * 257}, "invalid_labels", "at most 256"),
        ({"labels": [f"label {n}" for n in range(257)]}, "invalid_request", "256 items"),
        ({"labels": ",".join(f"label {n}" for n in range(257))}, "too_many", "257 labels came"),
        ({"labels": {"a": [f"name {n}" for n in range(200)] + ["b"] * 57}}, "invalid_request", ""),
        (
            {"labels": {f"{k}": [f"{k} {n}" for n in range(250)] for k in range(5)}},
            "too_many",
            "1250 labels, synonyms",
        ),
        ({"labels": "voc21000"}, "invalid_labels", "class list"),
        ({"labels": ["dog"], "background": "dog"}, "invalid_labels", "is a label and a background"),
        ({"labels": ["dog"], "background": 2}, "invalid_request", "background"),
        ({"labels": ["dog"], "background": "1.5"}, "invalid_labels", "from 0 to 1"),
        ({"labels": ["dog"], "model": "paintr"}, "unknown_model", "did you mean 'painter'"),
        ({"labels": ["dog"], "format": "gif"}, "invalid_request", "format"),
        ({"labels": ["dog"], "path": "/etc/passwd"}, "invalid_request", "path: Extra inputs"),
        ({"labels": ["dog"], "image": ""}, "invalid_request", "image"),
        ({"labels": ["dog"], "image": "####"}, "invalid_image", "not base64"),
        ({"labels": ["dog"], "image": "aGVsbG8="}, "invalid_image", "not an image"),
    ],
)
def test_wrong_fields(client: TestClient, fields: dict[str, Any], code: str, says: str) -> None:
    answer = client.post("/segment", json=as_json(SMALL, **fields) | fields)
    assert says in refused(answer, 422, code)


@pytest.mark.parametrize(
    ("expressions", "code"),
    [
        ([], "invalid_request"),
        (["x"] * 65, "invalid_request"),
        (["x" * 257], "invalid_request"),
        ([" "], "invalid_expressions"),
        (["a\nb"], "invalid_expressions"),
    ],
)
def test_wrong_expressions(client: TestClient, expressions: list[str], code: str) -> None:
    refused(client.post("/refer", json=as_json(SMALL, expressions=expressions)), 422, code)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1/a.png", "https://a@b/c.png", "file:///etc/passwd", "gopher://x", " HTTP:x"],
)
def test_addresses_are_never_fetched(client: TestClient, address: str) -> None:
    asked = {"image": address, "labels": ["dog"]}
    assert "fetches nothing" in refused(client.post("/segment", json=asked), 422, "url_refused")
    form = client.post("/segment", files={"other": ("", b"")}, data=asked)
    refused(form, 422, "url_refused")


def test_a_data_url_is_a_file(client: TestClient) -> None:
    address = "data:image/png;base64," + base64.b64encode(SMALL).decode()
    answer = client.post("/segment", json={"image": address, "labels": ["red"]})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe", b'{"image":"\\ud800"}', b"[" * 9999]
)
def test_malformed_json(client: TestClient, body: bytes) -> None:
    refused(client.post("/segment", content=body, headers=JSON), 422, "invalid_request")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_other_kinds_of_body(client: TestClient, kind: str) -> None:
    answer = client.post("/segment", content=b"x", headers={"Content-Type": kind})
    refused(answer, 415, "unsupported_media_type")


def test_malformed_forms(client: TestClient) -> None:
    form = "multipart/form-data"
    wrong = {
        f"{form}": b"x",
        f"{form}; boundary=a": b"--a\r\n\xff\r\n\r\n",
        f"{form}; boundary=b": b"",
    }
    for kind, body in wrong.items():
        answer = client.post("/segment", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 422
    twice = {"labels": ["red", "blue"]}
    file = {"image": ("a.png", SMALL)}
    refused(client.post("/segment", files=file, data=twice), 422, "invalid_request")
    refused(client.post("/segment", files={"imag": file["image"]}), 422, "invalid_request")
    two = [("image", file["image"]), ("image", file["image"])]
    refused(client.post("/segment", files=two), 422, "invalid_request")
    refused(client.post("/segment", files=file, data={"a": ["b"] * 99}), 422, "invalid_request")
