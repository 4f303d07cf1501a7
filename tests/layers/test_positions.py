import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from lexiseg.layers.positions import resize_positions


def test_the_trained_size_is_untouched():
    positions = torch.randn(9, 4)
    assert resize_positions(positions, (3, 3)) is positions


def test_height_comes_before_width():
    rows = rearrange(torch.arange(4.0).expand(4, 4).T, "h w -> (h w) 1")
    resized = rearrange(resize_positions(rows, (8, 2)), "(h w) 1 -> h w", h=8)
    torch.testing.assert_close(resized[:, 0], resized[:, 1])
    assert (resized[1:, 0] > resized[:-1, 0]).all()


def test_it_is_bicubic_without_antialiasing():
    positions = torch.randn(196, 3, generator=torch.Generator().manual_seed(0))
    square = rearrange(positions, "(h w) D -> 1 D h w", h=14)
    expected = F.interpolate(square, size=(7, 24), mode="bicubic", align_corners=False)
    found = resize_positions(positions, (7, 24))
    torch.testing.assert_close(found, rearrange(expected, "1 D h w -> (h w) D"))


def test_a_class_token_left_in_is_noticed():
    with pytest.raises(ValueError, match="10 position embeddings are not a square grid"):
        resize_positions(torch.randn(10, 4), (3, 3))
