import numpy as np
import pytest
from PIL import Image

from lexiseg import plot


def test_overlay_mixes_and_leaves_none_as_it_is() -> None:
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    label_map = np.full((4, 4), 255, dtype=np.uint8)
    label_map[:, :2] = 0
    palette = np.array([[200, 0, 100]], dtype=np.uint8)
    result = plot.overlay(image, label_map, palette, opacity=0.5)
    assert result[0, 0].tolist() == [150, 50, 100]
    assert result[0, 1].tolist() == [255, 255, 255]
    assert result[0, 3].tolist() == [100, 100, 100]
    assert (image == 100).all()


@pytest.mark.parametrize(
    "name", ["dog", "猫", "قطة", "🐈", "<b>[red]", "x" * 256, "a\u202eb", "\u0301", " "]
)
def test_any_name_goes_into_a_legend(name: str) -> None:
    strip = plot.legend([(name, (1, 2, 3))], width=200)
    assert strip.width == 200
    assert (1, 2, 3) in {colour for _, colour in strip.getcolors(100_000)}


def test_a_legend_counts_what_it_does_not_show() -> None:
    few = plot.legend([("dog", (1, 2, 3))] * 24, width=800)
    many = plot.legend([("dog", (1, 2, 3))] * 1000, width=800)
    assert few.height <= many.height < 3 * few.height
    assert plot.legend([], width=200).height > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (300, 2), (20, 640)])
def test_the_picture_stands_above_its_legend(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), dtype=np.uint8)
    result = plot.with_legend(picture, [("dog", (1, 2, 3)), ("cat", (4, 5, 6))])
    assert result.width == max(size[1], 320)
    assert result.height > size[0]


def test_side_by_side() -> None:
    pictures = [Image.new("RGB", size) for size in [(10, 20), (40, 20), (10, 10)]]
    sheet = plot.side_by_side(pictures, height=20, columns=2)
    assert sheet.size == (12 + 10 + 12 + 40 + 12, 12 + 20 + 12 + 20 + 12)
    with pytest.raises(ValueError, match="no pictures came"):
        plot.side_by_side([], height=20, columns=2)


def test_a_large_picture_and_its_maps_are_scaled_down_together() -> None:
    image = np.zeros((20, 80, 3), dtype=np.uint8)
    image[:, 40:] = 200
    masks = np.stack([image[..., 0] > 100, image[..., 0] < 100])
    picture, small = plot.shrunk(image, masks, 40)
    assert picture.shape == (10, 40, 3)
    assert small.shape == (2, 10, 40)
    np.testing.assert_array_equal(picture[..., 0] > 100, small[0])
    np.testing.assert_array_equal(small[1], ~small[0])
    same, label_map = plot.shrunk(None, masks[0], 80)
    assert np.shares_memory(label_map, masks)
    assert same.shape == (20, 80, 3)
    assert (same == 128).all()
    assert plot.shrunk(None, masks[0], 1)[0].shape == (1, 1, 3)
