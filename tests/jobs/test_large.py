from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from lexiseg.images import ImageError, Preprocess
from lexiseg.jobs.large import segment_large, segment_photo, spans, tile_side
from lexiseg.methods.base import Protocol
from lexiseg.segmenter import Segmenter
from tests.conftest import Judge, Painter


class Blurred(Painter):
    """A painter that sees 5 x 5 pixels at each place, at the size of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.protocols = {"default": Protocol(Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3))}
        self.blur = nn.AvgPool2d(5, stride=1, padding=2, count_include_pad=False)

    def forward(self, images, texts):  # noqa: ANN001, ANN201 (those of the painter)
        return super().forward(self.blur(images), texts)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """150 x 211 pixels of smooth noise."""
    small = np.random.default_rng(0).integers(0, 256, (30, 42, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(small).resize((211, 150), Image.Resampling.BICUBIC).save(path)
    return path


@given(st.integers(1, 3000), st.integers(8, 300), st.integers(0, 75))
def test_tiles_cover_a_side_and_share_it_by_two(length: int, tile: int, overlap: int) -> None:
    overlap = min(overlap, tile // 4)
    found = spans(length, tile, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert len({stop - start for start, stop in found}) == 1
    assert found[0][1] - found[0][0] <= tile
    for (_, stop), (start, _) in zip(found, found[1:], strict=False):
        assert 0 <= stop - start - overlap <= 1 + len(found) // max(1, len(found) - 1)
    for (_, stop), (start, _) in zip(found, found[2:], strict=False):
        assert start >= stop


@pytest.mark.parametrize("model", [Painter, Judge])
@pytest.mark.parametrize("background", [None, 0.4, "lime|black"])
def test_a_model_that_sees_one_pixel_sees_the_same_in_tiles(
    model: type[Painter], background: object, picture: Path
) -> None:
    segmenter = Segmenter(model())
    segmenter.protocol = Blurred().protocols["default"]
    whole = segmenter(picture, "red, green, blue", background=background)
    tiled = segment_large(
        segmenter, picture, "red, green, blue", background=background, tile=64, overlap=16
    )
    np.testing.assert_array_equal(tiled.image, whole.image)
    assert (tiled.label_map != whole.label_map).mean() < 1e-3  # two scores within rounding
    np.testing.assert_allclose(tiled.confidence, whole.confidence, atol=1e-3)
    assert (tiled.label_map.dtype, tiled.confidence.dtype) == (np.uint8, np.float16)
    assert tiled.source == str(picture)


def test_seams_of_a_model_that_sees_its_surroundings(picture: Path) -> None:
    """Inside a tile nothing differs; in an overlap both tiles see all but a rim of 2 pixels."""
    segmenter = Segmenter(Blurred())
    whole = segmenter(picture, "red, green, blue")
    tiled = segment_large(segmenter, picture, "red, green, blue", tile=64, overlap=16)
    differs = np.abs(tiled.confidence - whole.confidence) > 1e-3
    near_seam = np.zeros(differs.shape, dtype=bool)
    for start, stop in spans(150, 64, 16):
        for edge in (start, stop):
            near_seam[max(0, edge - 2) : edge + 2] = True
    for start, stop in spans(211, 64, 16):
        for edge in (start, stop):
            near_seam[:, max(0, edge - 2) : edge + 2] = True
    assert not differs[~near_seam].any()
    # At a rim a tile's weight is small, so that what it cannot see hardly shows.
    assert np.abs(tiled.confidence - whole.confidence).max() < 0.1
    assert (tiled.label_map != whole.label_map).mean() < 0.005
    hard = segment_large(segmenter, picture, "red, green, blue", tile=64, overlap=0)
    assert np.abs(hard.confidence - whole.confidence).max() > 0.1


def test_results_of_tiles_are_saved_like_others(picture: Path, tmp_path: Path) -> None:
    result = segment_large(Segmenter(Painter()), picture, "red, green", tile=64, overlap=8)
    files = result.save(tmp_path / "out", formats="labels,overlay,json,npz,coco,confidence")
    with Image.open(files["labels"]) as stored:
        np.testing.assert_array_equal(np.asarray(stored), result.label_map)
    assert sum(result.shares().values()) == pytest.approx(1, abs=1e-5)


def test_what_goes_in_tiles(picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tile_side(picture, None) is None
    assert tile_side(picture, 211) is None
    assert tile_side(picture, 210) == 210
    assert tile_side(tmp_path / "missing.png", 5) is None
    monkeypatch.setattr("lexiseg.jobs.large.MAX_PIXELS", 150 * 211 - 1)
    assert tile_side(picture, None) == 1024
    segmenter = Segmenter(Painter(), max_pixels=1000)
    with pytest.raises(ImageError, match="the limit is 0.001"):
        segment_photo(segmenter, picture, "red", tile=64)
    assert (
        segment_photo(Segmenter(Painter()), picture, "red", tile=300, scores=True).scores
        is not None
    )
    with pytest.raises(ValueError, match="at most a quarter"):
        segment_large(segmenter, picture, "red", tile=64, overlap=17)


def test_a_picture_that_is_cut_short(picture: Path, tmp_path: Path) -> None:
    data = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"cut\.png: is truncated or damaged"):
        segment_large(Segmenter(Painter()), tmp_path / "cut.png", "red", tile=64, overlap=8)
    with pytest.raises(ImageError, match="no such file"):
        segment_large(Segmenter(Painter()), tmp_path / "none.png", "red", tile=64, overlap=8)
