import pytest
import torch
import torch.nn.functional as F

from lexiseg.training.losses import masked_bce, published_bce


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
