from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.training.teachers import (
    TEACHER_NAMES,
    UNSURE,
    DeepLabTeacher,
    ImageNetTeacher,
    TeacherLabels,
)

WIDTHS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)


def arrays() -> dict[str, torch.Tensor]:
    """Small random weights in the shapes of the published file."""
    generator = torch.Generator().manual_seed(0)

    def conv(name: str, out: int, into: int, side: int = 1) -> None:
        scale = (into * side * side) ** -0.5
        found[f"{name}.weight"] = torch.randn(out, into, side, side, generator=generator) * scale
        found[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    found: dict[str, torch.Tensor] = {}
    conv("features.0.0", 32, 3, 3)
    before = 32
    for block, width in enumerate(WIDTHS, start=1):
        name = f"features.{block}.conv"
        if block == 1:
            conv(f"{name}.0.0", before, 1, 3)
            conv(f"{name}.1", width, before)
        else:
            conv(f"{name}.0.0", 6 * before, before)
            conv(f"{name}.1.0", 6 * before, 1, 3)
            conv(f"{name}.2", width, 6 * before)
        before = width
    for name, out, into in (("conv", 256, 320), ("pool", 256, 320), ("project", 256, 512)):
        conv(f"aspp.{name}", out, into)
    conv("head", 21, 256)
    return found


@pytest.fixture(scope="module")
def teacher() -> DeepLabTeacher:
    return DeepLabTeacher(arrays())


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (4, 6)), ((50, 33), (4, 3))])
def test_scores_lie_at_a_sixteenth(
    teacher: DeepLabTeacher, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert teacher(torch.zeros(2, 3, *size)).shape == (2, len(TEACHER_NAMES), *grid)


def test_the_first_convolution_pads_as_tensorflow_does(teacher: DeepLabTeacher) -> None:
    """On an even side, nothing before and one pixel after."""
    image = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    ours = teacher._conv(image, "features.0.0", stride=2)
    weight, bias = (teacher._weights[f"features.0.0.{part}"] for part in ("weight", "bias"))
    expected = F.conv2d(F.pad(image, (0, 1, 0, 1)), weight, bias, stride=2)
    torch.testing.assert_close(ours, expected)


def test_labels_are_those_of_the_most_probable_class(teacher: DeepLabTeacher) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    sure, unsure = teacher.label(image, sure=0.0), teacher.label(image, sure=1.1)
    assert sure.shape == (40, 60)
    assert sure.max() < len(TEACHER_NAMES)
    assert (unsure == UNSURE).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights\.npz is missing: the recipe's teacher"):
        DeepLabTeacher.read(tmp_path / "weights.npz")


def test_a_photograph_is_labelled_once(tmp_path: Path) -> None:
    calls = []

    class Counting(DeepLabTeacher):
        def label(self, image: np.ndarray, sure: float) -> np.ndarray:
            calls.append(sure)
            return np.full(image.shape[:2], 7, np.uint8)

    def labels(sure: float, bias: float = 0.0) -> TeacherLabels:
        return TeacherLabels(Counting({"bias": torch.tensor(bias)}), tmp_path, sure=sure)

    one, other = np.zeros((2, 6, 5, 3), np.uint8)
    other = other + 1
    for image in (one, other, one):
        found = labels(0.7)(image)
        np.testing.assert_array_equal(found, np.full((6, 5), 7))
        assert found.dtype == np.uint8
    assert calls == [0.7, 0.7]
    assert labels(0.7).names == TEACHER_NAMES
    labels(0.8)(one)  # surer, or of other weights: computed again
    labels(0.7, bias=1.0)(one)
    assert calls == [0.7, 0.7, 0.8, 0.7]


@pytest.fixture(scope="module")
def imagenet() -> ImageNetTeacher:
    """A classifier that reads the first channel of the last map, whatever the backbone."""
    torch.manual_seed(0)

    class Channel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1]

    classify = nn.Linear(1, 3)
    with torch.no_grad():
        classify.weight.copy_(torch.tensor([[9.0], [0.0], [-9.0]]))
        classify.bias.zero_()
    names = [["crane", "wader"], ["tench"], ["crane", "derrick"]]
    return ImageNetTeacher(Plain(), Channel(), classify, names)


class Plain(nn.Module):
    """Stands for a backbone: the image's brightness at a thirty-second of its size, 6 or 0."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [F.avg_pool2d((images[:, :1] > 0).float() * 6, 32)]


def test_a_classifier_labels_each_place_by_itself(imagenet: ImageNetTeacher) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 48:] = 255
    labels = imagenet.label(image, sure=0.9)
    assert labels.dtype == np.uint16
    assert (labels[:, :40] == 65535).all()  # a third for each name: not sure
    assert (labels[:, 56:] == 0).all()


def test_names_that_occur_twice_are_one(imagenet: ImageNetTeacher) -> None:
    assert imagenet.names == ("crane", "tench")
    assert imagenet._position.tolist() == [0, 1, 0]
    assert imagenet.synonyms["crane"] == ("wader", "derrick")


def test_missing_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels\.txt is missing: the names of the recipe's"):
        ImageNetTeacher.read(tmp_path / "labels.txt")
