import numpy as np
import pytest
from PIL import Image

from lexiseg import plot


@pytest.mark.parametrize("count", [1, 12, 13, 255, 256, 1000])
def test_colours_are_distinct_and_the_first_of_more(count: int) -> None:
    palette = plot.colours(count)
    assert palette.shape == (count, 3)
    assert len({tuple(colour) for colour in palette.tolist()}) == count
    np.testing.assert_array_equal(palette, plot.colours(count + 100)[:count])


def test_colours_come_round() -> None:
    assert plot.colours(65_535).shape == (65_535, 3)
    assert plot.colours(0).shape == (0, 3)


def test_near_colours_tell_apart() -> None:
    palette = plot._oklab(plot.colours(40))
    distance = np.linalg.norm(palette[:, None] - palette[None], axis=-1)
    assert distance[~np.eye(40, dtype=bool)].min() > 0.08


def test_oklab_of_white_and_grey() -> None:
    lab = plot._oklab(np.array([[255, 255, 255], [128, 128, 128], [0, 0, 0]], dtype=np.uint8))
    np.testing.assert_allclose(lab[:, 0], [1, 0.5999, 0], atol=1e-3)
    np.testing.assert_allclose(lab[:, 1:], 0, atol=1e-3)


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
