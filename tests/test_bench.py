"""The work that is counted, as ratios; seconds are of the machine and are not tested."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lexiseg.bench import Eager, Exported, bench, flops, machine, matrix_rate
from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.description import Description
from tests.methods import contract

NUMBERS = {"sizes": (32, 64), "labels": (2, 4), "repeats": 1, "matrix_side": 256}


def test_the_work_of_a_matrix_product() -> None:
    left, right = torch.ones(30, 50), torch.ones(50, 70)
    assert flops(lambda: left @ right) == pytest.approx(2 * 30 * 50 * 70 / 1e9)
    assert matrix_rate(side=64, repeats=1) > 0


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
    for row in found["rows"]:
        rate = row["gflop"] / row["seconds"] / found["machine"]["matrix_gflops"]
        assert row["utilisation"] == pytest.approx(rate)
        assert row["text_seconds"] > 0


def test_windows_are_measured_whole() -> None:
    """CAT-Seg's four windows and the whole image once more, each as much work as a small image."""
    sizes = {"labels": (3,), "sizes": (32,), "repeats": 1, "matrix_side": 64}
    rows = [
        bench([Eager("tiny", contract.make("catseg_vitb16"), protocol=name)], **sizes)["rows"][0]
        for name in ("default", "published")
    ]
    assert rows[1]["gflop"] == pytest.approx(5 * rows[0]["gflop"], rel=0.01)
    assert rows[1]["cpu_seconds"] > 0


def test_graphs_have_the_work_of_their_model() -> None:
    class Graphs(OnnxSegmenter):
        description = Description(
            *("tiny", "sigmoid", True, 0.5, ("{}",), "byte_pairs", 77),
            preparation={"multiple": 8, "pad_multiple": 1},
            int8=("text",),
        )
        forgotten = 0

        def __init__(self) -> None:
            pass

        def forget(self) -> None:
            self.forgotten += 1

        def encode_texts(self, prompts: Sequence[Sequence[str]]) -> np.ndarray:
            return np.zeros((len(prompts), 2), np.float32)

        def logits(self, image: np.ndarray, texts: np.ndarray) -> np.ndarray:
            return np.zeros((len(texts), 1, 1), np.float32)

    graphs = Graphs()
    model = Eager("tiny", contract.make("catseg_vitb16"))
    found = bench(
        [model, Exported(graphs)], sizes=(30,), batches=(2,), labels=(3,), repeats=2, matrix_side=64
    )
    eager, int8 = found["rows"]
    assert (eager["engine"], int8["engine"]) == ("eager", "int8")
    assert eager["height"] == int8["height"] == 32
    assert eager["gflop"] == int8["gflop"]
    one = bench([model], sizes=(30,), labels=(3,), repeats=1, matrix_side=64)["rows"][0]
    assert eager["gflop"] == pytest.approx(2 * one["gflop"], rel=0.01)
    assert graphs.forgotten == 3  # text is cold at each repeat


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="came below 1"):
        bench([], labels=(0,))
