"""Every endpoint keeps what its OpenAPI says, whatever is sent."""

import base64
import io
from collections.abc import Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lexiseg import Segmenter
from lexiseg.apps.server import create_app
from tests.conftest import Painter

# Not positive_data_acceptance: that a text is a picture, or no label twice, no schema can say.
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
# schemathesis draws from `random`, against Hypothesis's advice.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
OPERATIONS = {
    ("POST", "/segment"),
    ("POST", "/refer"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/ready"),
}


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    app = create_app(Segmenter(Painter()))
    app.state.service.worker.start()
    yield app
    app.state.service.worker.stop(10.0)


@pytest.fixture(scope="module")
def api(app: FastAPI) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def small_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = small_png()


def check(case: schemathesis.Case, mode: GenerationMode) -> None:
    """Where all is as it should be, the picture is one, so that models are asked too."""
    if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        as_json = case.media_type == "application/json"
        case.body["image"] = base64.b64encode(PNG).decode() if as_json else PNG
    # A form knows texts alone: a number in place of a text is a text.
    is_form = case.media_type == "multipart/form-data"
    checks = [each for each in CHECKS if not (is_form and each is negative_data_rejection)]
    case.call_and_validate(checks=checks)


HEALTH = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def check_operation(
    api: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode, count: int
) -> None:
    """Sends so many requests to one endpoint."""
    strategy = api[path][method].as_strategy(generation_mode=mode)

    @settings(max_examples=count, suppress_health_check=HEALTH)
    @given(strategy)
    def send(case: schemathesis.Case) -> None:
        check(case, mode)

    send()


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
each = pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, RIGHT) for operation in sorted(OPERATIONS)]
    + [("POST", path, WRONG) for path in ("/refer", "/segment")],  # others take nothing
)


@each
def test_contract(
    api: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    check_operation(api, method, path, mode, 10)


@pytest.mark.slow
@each
def test_contract_at_length(
    api: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    check_operation(api, method, path, mode, 200)


def test_the_schema_has_all_endpoints(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert {(verb.upper(), path) for path, verbs in paths.items() for verb in verbs} == OPERATIONS
    for path in ("/segment", "/refer"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
        assert content["multipart/form-data"]["schema"]["properties"]["image"]["format"] == "binary"
        assert "image/png" in paths[path]["post"]["responses"]["200"]["content"]
