import pytest
import torch

from lexiseg.data.referring.training import ExpressionSample
from lexiseg.training.expressions import ExpressionObjective
from lexiseg.training.losses import dice_loss
from tests.methods import contract


def sample(seed: int, *sentences: str, size: int = 64) -> ExpressionSample:
    noise = torch.Generator().manual_seed(seed)
    masks = torch.zeros(len(sentences), size, size)
    masks[:, : size // 2, : size // 2] = 1
    return ExpressionSample(torch.randn(3, size, size, generator=noise), sentences, masks)


def test_several_sentences_of_an_image_are_as_one_image_each() -> None:
    torch.manual_seed(0)
    objective = ExpressionObjective(contract.tiny_cris().eval())
    two = sample(1, "a cat", "the red dog")
    each = [
        ExpressionSample(two.image, two.expressions[i : i + 1], two.masks[i : i + 1])
        for i in range(2)
    ]
    with torch.no_grad():
        together, apart = objective([two]), objective(each)
    assert list(together) == ["contrast"]
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_the_loss_of_objects_is_added_where_it_is_wanted() -> None:
    torch.manual_seed(0)
    losses = ExpressionObjective(contract.tiny_cris(), overlap=0.5)(
        [sample(1, "a"), sample(2, "b")]
    )
    assert list(losses) == ["contrast", "overlap"]
    sum(losses.values()).backward()


def test_overlap_by_hand() -> None:
    """Half of a mask found, and nothing else: Dice 2 / 3."""
    masks = torch.zeros(1, 2, 4)
    masks[..., :2] = 1
    logits = torch.full((1, 2, 4), -50.0)
    assert dice_loss(logits.sigmoid(), masks) == pytest.approx(1)
    logits[..., :1] = 50
    assert dice_loss(logits.sigmoid(), masks) == pytest.approx(1 / 3)
    assert dice_loss(((masks - 0.5) * 100).sigmoid(), masks) == pytest.approx(0, abs=1e-6)
