import pytest
import torch
import torch.nn.functional as F

from lexiseg.training.losses import (
    image_label_loss,
    masked_bce,
    name_weights,
    overlap_loss,
    published_bce,
    weighted_cross_entropy,
)

NAMES = ("background", "dog", "sky", "car")


def one_hot(labels: torch.Tensor, texts: int) -> torch.Tensor:
    target = torch.zeros(len(labels), texts, *labels.shape[1:])
    for text in range(texts):
        target[:, text] = (labels == text).float()
    return target


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 8, 6))
    labels[0, :3] = 255
    return 3 * torch.randn(2, 4, 8, 6), labels


def test_published_counts_ignored_pixels_as_negatives() -> None:
    logits, labels = example()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot(labels, 4))
    torch.testing.assert_close(published_bce(logits, labels), expected)


def test_masked_leaves_ignored_pixels_out() -> None:
    logits, labels = example()
    each = F.binary_cross_entropy_with_logits(logits, one_hot(labels, 4), reduction="none")
    expected = each.movedim(1, -1)[labels != 255].mean()
    torch.testing.assert_close(masked_bce(logits, labels), expected)


def test_ignored_pixels_get_no_gradient() -> None:
    logits, labels = example()
    logits.requires_grad_()
    masked_bce(logits, labels).backward()
    assert logits.grad is not None
    assert (logits.grad.movedim(1, -1)[labels == 255] == 0).all()
    assert (logits.grad.movedim(1, -1)[labels != 255] != 0).all()


@pytest.mark.parametrize("loss", [masked_bce, published_bce])
def test_logits_are_brought_to_the_labels(loss: object) -> None:
    logits, labels = example()
    small = logits[:, :, ::2, ::2]
    large = F.interpolate(small, size=(8, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss(small, labels.to(torch.uint8)), loss(large, labels))


def test_nothing_labelled_is_no_loss() -> None:
    assert masked_bce(torch.randn(1, 2, 4, 4), torch.full((1, 4, 4), 255)) == 0


@pytest.mark.parametrize("loss", [masked_bce, published_bce])
def test_labels_outside_the_texts_are_refused(loss: object) -> None:
    with pytest.raises(ValueError, match="label 7 came with 4 texts; labels go from 0 to 3"):
        loss(torch.randn(1, 4, 4, 4), torch.full((1, 4, 4), 7))


def test_ignored_pixels_say_nothing() -> None:
    logits = torch.randn(4, 8, 8)
    labels = torch.full((8, 8), 255)
    labels[0] = 1
    changed = logits.clone()
    changed[:, 4:] += 10 * torch.randn(4, 4, 8)
    first = weighted_cross_entropy(logits, labels, NAMES, 0.5)
    assert torch.equal(first, weighted_cross_entropy(changed, labels, NAMES, 0.5))
    assert weighted_cross_entropy(logits, torch.full((8, 8), 255), NAMES, 0.5) == 0


def test_background_counts_less() -> None:
    logits = torch.zeros(2, 8, 8)
    logits[0] = 2.0  # says background everywhere
    labels = torch.zeros(8, 8, dtype=torch.long)
    labels[4:] = 1
    heavy = weighted_cross_entropy(logits, labels, ("background", "dog"), 1.0)
    light = weighted_cross_entropy(logits, labels, ("background", "dog"), 0.1)
    assert light > heavy  # the wrong half now weighs more


def test_a_small_region_weighs_more_for_each_pixel() -> None:
    labels = torch.zeros(100, dtype=torch.long).view(10, 10)
    labels[0, 0] = 1
    weights = name_weights(labels.flatten(), 3)
    assert weights[1] == pytest.approx(0.01**-0.25, rel=1e-4)
    assert weights[0] < weights[1]


def test_a_whole_image_name_is_found_by_its_best_patches() -> None:
    logits = torch.zeros(3, 4, 4)
    logits[1, 0, 0] = 20.0
    assert image_label_loss(logits, 1) < 0.01 < image_label_loss(logits, 0)


def test_overlap_of_regions() -> None:
    labels = torch.zeros(4, 4, dtype=torch.long)
    labels[:2] = 1
    sure = 50.0 * torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    names = ("background", "dog", "sky")
    assert overlap_loss(sure, labels, names) == pytest.approx(0, abs=1e-6)
    # All of it called dog: twice the 8 pixels in common over 16 + 8.
    wrong = torch.zeros(3, 4, 4)
    wrong[1] = 50.0
    assert overlap_loss(wrong, labels, names) == pytest.approx(1 - 16 / 24, abs=1e-6)
    labels[2:] = 255  # nobody's pixels count neither way
    assert overlap_loss(wrong, labels, names) == pytest.approx(0, abs=1e-6)
    assert overlap_loss(wrong, torch.zeros_like(labels), names) == 0
