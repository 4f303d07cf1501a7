from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lexiseg.data.referring import read_referring_folder
from lexiseg.data.semantic import SemanticDataset, Vocabulary, read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.base import Protocol
from lexiseg.prompts import LabelSet
from lexiseg.segmenter import Segmenter
from tests.conftest import Judge, Painter, write_flags

Ask = Callable[..., SemanticDataset]


@pytest.fixture
def flags(tmp_path: Path, flag: np.ndarray) -> SemanticDataset:
    """One picture in three colours; its mask calls the blue third green."""
    return read_semantic_folder(write_flags(tmp_path, flag, [0, 1, 1]), "val")


@pytest.fixture
def ask(flags: SemanticDataset) -> Ask:
    """The flags, asked for by other words."""

    def change(labels: str, classes: tuple[int, ...], **rules: object) -> SemanticDataset:
        vocabulary = Vocabulary(LabelSet.of(labels), classes, **rules)
        return replace(flags, vocabularies={"default": vocabulary})

    return change


def test_scores_of_a_model_that_sees_colours(painter: Painter, flags: SemanticDataset) -> None:
    done: list[int] = []
    scores = evaluate(Segmenter(painter, device="cpu"), flags, on_item=done.append)
    assert scores.class_iou[:2].tolist() == [1.0, 0.5]
    assert scores.mean_iou == 0.75
    assert scores.pixel_accuracy == pytest.approx(2 / 3)
    assert scores.boundary_iou is None
    assert done == [1]


def test_other_words_for_the_classes(painter: Painter, flags: SemanticDataset) -> None:
    segmenter = Segmenter(painter, device="cpu")
    scores = evaluate(segmenter, flags, labels=["red", "lime", "blue"])
    assert scores.mean_iou == 0.75
    with pytest.raises(ValueError, match="2 labels came for the 3 of"):
        evaluate(segmenter, flags, labels="red, green")


def test_several_labels_can_be_one_class(painter: Painter, ask: Ask) -> None:
    scores = evaluate(Segmenter(painter, device="cpu"), ask("red, green, blue", (0, 1, 1)))
    assert scores.mean_iou == 1.0


def test_what_a_background_name_wins_is_the_class_of_none(painter: Painter, ask: Ask) -> None:
    dataset = ask("red", (0,), none=1, background=("green", "blue"))
    assert evaluate(Segmenter(painter, device="cpu"), dataset).mean_iou == 1.0


def test_the_authors_threshold_for_a_benchmark_counts(painter: Painter, ask: Ask) -> None:
    dataset = replace(ask("red", (0,), none=1, background=("green", "blue")), name="flags21")
    preprocess = painter.protocols["default"].preprocess
    painter.protocols["published"] = Protocol(preprocess, thresholds={"flags21": 1.0})
    segmenter = Segmenter(painter, protocol="published", device="cpu")
    # One label alone has the score 1 by softmax, which reaches the threshold everywhere.
    assert evaluate(segmenter, dataset).class_iou[:2].tolist() == [1 / 3, 0.0]
    assert evaluate(segmenter, replace(dataset, name="flags")).mean_iou == 1.0


def test_the_authors_words_go_with_their_protocol(painter: Painter, flags: SemanticDataset) -> None:
    theirs = Vocabulary(LabelSet.of("red, lime, blue"), (0, 1, 2))
    dataset = replace(flags, vocabularies={**flags.vocabularies, "them": theirs})
    preprocess = painter.protocols["default"].preprocess
    painter.protocols["published"] = Protocol(preprocess, authors="them")
    evaluate(Segmenter(painter, protocol="published", device="cpu"), dataset)
    assert painter.encoded == [[["red"], ["lime"], ["blue"]]]


def test_every_pixel_gets_a_label_where_none_is_no_class(
    judge: Judge, flags: SemanticDataset
) -> None:
    """A model that judges each label alone must not leave pixels to nobody."""
    with_none = evaluate(Segmenter(judge, device="cpu"), flags, background=1.0)
    without = evaluate(Segmenter(judge, device="cpu"), flags)
    assert without.pixel_accuracy == pytest.approx(2 / 3)
    assert with_none.pixel_accuracy < without.pixel_accuracy


@pytest.mark.parametrize("workers", [0, 2])
def test_expressions(judge: Judge, referring_folder: Path, workers: int) -> None:
    dataset = read_referring_folder(referring_folder, "val")
    scores = evaluate(Segmenter(judge, device="cpu"), dataset, workers=workers, boundary=True)
    # Each finds the whole stripe, of which the mask is the upper half.
    assert scores.iou.tolist() == [0.5] * 8
    assert (scores.mean_iou, scores.overall_iou) == (0.5, 0.5)
    assert scores.precision[0.5] == 0.0
    assert 0.2 < scores.boundary_iou < 0.8


def test_expressions_where_labels_compete(painter: Painter, referring_folder: Path) -> None:
    """By softmax, one expression alone would win everywhere: "background" competes with it."""
    dataset = read_referring_folder(referring_folder, "val")
    evaluate(Segmenter(painter, device="cpu"), dataset)
    assert painter.encoded[0] == [["red"], ["background"]]
