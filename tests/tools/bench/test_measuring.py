"""The work that is counted, as ratios; seconds are of the machine and are not tested."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.description import Description
from lexiseg.tools.bench import Eager, Exported, Row, bench, flops
from lexiseg.tools.bench.machine import clock_of
from tests.conftest import Judge, Painter
from tests.methods import contract

NUMBERS = {"sizes": (32, 64), "labels": (2, 4), "repeats": 1, "matrix_side": 256}
ONE = {"sizes": (32,), "labels": (3,), "repeats": 1, "matrix_side": 64}


def test_the_work_of_a_matrix_product() -> None:
    left, right = torch.ones(30, 50), torch.ones(50, 70)
    assert flops(lambda: left @ right) == pytest.approx(2 * 30 * 50 * 70 / 1e9)


def test_work_grows_with_images_labels_and_pixels() -> None:
    found = bench([Eager("tiny", contract.make("catseg_vitb16"))], **NUMBERS)
    json.dumps(found)
    work = {(row["labels"], row["height"]): row["gflop"] for row in found["rows"]}
    assert set(work) == {(2, 32), (2, 64), (4, 32), (4, 64)}
    encoder = 2 * work[2, 64] - work[4, 64]  # what no label takes part in
    assert 0 < encoder < work[2, 64]
    assert work[2, 64] > 3 * work[2, 32]
    texts = {row["labels"]: row["text_gflop"] for row in found["rows"]}
    assert texts[4] == pytest.approx(2 * texts[2], rel=0.01)
    seconds = "cpu_seconds" if clock_of() == "processor" else "seconds"
    for row in found["rows"]:
        rate = row["gflop"] / row[seconds] / found["machine"]["matrix_gflops"]
        assert row["utilisation"] == pytest.approx(rate)
        assert row["text_seconds"] > 0
        assert row["texts"] == "labels"


def test_one_number_varies_at_a_time() -> None:
    told: list[Row] = []
    numbers = {"labels": (3, 2), "sizes": (32, 64), "batches": (1, 2), "matrix_side": 64}
    found = bench([Eager("p", Painter())], **numbers, one_at_a_time=True, done=told.append)
    cases = [(row["labels"], row["size"], row["batch"]) for row in found["rows"]]
    assert cases == [(3, 32, 1), (3, 32, 2), (3, 64, 1), (2, 32, 1)]
    assert [(row.labels, row.size, row.batch) for row in told] == cases
    assert len(bench([Eager("p", Painter())], **numbers)["rows"]) == 8


def test_windows_are_measured_whole() -> None:
    """CAT-Seg's four windows and the whole image once more, each as much work as a small image."""
    rows = [
        bench([Eager("tiny", contract.make("catseg_vitb16"), protocol=name)], **ONE)["rows"][0]
        for name in ("default", "published")
    ]
    assert rows[1]["gflop"] == pytest.approx(5 * rows[0]["gflop"], rel=0.01)
    assert rows[1]["cpu_seconds"] > 0


def test_a_model_for_sentences_gets_sentences() -> None:
    """And not labels in a template."""
    model = Judge()
    model.templates = ("a picture of {}",)
    row = bench([Eager("judge", model)], **ONE)["rows"][0]
    assert row["texts"] == "sentences"
    assert all("picture" not in prompts[0] for prompts in model.encoded[0])
    assert all(len(prompts[0].split()) > 5 for prompts in model.encoded[0])


def test_labels_come_in_every_template() -> None:
    model = Painter()
    model.templates = ("a {}", "many a {}")
    bench([Eager("painter", model)], **ONE)
    assert model.encoded[0][2] == ["a thing number 2", "many a thing number 2"]


def test_a_slow_case_is_not_repeated() -> None:
    numbers = ONE | {"repeats": 5}
    assert bench([Eager("p", Painter())], **numbers)["rows"][0]["runs"] == 5
    assert bench([Eager("p", Painter())], **numbers, at_most=1e-9)["rows"][0]["runs"] == 1


class Graphs(OnnxSegmenter):
    """Stands in for an export."""

    def __init__(self) -> None:
        self.forgotten = 0
        self.description = Description(
            *("tiny", "sigmoid", True, 0.5, ("{}",), "byte_pairs", 77),
            preparation={"multiple": 8, "pad_multiple": 1},
            int8=("text",),
        )

    def forget(self) -> None:
        self.forgotten += 1

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> np.ndarray:
        return np.zeros((len(prompts), 2), np.float32)

    def logits(self, image: np.ndarray, texts: np.ndarray) -> np.ndarray:
        return np.zeros((len(texts), 1, 1), np.float32)


def test_graphs_have_the_work_of_their_model() -> None:
    graphs = Graphs()
    model = Eager("tiny", contract.make("catseg_vitb16"))
    numbers: dict[str, Any] = ONE | {"sizes": (30,)}
    found = bench([model, Exported(graphs)], **numbers | {"batches": (2,), "repeats": 2})
    eager, int8 = found["rows"]
    assert (eager["engine"], int8["engine"]) == ("eager", "int8")
    assert eager["size"] == int8["size"] == 30
    assert eager["height"] == int8["height"] == 32
    assert eager["gflop"] == int8["gflop"]
    one = bench([model], **numbers)["rows"][0]
    assert eager["gflop"] == pytest.approx(2 * one["gflop"], rel=0.01)
    assert int8["extra_mb"] is None  # the runtime keeps what it took
    assert graphs.forgotten == 3  # text is cold at each repeat


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="came below 1"):
        bench([], labels=(0,))


def test_two_devices_at_once() -> None:
    elsewhere = Eager("p", Painter())
    elsewhere.device = torch.device("meta")
    with pytest.raises(ValueError, match=r"subjects on cpu and meta came; measure one device"):
        bench([Eager("p", Painter()), elsewhere])
