import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics import JaccardIndex

from lexiseg.evaluation.metrics import ConfusionMatrix, overlap, referring_scores
from tests.parity import SOURCES, cases


def score(predicted, true, classes, ignore_index=255):
    matrix = ConfusionMatrix(classes, ignore_index=ignore_index)
    matrix.update(np.array([predicted]), np.array([true]))
    return matrix.scores()


def test_a_hand_worked_case():
    scores = score([0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 255], classes=3)
    assert scores.class_iou[:2].tolist() == [2 / 3, 2 / 3]
    assert np.isnan(scores.class_iou[2])
    assert scores.mean_iou == pytest.approx(2 / 3)
    assert scores.pixel_accuracy == pytest.approx(4 / 5)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert scores.frequency_weighted_iou == pytest.approx(2 / 3)


def test_an_absent_class_that_is_predicted_costs_the_others_only():
    scores = score([0, 2, 2, 1], [0, 0, 1, 1], classes=3)
    assert scores.class_iou[:2].tolist() == [0.5, 0.5]
    assert scores.mean_iou == 0.5


def test_none_of_these_is_wrong_and_not_class_zero():
    scores = score([255, 255, 0, 1], [0, 1, 0, 1], classes=2)
    assert scores.class_iou.tolist() == [0.5, 0.5]
    assert scores.pixel_accuracy == 0.5


def test_errors_say_what_is_wrong():
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match="differ in size"):
        matrix.update(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="true ids are 0 to 2; 2 classes"):
        matrix.update(np.zeros((1, 2), int), np.array([[0, 2]]))
    with pytest.raises(ValueError, match="predicted ids are 0 to 7"):
        matrix.update(np.array([[0, 7]]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="every pixel was ignored"):
        matrix.scores()
    with pytest.raises(ValueError, match="at least one class"):
        ConfusionMatrix(0)
    with pytest.raises(ValueError, match="ignore_index 255 is one of the 847 classes"):
        ConfusionMatrix(847)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_scores_equal_those_of_scikit_learn(classes, seed):
    generator = np.random.default_rng(seed)
    matrix = ConfusionMatrix(classes)
    predicted = generator.integers(0, classes, (3, 4, 5))
    true = generator.integers(0, classes, (3, 4, 5))
    true[generator.random(true.shape) < 0.2] = 255
    for one, other in zip(predicted, true, strict=True):
        matrix.update(one, other)
    counted = true != 255
    if not counted.any():
        return
    expected = confusion_matrix(true[counted], predicted[counted], labels=range(classes))
    np.testing.assert_array_equal(matrix.counts[:, :classes], expected)
    present = np.unique(true[counted])
    reference = jaccard_score(
        true[counted], predicted[counted], labels=range(classes), average=None, zero_division=0
    )
    assert matrix.scores().mean_iou == pytest.approx(reference[present].mean(), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_mean_iou_equals_that_of_torchmetrics(classes, seed):
    generator = np.random.default_rng(seed)
    true = generator.permutation(np.arange(40 * 30) % classes).reshape(40, 30)  # all classes occur
    predicted = np.where(
        generator.random(true.shape) < 0.6, true, generator.integers(0, classes, true.shape)
    )
    true[generator.random(true.shape) < 0.3] = 255
    matrix = ConfusionMatrix(classes)
    matrix.update(predicted, true)
    reference = JaccardIndex("multiclass", num_classes=classes, ignore_index=255, average="macro")
    expected = reference(torch.from_numpy(predicted), torch.from_numpy(true)).item()
    assert matrix.scores().mean_iou == pytest.approx(expected, abs=1e-6)


@given(st.permutations(range(4)), st.integers(0, 3))
def test_any_order_and_any_parts_give_one_matrix(order, cut):
    generator = np.random.default_rng(5)
    images = [generator.integers(0, 300, (2, 8, 9)) for _ in range(4)]
    whole, parts = ConfusionMatrix(300, ignore_index=65535), [[], []]
    for predicted, true in images:
        whole.update(predicted, true)
    for place, index in enumerate(order):
        parts[place < cut].append(whole.cells(*images[index]))
    again = ConfusionMatrix(300, ignore_index=65535)
    for cells in parts[0] + parts[1]:
        again.add(cells)
    np.testing.assert_array_equal(again.counts, whole.counts)


def test_referring_scores_by_hand():
    scores = referring_scores([(50, 100), (9, 10), (0, 7), (0, 0)])
    assert scores.iou.tolist() == [0.5, 0.9, 0.0, 0.0]
    assert scores.mean_iou == pytest.approx(0.35)
    assert scores.overall_iou == pytest.approx(59 / 117)
    # "exceeds": an IoU of exactly 0.5 or 0.9 does not count.
    assert scores.precision == {0.5: 0.25, 0.6: 0.25, 0.7: 0.25, 0.8: 0.25, 0.9: 0.0}


def test_masks_overlap():
    one, other = np.zeros((2, 3, 4), bool)
    one[:2], other[1:] = True, True
    assert overlap(one, other) == (4, 12)
    assert overlap(one & False, other & False) == (0, 0)
    with pytest.raises(ValueError, match="differ in size"):
        overlap(one, other[:, :2])
    with pytest.raises(ValueError, match="no expression"):
        referring_scores([])


@pytest.mark.parametrize("source", SOURCES)
def test_cris_parity_metrics(source):
    """The masks that the authors' test loop made get the scores that it printed."""
    case = cases("cris", source).open("metrics.npz")
    overlaps = []
    for index, (height, width) in enumerate(case["sizes"].tolist()):
        predicted, true = (
            np.unpackbits(case[f"{kind}_{index}"], count=height * width)
            .reshape(height, width)
            .astype(bool)
            for kind in ("pred", "gt")
        )
        overlaps.append(overlap(predicted, true))
    scores = referring_scores(overlaps)
    np.testing.assert_allclose(scores.iou, case["iou"], atol=1e-6)
    assert scores.mean_iou == pytest.approx(float(case["mean_iou"]), abs=1e-6)
    assert list(scores.precision.values()) == pytest.approx(case["prec"].tolist(), abs=1e-6)
    assert scores.overall_iou == pytest.approx(float(case["overall_iou_unofficial"]), abs=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_segclip_parity_label_maps_scored_as_published(source):
    """mmsegmentation's rule: background is a class, the mean is over the classes that occur."""
    opened = cases("segclip", source)
    predicted, true = (opened.open(f"{n}.npz")["label_map"] for n in ("seg_voc_lowthr", "seg_voc"))
    matrix = ConfusionMatrix(21)
    matrix.update(predicted, true)
    scores, expected = matrix.scores(), {}
    for class_id in np.unique(true).tolist():
        both = ((predicted == class_id) & (true == class_id)).sum()
        either = ((predicted == class_id) | (true == class_id)).sum()
        expected[class_id] = both / either
    assert {0, 8} <= set(expected)
    assert scores.mean_iou == pytest.approx(np.mean(list(expected.values())))
    assert scores.pixel_accuracy == (predicted == true).mean()
    assert 0 < scores.mean_iou < 1
