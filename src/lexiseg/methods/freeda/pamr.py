"""Pixel-adaptive mask refinement: scores spread to neighbours of a similar colour.

Letters beyond the library's: M neighbours of a pixel, 8 for each dilation.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexiseg.layers.maps import in_chunks

TEXTS_AT_ONCE = 30  # published
DILATIONS = (1, 2, 4, 8, 12, 24)
SHARPNESS = 0.1  # of the local deviation, beside which a difference of colours counts
EPSILON = 1e-8

_OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
_AROUND = tuple(offset for offset in _OFFSETS if offset != (0, 0))


def refine_under(
    image: Float[Tensor, "3 H W"], scores: Float[Tensor, "T H W"], *, iterations: int
) -> Float[Tensor, "T H W"]:
    """Scores of all texts after ``iterations`` under the colours of an image, RGB from 0 to 255."""
    affinity = pixel_affinity(image)

    def spread(part: Float[Tensor, "1 t H W"]) -> Float[Tensor, "1 t H W"]:
        return refine(part[0], affinity, iterations=iterations)[None]

    return in_chunks(spread, TEXTS_AT_ONCE, scores[None])[0]


def pixel_affinity(
    image: Float[Tensor, "C H W"], dilations: Sequence[int] = DILATIONS
) -> Float[Tensor, "M H W"]:
    """How much each pixel listens to each of its neighbours; of a pixel these add up to 1.

    Araslanov and Roth (CVPR 2020), eq. 6 and 7: the softmax over the neighbours of the difference
    of colours, beside the deviation of colours around.

    Args:
        image: RGB from 0 to 255.
        dilations: distances of the neighbours, in pixels.
    """
    around = torch.stack(list(_shifted(image, dilations, _AROUND)))
    centre = image[None].expand(len(dilations), *image.shape)  # it counts once for each dilation
    deviation = torch.cat([around, centre]).std(dim=0)
    difference = (around - image).abs()
    return (-difference / (EPSILON + SHARPNESS * deviation)).mean(dim=1).softmax(dim=0)


def refine(
    scores: Float[Tensor, "T H W"],
    affinity: Float[Tensor, "M H W"],
    *,
    iterations: int,
    dilations: Sequence[int] = DILATIONS,
) -> Float[Tensor, "T H W"]:
    """Scores after each pixel took the mean of its neighbours a few times.

    Args:
        scores: one map a text.
        affinity: of the image, as :func:`pixel_affinity` gives it.
        iterations: so many times.
        dilations: those of the affinity.
    """
    for _ in range(iterations):
        neighbours = zip(_shifted(scores, dilations, _AROUND), affinity, strict=True)
        total = torch.zeros_like(scores)
        for values, weight in neighbours:
            total = torch.addcmul(total, values, weight)
        scores = total
    return scores


def _shifted(
    maps: Float[Tensor, "C H W"],
    dilations: Sequence[int],
    offsets: Sequence[tuple[int, int]],
) -> Iterator[Float[Tensor, "C H W"]]:
    """The maps moved by each offset times each dilation; beyond the edge the edge goes on."""
    height, width = maps.shape[1:]
    for dilation in dilations:
        padded = F.pad(maps[None], [dilation] * 4, mode="replicate")[0]
        for y, x in offsets:
            top, left = dilation * (1 + y), dilation * (1 + x)
            yield padded[:, top : top + height, left : left + width]
