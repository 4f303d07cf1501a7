import numpy as np
import pytest
import torch

from lexiseg.images import ImageError, Preprocess, read_image


def picture(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_tensors_are_read_as_arrays_are() -> None:
    pixels = picture()
    as_tensor = torch.tensor(pixels)
    first = as_tensor.permute(2, 0, 1)
    for source in (pixels, as_tensor, first, first / 255, (first / 255).bfloat16().float()):
        assert np.abs(read_image(source).astype(int) - pixels).max() <= 1
    np.testing.assert_array_equal(read_image(first), pixels)
    np.testing.assert_array_equal(read_image(as_tensor[..., 0]), pixels[..., [0, 0, 0]])
    read_image(as_tensor)[:] = 0
    assert as_tensor.any()


def test_the_limits_hold_for_tensors_too() -> None:
    with pytest.raises(ImageError, match="too large"):
        read_image(torch.tensor(picture()), max_pixels=34)
    with pytest.raises(ImageError, match="0 to 1"):
        read_image(torch.full((3, 5, 5), -1.0))


PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, (5, 7), (5, 7)),
        ({"shorter": 10}, (5, 7), (10, 14)),
        ({"shorter": 10, "longest": 7}, (5, 7), (5, 7)),
        ({"multiple": 4}, (5, 7), (4, 8)),
        ({"multiple": 32}, (5, 7), (32, 32)),
        ({"pad_multiple": 4}, (5, 7), (8, 8)),
        ({"squash": (6, 6)}, (5, 7), (6, 6)),
        ({"squash": (6, 6), "pad_multiple": 4}, (5, 7), (6, 6)),
    ],
)
def test_preprocess_sizes_and_back(
    options: dict[str, object], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    preprocess = Preprocess(**PLAIN, **options)
    prepared = preprocess(picture(*size))
    assert tuple(prepared.shape[1:]) == expected
    assert preprocess.restore(prepared, size).shape == (3, *size)


def test_each_channel_is_normalised_by_its_mean_and_then_its_deviation() -> None:
    preprocess = Preprocess(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    pixels = np.full((2, 3, 3), (20, 60, 110), dtype=np.uint8)
    expected = torch.tensor([5.0, 10.0, 10.0]).view(3, 1, 1).expand(3, 2, 3)
    torch.testing.assert_close(preprocess(pixels), expected)


def test_padding_is_cropped_on_the_way_back() -> None:
    pixels = picture(5, 7)
    preprocess = Preprocess(**PLAIN, pad_multiple=4)
    restored = preprocess.restore(preprocess(pixels), (5, 7))
    np.testing.assert_array_equal(restored.permute(1, 2, 0).numpy(), pixels)
