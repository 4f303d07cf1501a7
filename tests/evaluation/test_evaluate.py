import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.segmenter import Segmenter


@pytest.fixture
def flags(tmp_path, flag):
    """One picture in three colours; its mask calls the blue third green."""
    for kind in ("images", "masks"):
        (tmp_path / "val" / kind).mkdir(parents=True)
    Image.fromarray(flag).save(tmp_path / "val" / "images" / "flag.png")
    mask = np.repeat([[0, 1, 1]], 10, axis=-1).repeat(20, axis=0).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "val" / "masks" / "flag.png")
    (tmp_path / "classes.json").write_text(
        json.dumps({"classes": {"0": "red", "1": "green", "2": "blue"}})
    )
    return read_semantic_folder(tmp_path, "val")


def test_scores_of_a_model_that_sees_colours(painter, flags):
    done = []
    scores = evaluate(Segmenter(painter, device="cpu"), flags, on_image=done.append)
    assert scores.class_iou[:2].tolist() == [1.0, 0.5]
    assert scores.mean_iou == 0.75
    assert scores.pixel_accuracy == pytest.approx(2 / 3)
    assert done == [1]


def test_other_words_for_the_classes(painter, flags):
    segmenter = Segmenter(painter, device="cpu")
    scores = evaluate(segmenter, flags, labels=["red", "lime", "blue"])
    assert scores.mean_iou == 0.75
    with pytest.raises(ValueError, match="2 labels came for the 3 classes"):
        evaluate(segmenter, flags, labels="red, green")
