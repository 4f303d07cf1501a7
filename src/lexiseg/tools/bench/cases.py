"""The cases: how many labels, images of which size, how many at once, and what they are made of."""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexiseg.tools.bench.subjects import Subject

Case = tuple[int, int, int]  # labels, side asked for, batch


def cases(
    labels: Sequence[int], sizes: Sequence[int], batches: Sequence[int], *, one_at_a_time: bool
) -> list[Case]:
    """All of them, or those that differ from the first in one number alone."""
    every = list(product(labels, sizes, batches))
    if not one_at_a_time:
        return every
    return [case for case in every if sum(a != b for a, b in zip(case, every[0], strict=True)) <= 1]


def made_up_prompts(subject: Subject, count: int) -> list[list[str]]:
    """Labels in the model's own templates, or sentences as they are."""
    if subject.texts == "sentences":
        return [[f"the thing on the left of number {number}"] for number in range(count)]
    names = [f"thing number {number}" for number in range(count)]
    return [[each.replace("{}", name) for each in subject.templates] for name in names]


def made_up_images(batch: int, side: int) -> Float[Tensor, "B 3 H W"]:
    """Normalised images of soft colours, the same at every call."""
    noise = torch.Generator().manual_seed(0)
    coarse = torch.randn(batch, 3, 6, 6, generator=noise)
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
