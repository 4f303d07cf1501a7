"""Neck, decoder, projector, loss and letterbox by themselves."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.methods.cris import Letterbox, text_to_pixel_loss
from lexiseg.methods.cris.decoder import Attention, Decoder, grid_positions, sine_positions
from lexiseg.methods.cris.letterbox import sampling_weights
from lexiseg.methods.cris.neck import Neck, with_coordinates
from lexiseg.methods.cris.projector import (
    Projector,
    convolve_doubled,
    convolve_each,
    doubled,
)


def test_coordinates_are_x_then_y() -> None:
    located = with_coordinates(torch.zeros(2, 1, 3, 5))
    assert located.shape == (2, 3, 3, 5)
    assert located[1, 1, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert located[1, 2, :, 4].tolist() == [-1, 0, 1]


def test_the_coarsest_map_is_multiplied_by_the_sentence() -> None:
    torch.manual_seed(0)
    neck = Neck(image_widths=(4, 6, 8), widths=(4, 8, 8), state_width=5).eval()
    maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4), torch.rand(2, 8, 2, 2)]
    images = neck.of_images(maps)
    assert images.fine.shape == (2, 4, 4, 4)
    assert images.repeated(3).coarse.shape == (6, 8, 2, 2)
    assert neck(images, torch.rand(2, 5)).shape == (2, 8, 4, 4)
    assert not torch.equal(neck(images, torch.rand(2, 5)), neck(images, torch.rand(2, 5)))


def test_positions() -> None:
    positions = sine_positions(5, 8)
    assert positions[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    expected = [math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)]
    torch.testing.assert_close(positions[3, :4], torch.tensor(expected))
    grid = grid_positions((2, 3), 8).reshape(2, 3, 8)
    torch.testing.assert_close(grid[1, 2, :4], sine_positions(3, 4)[2])  # the column
    torch.testing.assert_close(grid[1, 2, 4:], sine_positions(2, 4)[1])  # the row


def test_hidden_words_are_not_read() -> None:
    torch.manual_seed(0)
    decoder = Decoder(dim=8, heads=2, layers=2, hidden=16).eval()
    cells, words = torch.randn(1, 6, 8), torch.randn(1, 4, 8)
    is_word = torch.tensor([[True, True, False, False]])
    expected = decoder(cells, words, is_word, grid=(2, 3))
    changed = words.clone()
    changed[:, 2:] += 1
    torch.testing.assert_close(decoder(cells, changed, is_word, grid=(2, 3)), expected)
    changed[:, 1] += 1
    assert not torch.allclose(decoder(cells, changed, is_word, grid=(2, 3)), expected)


def test_each_sentence_is_a_kernel_of_its_own() -> None:
    torch.manual_seed(0)
    projector = Projector(dim=8, state_width=5).eval()
    cells, state = torch.randn(3, 8, 4, 6), torch.randn(3, 5)
    logits = projector(cells, state)
    assert logits.shape == (3, 1, 16, 24)
    for index in range(3):
        alone = projector(cells[index : index + 1], state[index : index + 1])
        torch.testing.assert_close(alone[0], logits[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 1), (1, 3)])
def test_a_doubled_map_is_convolved_without_making_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, *size), torch.randn(5, 3, 3, 3)
    expected = F.conv2d(doubled(x), weight, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(convolve_doubled(x, weight), expected, atol=1e-5, rtol=1e-5)


def test_each_map_is_convolved_with_its_own_kernel() -> None:
    torch.manual_seed(0)
    pixels, kernels = torch.randn(2, 3, 4, 6), torch.randn(2, 3 * 9 + 1)
    found = convolve_each(pixels, kernels)
    for index in range(2):
        weight = kernels[index, :-1].reshape(1, 3, 3, 3)
        expected = F.conv2d(pixels[index : index + 1], weight, kernels[index, -1:], padding=1)
        torch.testing.assert_close(found[index : index + 1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden", [True, False])
def test_attention_is_the_same_with_and_without_gradients(hidden: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2, batch_first=True).eval()
    cells, words = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    is_word = torch.tensor([[True, True, False, False], [True] * 4]) if hidden else None
    expected = attention.gather(cells, words, 2 * words, is_word)
    with torch.no_grad():
        found = attention.gather(cells, words, 2 * words, is_word)
    torch.testing.assert_close(found, expected)


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[[[2.0, -1.0]]]])
    masks = torch.tensor([[[[1.0, 1.0, 0.25, 0.25]]]])
    sigmoid = torch.sigmoid(logits.flatten())
    soft = -(sigmoid[0].log() + 0.25 * sigmoid[1].log() + 0.75 * (1 - sigmoid[1]).log()) / 2
    hard = -(sigmoid[0].log() + (1 - sigmoid[1]).log()) / 2
    torch.testing.assert_close(text_to_pixel_loss(logits, masks), soft)
    torch.testing.assert_close(text_to_pixel_loss(logits, masks, targets="hard"), hard)


def box(side: int = 32) -> Letterbox:
    return Letterbox(mean=(120.0, 110.0, 100.0), std=(60.0,) * 3, side=side)


def test_a_picture_stands_in_the_middle() -> None:
    image = np.full((16, 32, 3), 200, np.uint8)
    entered = box().enter(image)
    assert entered.shape == (3, 32, 32)
    assert (entered[:, 9:23] == 200).all()
    assert entered[:, 0, 0].tolist() == entered[:, 31, 31].tolist() == [120, 110, 100]
    torch.testing.assert_close(box()(image)[0, 16, 16], torch.tensor(80 / 60))


@pytest.mark.parametrize("size", [(16, 32), (40, 30), (33, 47), (1, 9), (64, 64)])
def test_scores_come_back_to_where_they_were(size: tuple[int, int]) -> None:
    """A smooth picture goes in and comes back; sizes are the picture's own."""
    rows, columns = np.indices(size)
    smooth = 100 + 60 * np.sin(rows / size[0] * 2) + 60 * np.cos(columns / size[1] * 2)
    image = np.repeat(smooth[..., None], 3, axis=-1).astype(np.uint8)
    entered = box(128).enter(image)[:1] / 255
    back = box(128).restore(entered, size)
    assert back.shape == (1, *size)
    inner = (slice(size[0] // 4, -size[0] // 4 or None), slice(size[1] // 4, -size[1] // 4 or None))
    away = np.abs(back[0].numpy() * 255 - image[..., 0])[inner]
    assert away.size == 0 or away.max() < 4


def test_weights_of_samples() -> None:
    whole = sampling_weights(6, 6, 1.0, 0.0, "bicubic")
    torch.testing.assert_close(whole, torch.eye(6, dtype=torch.float64))
    halves = sampling_weights(4, 3, 1.0, 0.5, "bilinear")
    assert halves.tolist() == [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]]
    beyond = sampling_weights(4, 1, 1.0, -5.0, "bicubic")
    assert beyond.sum() == 0
    inner = sampling_weights(12, 8, 1.25, 1.5, "bicubic")[:7]
    torch.testing.assert_close(inner.sum(dim=1), torch.ones(7, dtype=torch.float64))


def test_bicubic_samples_equal_those_of_torch() -> None:
    """At 32 positions to a pixel there is no rounding."""
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = sampling_weights(9, 18, 0.5, -0.25, "bicubic")[4:14]
    expected = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)[0, 0]
    rows = sampling_weights(9, 18, 0.5, -0.25, "bicubic")[4:14]
    found = rows @ x[0, 0] @ weights.T
    torch.testing.assert_close(found, expected[4:14, 4:14])
