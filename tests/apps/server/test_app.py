"""What a server answers to those who ask rightly."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pycocotools import mask as coco_mask

from lexiseg import Segmenter
from lexiseg.apps.server import create_app
from tests.apps.server.conftest import as_json, png_of
from tests.conftest import stored

RED, GREEN, BLUE = (np.repeat(np.arange(3), 10)[None].repeat(20, 0) == n for n in range(3))


def array_of(text: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize("labels", [["red", "green", "blue"], "red, green, blue"])
def test_json_gives_each_pixel_its_label(
    client: TestClient, picture: bytes, labels: list[str] | str
) -> None:
    answer = client.post("/segment", json=as_json(picture, labels=labels))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model"], found["height"], found["width"]) == ("painter", 20, 30)
    assert [row["label"] for row in found["labels"]] == ["red", "green", "blue"]
    assert all(row["share"] == pytest.approx(1 / 3, abs=1e-5) for row in found["labels"])
    np.testing.assert_array_equal(array_of(found["mask"]), GREEN * 1 + BLUE * 2)
    assert found["regions"] is None


def test_synonyms_belong_to_their_label(client: TestClient, picture: bytes) -> None:
    labels = {"leaf": ["lime", "green"], "rest": ["red"]}
    answer = client.post("/segment", json=as_json(picture, labels=labels)).json()
    assert [row["label"] for row in answer["labels"]] == ["leaf", "rest"]
    np.testing.assert_array_equal(array_of(answer["mask"])[GREEN], 0)


def test_a_form_with_a_file_gives_the_same(client: TestClient, picture: bytes) -> None:
    fields = {"labels": "red, green", "background": "blue", "format": "png", "model": "painter"}
    form = client.post("/segment", files={"image": ("a.png", picture)}, data=fields)
    asked = as_json(picture, labels=["red", "green"], background=["blue"])
    assert form.status_code == 200
    assert form.json() == client.post("/segment", json=asked).json()
    np.testing.assert_array_equal(array_of(form.json()["mask"])[BLUE], 255)


def test_a_threshold_leaves_pixels_without_a_label(client: TestClient, picture: bytes) -> None:
    asked = as_json(picture, labels=["red", "green"], background=0.9)
    found = client.post("/segment", json=asked).json()
    np.testing.assert_array_equal(array_of(found["mask"]) == found["none"], BLUE)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_lengths_are_read_by_pycocotools(client: TestClient, picture: bytes) -> None:
    asked = as_json(picture, labels=["red", "green", "blue"], format="rle")
    found = client.post("/segment", json=asked).json()
    assert found["mask"] is None
    for region, expected in zip(found["regions"], (RED, GREEN, BLUE), strict=True):
        np.testing.assert_array_equal(coco_mask.decode(region["segmentation"]) == 1, expected)
        assert region["area"] == 200


def test_a_picture_is_the_answer_where_it_is_accepted(client: TestClient, picture: bytes) -> None:
    asked = as_json(picture, labels=["red", "green", "blue"])
    answer = client.post("/segment", json=asked, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    label_map = np.array(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(label_map, GREEN * 1 + BLUE * 2)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_expressions_each_have_a_mask(client: TestClient, picture: bytes) -> None:
    fields = {"expressions": ["red", "lime"], "model": "judge"}
    form = client.post("/refer", files={"image": ("a.png", picture)}, data=fields)
    found = form.json()["expressions"]
    assert [row["expression"] for row in found] == ["red", "lime"]
    np.testing.assert_array_equal(array_of(found[0]["mask"]), RED)
    assert found[1]["box"] == [10, 0, 20, 20]
    asked = as_json(picture, **fields, format="rle")
    runs = client.post("/refer", json=asked).json()["expressions"]
    np.testing.assert_array_equal(coco_mask.decode(runs[1]["segmentation"]) == 1, GREEN)


def test_sentences_go_to_the_first_model_that_reads_them(
    client: TestClient, picture: bytes
) -> None:
    answer = client.post("/refer", json=as_json(picture, expressions=["red"])).json()
    assert answer["model"] == "judge"
    answer = client.post("/segment", json=as_json(picture, labels=["red", "blue"])).json()
    assert answer["model"] == "painter"


def test_one_expression_may_be_a_picture(client: TestClient, picture: bytes) -> None:
    png = {"Accept": "image/png"}
    asked = as_json(picture, expressions=["red"], model="judge")
    answer = client.post("/refer", json=asked, headers=png)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(answer.content))), RED)
    two = client.post("/refer", json={**asked, "expressions": ["red", "blue"]}, headers=png)
    assert (two.status_code, two.json()["code"]) == (422, "invalid_expressions")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_the_upright_picture(
    client: TestClient, flag: np.ndarray, orientation: int
) -> None:
    """Undone by hand: what a camera stores so that EXIF's orientation gives the flag again."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = png_of(stored(flag, orientation), exif=exif)
    found = client.post("/segment", json=as_json(file, labels=["red", "green", "blue"])).json()
    np.testing.assert_array_equal(array_of(found["mask"]), GREEN * 1 + BLUE * 2)


def test_models_are_told(client: TestClient) -> None:
    assert client.get("/models").json()["models"] == [
        {"name": "painter", "default": True, "refers": True},
        {"name": "judge", "default": False, "refers": True},
    ]


def test_ready_only_while_the_thread_runs(client: TestClient, painter: Any) -> None:
    assert client.get("/ready").json() == client.get("/health").json() == {"status": "ok"}
    idle = TestClient(create_app(Segmenter(painter)))  # its lifespan has not begun
    assert idle.get("/health").status_code == 200
    assert (idle.get("/ready").status_code, idle.get("/ready").json()["code"]) == (503, "not_ready")
    assert idle.post("/segment", json={}).status_code == 503


def test_requests_are_counted(client: TestClient, picture: bytes) -> None:
    client.post("/segment", json=as_json(picture, labels=["red"]))
    client.post("/segment", json={})
    client.get("/somewhere/else")
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "lexiseg_requests_total"
    }
    assert counted == {("/segment", "200"): 1, ("/segment", "422"): 1, ("other", "404"): 1}


def test_a_request_keeps_its_id(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "a-1"}).headers["x-request-id"] == "a-1"
    made = client.get("/health", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"]
    assert len(made) == 32


def test_no_page_of_another_origin_may_read(client: TestClient) -> None:
    answer = client.get("/models", headers={"Origin": "https://example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_no_models_is_refused() -> None:
    with pytest.raises(ValueError, match="no models came; give at least one"):
        create_app({})
