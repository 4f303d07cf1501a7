"""The pseudo prompt generator: recorded cases, and what must hold of any correlation."""

import numpy as np
import pytest
import torch

from lexiseg.methods.escnet.pseudo_prompts import PseudoPrompts, pseudo_prompts
from tests.parity import SOURCES, cases

NAMES = (
    *("one_blob", "two_blobs", "unequal_blobs", "five_blobs", "seven_blobs", "empty_classes"),
    *("tiny_regions", "corners", "ring", "bars_xy", "overlapping_classes", "many_classes"),
)
RATIOS = (1.02, 1.04, 1.10)


def case_of(name: str, source: str) -> dict[str, np.ndarray]:
    arrays = cases("escnet", source).open("ppg_cases.npz")
    names = [str(each) for each in arrays["names"]]
    assert names == list(NAMES)
    prefix = f"{names.index(name):02}_"
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def valid_points(prompts: PseudoPrompts, text: int) -> list[tuple[int, int]]:
    kept = prompts.points[0, text][prompts.valid[0, text]]
    return [(x, y) for x, y in kept.tolist()]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", NAMES)
def test_escnet_parity_pseudo_prompts(name: str, ratio: float, source: str) -> None:
    case = case_of(name, source)
    corr = torch.from_numpy(case["corr"])[None]
    check_case(case, pseudo_prompts(corr, ratio=ratio), range(corr.shape[1]))
    for factor in (10, 100):
        free = [text for text in range(corr.shape[1]) if case["scale_free"][text]]
        check_case(case, pseudo_prompts(factor * corr, ratio=ratio), free)


def check_case(case: dict[str, np.ndarray], prompts: PseudoPrompts, texts: object) -> None:
    label = case["label"]
    for text in texts:
        points = valid_points(prompts, text)
        assert case["min_valid"][text] <= len(points) <= case["max_valid"][text]
        on_blobs = [int(label[text, y, x]) for x, y in points]
        assert all(blob > 0 for blob in on_blobs)
        blobs = int(case["n_blobs"][text])
        assert len(set(on_blobs)) >= (4 if blobs > 5 else blobs)
        union = prompts.masks[0, text].any(dim=0).numpy()
        assert not union[label[text] == 0].any()
        if len(points):
            assert union[label[text] > 0].all()
        if case["hit_peaks"][text]:
            assert {tuple(peak) for peak in case["peaks"][text][:blobs].tolist()} <= set(points)
        if case["no_straddle"][text]:
            for mask in prompts.masks[0, text].numpy():
                assert len(set(label[text][mask].tolist()) - {0}) <= 1


def test_equal_and_moved_maps_have_the_same_prompts() -> None:
    prompts = pseudo_prompts(torch.from_numpy(case_of("many_classes", "compact")["corr"])[None])
    for one, other in [(0, 5), (1, 7)]:
        assert torch.equal(prompts.masks[:, one], prompts.masks[:, other])
        assert torch.equal(prompts.points[:, one], prompts.points[:, other])


def random_maps(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.1 * torch.randn(3, 7, 12, 16, generator=generator)).to(dtype)


def same(one: PseudoPrompts, other: PseudoPrompts) -> bool:
    pairs = [(one.points, other.points), (one.masks, other.masks), (one.valid, other.valid)]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_all_at_once_is_one_after_the_other(dtype: torch.dtype) -> None:
    maps = random_maps(dtype)
    whole = pseudo_prompts(maps)
    for image in range(3):
        for text in range(7):
            alone = pseudo_prompts(maps[image : image + 1, text : text + 1])
            part = (slice(image, image + 1), slice(text, text + 1))
            assert same(
                alone, PseudoPrompts(whole.points[part], whole.masks[part], whole.valid[part])
            )


def test_only_differences_within_a_map_count() -> None:
    assert same(pseudo_prompts(random_maps()), pseudo_prompts(random_maps() + 0.375))


def test_no_gradient() -> None:
    maps = random_maps().requires_grad_()
    prompts = pseudo_prompts(maps)
    assert not prompts.points.requires_grad
    assert maps.grad is None


def test_a_flat_map_has_no_prompt() -> None:
    prompts = pseudo_prompts(torch.full((1, 2, 12, 16), 0.3))
    assert not prompts.valid.any()
    assert not prompts.masks.any()


@pytest.mark.parametrize("cells", [1, 2, 3, 4])
def test_never_more_points_than_cells(cells: int) -> None:
    maps = torch.zeros(1, 1, 12, 16)
    places = [(3, 2), (3, 3), (9, 14), (0, 0)][:cells]
    for y, x in places:
        maps[0, 0, y, x] = 0.5
    points = valid_points(pseudo_prompts(maps), 0)
    assert sorted(points) == sorted((x, y) for y, x in places)


def test_masks_are_the_map_in_parts_and_points_their_highest_cells() -> None:
    maps = random_maps()
    prompts = pseudo_prompts(maps)
    on = maps.flatten(2).softmax(dim=-1).view_as(maps) > 1.04 / (12 * 16)
    assert torch.equal(prompts.masks.sum(dim=2), on.long())
    assert torch.equal(prompts.masks.any(dim=(-2, -1)), prompts.valid)
    inside = torch.where(prompts.masks, maps[:, :, None], -torch.inf).flatten(3).amax(dim=-1)
    for image, text, cluster in prompts.valid.nonzero().tolist():
        x, y = prompts.points[image, text, cluster].tolist()
        assert prompts.masks[image, text, cluster, y, x]
        assert maps[image, text, y, x] == inside[image, text, cluster]


def test_half_precision() -> None:
    assert pseudo_prompts(random_maps(torch.bfloat16)).valid.any()


def test_a_cell_between_two_centres_goes_to_the_first() -> None:
    correlation = torch.full((1, 1, 2, 5), -20.0)
    correlation[0, 0, 0, :3] = torch.tensor([5.0, 4.9, 5.0])  # the middle one is as near to both
    found = pseudo_prompts(correlation, clusters=2)
    assert found.points[0, 0].tolist() == [[0, 0], [2, 0]]
    assert found.masks[0, 0, :, 0].int().tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert not found.masks[0, 0, :, 1].any()
