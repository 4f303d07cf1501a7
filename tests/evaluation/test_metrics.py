import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from lexiseg.evaluation.metrics import ConfusionMatrix


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
