import pytest
import torch

from lexiseg.methods.base import Tiling
from lexiseg.tiling import activate, boxes, sliding_scores, starts


def colours(images: torch.Tensor) -> torch.Tensor:
    """A model whose logits are the pixels themselves: tiling must give them back."""
    return images


@pytest.mark.parametrize("size", [(48, 48), (48, 80), (33, 71), (32, 32), (20, 50), (9, 7)])
@pytest.mark.parametrize("crop_batch", [1, 3, 100])
def test_windows_put_together_are_the_whole(size: tuple[int, int], crop_batch: int) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    scores = sliding_scores(
        colours, images, Tiling(window=32, stride=20), activation="sigmoid", crop_batch=crop_batch
    )
    torch.testing.assert_close(scores, images.sigmoid())


@pytest.mark.parametrize(
    ("length", "expected"),
    [(640, [0, 256]), (384, [0]), (200, [0]), (641, [0, 256, 257]), (1000, [0, 256, 512, 616])],
)
def test_windows_end_at_the_edge(length: int, expected: list[int]) -> None:
    assert starts(length, Tiling(window=384, stride=256)) == expected


def test_windows_go_row_by_row() -> None:
    found = list(boxes((640, 640), Tiling(window=384, stride=256)))
    assert found == [(t, left, 384, 384) for t in (0, 256) for left in (0, 256)]


def test_overlaps_are_averaged() -> None:
    calls: list[float] = []

    def run(views: torch.Tensor) -> torch.Tensor:
        calls.append(float(len(calls) + 1))
        return torch.full((len(views), 1, 4, 4), calls[-1])

    images = torch.zeros(1, 3, 4, 6)
    tiling = Tiling(window=4, stride=2)
    scores = sliding_scores(run, images, tiling, activation="sigmoid", crop_batch=1)
    one, two = torch.tensor([1.0, 2.0]).sigmoid()
    expected = torch.stack([one, one, (one + two) / 2, (one + two) / 2, two, two])
    torch.testing.assert_close(scores, expected.expand(1, 1, 4, 6))


def test_whole_view_counts_half_and_sees_the_unstretched_image() -> None:
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    tiling = Tiling(window=16, stride=8, whole_size=16, squash=(32, 32), input_size=8)
    seen: list[torch.Tensor] = []

    def run(views: torch.Tensor) -> torch.Tensor:
        seen.append(views)
        return views

    scores = sliding_scores(run, images, tiling, activation="sigmoid", crop_batch=5)
    assert scores.shape == (2, 3, 32, 32)
    assert all(views.shape[-2:] == (8, 8) for views in seen)
    stretch = torch.nn.functional.interpolate
    whole = stretch(stretch(images, (16, 16), mode="bilinear"), (8, 8), mode="bilinear")
    torch.testing.assert_close(torch.cat(seen[-2:]), whole)


def test_logits_are_enlarged_before_they_become_scores() -> None:
    def run(views: torch.Tensor) -> torch.Tensor:
        return torch.tensor([-8.0, 8.0]).expand(len(views), 1, 2, 2)

    tiling = Tiling(window=6, stride=6)
    scores = sliding_scores(run, torch.zeros(1, 3, 6, 6), tiling, activation="sigmoid")
    row = torch.nn.functional.interpolate(run(torch.zeros(1)), (6, 6), mode="bilinear")
    torch.testing.assert_close(scores, row.sigmoid())


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activations(activation: str) -> None:
    scores = activate(torch.tensor([0.0, 0.0]).view(1, 2, 1, 1), activation)
    assert scores.flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("stride", [0, 33])
def test_windows_that_leave_gaps_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match="the stride must be from 1 to the window"):
        Tiling(window=32, stride=stride)


def test_no_images_are_refused() -> None:
    tiling = Tiling(window=32, stride=32)
    with pytest.raises(ValueError, match="at least one of each"):
        sliding_scores(colours, torch.zeros(0, 3, 8, 8), tiling, activation="sigmoid")
