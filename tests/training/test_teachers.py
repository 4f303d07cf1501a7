from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.training.teachers import TEACHER_NAMES, UNSURE, DeepLabTeacher, TeacherLabels

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


def test_a_photograph_is_labelled_once() -> None:
    calls = []

    class Counting(DeepLabTeacher):
        def label(self, image: np.ndarray, sure: float) -> np.ndarray:
            calls.append(sure)
            return np.full(image.shape[:2], 7, np.uint8)

    labels = TeacherLabels(Counting({}), sure=0.7)
    one, other = np.zeros((2, 6, 5, 3), np.uint8)
    other = other + 1
    for image in (one, other, one):
        np.testing.assert_array_equal(labels(image), np.full((6, 5), 7))
    assert calls == [0.7, 0.7]
    assert labels.names == TEACHER_NAMES
