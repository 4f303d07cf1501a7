"""The parts that were opened for the export beside those that they stand in for."""

import pytest
import torch

from lexiseg.layers.swin import WindowAttention
from lexiseg.methods.catseg.classes import ClassAggregation
from lexiseg.onnx.graphs import OpenViT, TextGraph
from lexiseg.onnx.opened import OpenClassAggregation, OpenWindowAttention, opened
from tests.encoders.tiny_clip import tiny_clip
from tests.methods import contract


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (4, 9), (8, 8), (7, 13), (3, 12)])
def test_windows(grid: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    attention = WindowAttention(hidden=8, heads=2, window=4, guidance=6, shift=shift)
    x, guidance = torch.randn(2, 3, *grid, 8), torch.randn(2, *grid, 6)
    parts = attention.project_guidance(guidance)
    torch.testing.assert_close(OpenWindowAttention(attention)(x, parts), attention(x, parts))


@pytest.mark.parametrize("padding_length", [None, 4])
@pytest.mark.parametrize("texts", [1, 3, 4, 9])
def test_classes(texts: int, padding_length: int | None) -> None:
    torch.manual_seed(0)
    aggregation = ClassAggregation(hidden=8, heads=2, padding_length=padding_length)
    for parameter in aggregation.parameters():
        torch.nn.init.normal_(parameter)
    x, guidance = torch.randn(2, texts, 3, 5, 8), torch.randn(texts, 8)
    expected = aggregation(x, guidance)
    torch.testing.assert_close(OpenClassAggregation(aggregation)(x, guidance), expected)


@pytest.mark.parametrize("dense", ["final", "value", "catseg"])
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (40, 24)])
def test_vision_transformer(size: tuple[int, int], dense) -> None:
    visual = tiny_clip(dense=dense).visual
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = visual(images, intermediates=(0, 1))
    found = OpenViT(visual)(images, (0, 1))
    for ours, theirs in zip(found, (expected.patch_features, *expected.intermediates), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_text_of_a_clip() -> None:
    """An id of 0 is a symbol of the vocabulary, and padding behind the end."""
    text = tiny_clip().text
    ids = torch.tensor([[3, 0, 9, 49407, 0, 0], [3, 4, 5, 0, 0, 49407]])
    expected = text(ids).pooled
    torch.testing.assert_close(TextGraph(tiny_clip())(ids), expected)


def test_pooled_classes_are_refused() -> None:
    model = contract.make("catseg_vitb16")
    model.class_pooling = 2
    with pytest.raises(ValueError, match="class_pooling 2 came; only 1"):
        opened(model)
