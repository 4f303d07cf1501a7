import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.methods.freeda import regions as module
from lexiseg.methods.freeda.regions import Superpixels, grid_masks, region_features
from tests.parity import SOURCES, cases

CONFIGS = {
    "voc20": Superpixels(sigma=0.7, pooling="published"),
    "context59_ade": Superpixels(pooling="published"),
    "stuff": Superpixels(min_size=100, pooling="published"),
    "cityscapes": Superpixels(scale=20.0, sigma=0.5, min_size=50, pooling="published"),
}


def blocks(height: int, width: int, count: int) -> torch.Tensor:
    """Some regions of random shape."""
    noise = torch.Generator().manual_seed(height * width)
    coarse = torch.randint(count, (1, 1, 5, 6), generator=noise).float()
    return F.interpolate(coarse, size=(height, width), mode="nearest-exact")[0, 0].long()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CONFIGS)
def test_freeda_parity_superpixels(name: str, source: str) -> None:
    case = cases("freeda", source).open("superpixels.npz")
    case.check(f"labels_{name}", CONFIGS[name].of(case["image_rgb"]), absolute=0)


@pytest.mark.parametrize("name", ["voc20", "context59_ade", "stuff", "cityscapes"])
def test_freeda_parity_vanishing_regions(name: str) -> None:
    case = cases("freeda", "full").open("superpixels.npz")
    numbers = torch.from_numpy(case[f"labels_{name}"].astype(np.int64))
    mass = torch.cat([m.sum(dim=1) for m in grid_masks(numbers, (37, 37), "published")])
    np.testing.assert_array_equal(mass == 0, case[f"vanishing_{name}"])


@pytest.mark.parametrize(("height", "width"), [(40, 53), (9, 11), (3, 2)])
def test_masks_on_the_grid(height: int, width: int) -> None:
    """Both rules against one mask after the other."""
    numbers, grid = blocks(height, width, 8), (7, 9)
    masks = F.one_hot(numbers, int(numbers.max()) + 1).permute(2, 0, 1)[:, None].float()
    published = torch.cat(list(grid_masks(numbers, grid, "published")))
    sampled = F.interpolate(masks, size=grid, mode="bilinear", align_corners=True)
    torch.testing.assert_close(published, sampled.flatten(1))
    area = torch.cat(list(grid_masks(numbers, grid, "area")))
    fine = masks.repeat_interleave(grid[0], 2).repeat_interleave(grid[1], 3)
    torch.testing.assert_close(area, F.avg_pool2d(fine, (height, width)).flatten(1))


@pytest.mark.parametrize("pooling", ["area", "published"])
def test_blocks_of_regions_change_nothing(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, places = blocks(30, 41, 9), torch.randn(5, 6, 7)
    whole = region_features(places, numbers, pooling)
    monkeypatch.setattr(module, "MOST_WEIGHTS", 2 * 6 * 7)
    torch.testing.assert_close(region_features(places, numbers, pooling), whole)


def test_no_region_is_lost_by_area() -> None:
    """Three pixels between the points of the grid: published, it has no feature."""
    numbers = torch.zeros(40, 40, dtype=torch.long)
    numbers[5, 5:8] = 1
    places = torch.randn(4, 4, 4)
    assert region_features(places, numbers, "published")[1].isnan().all()
    torch.testing.assert_close(region_features(places, numbers, "area")[1], places[:, 0, 0])


def test_superpixels_are_kept_where_a_folder_is_given(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    cut = Superpixels()
    np.testing.assert_array_equal(cut.of(image, cache=tmp_path), cut.of(image))
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    with pytest.raises(ValueError, match="choose 'area' or 'published'"):
        Superpixels(pooling="nearest")
