"""Pseudo prompt generator: correlation maps become points and masks, all texts at once.

Every step is exact or elementwise, and ties go to the lowest index, so that all texts at once give
bit for bit what one after the other gives.

Letters: B images, T texts, K clusters, N cells row by row.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

ITERATIONS = 10


@dataclass(frozen=True)
class PseudoPrompts:
    """Points and masks of each text; what is not valid is no prompt.

    Attributes:
        points: x and y of a cell.
        masks: True on the cells of the point's cluster; all False where it is not valid.
        valid: True where there is a cluster.
    """

    points: Int[Tensor, "B T K 2"]
    masks: Bool[Tensor, "B T K h w"]
    valid: Bool[Tensor, "B T K"]

    def without(self) -> "PseudoPrompts":
        """The same with nothing valid, which is a SAM block without prompts."""
        none = torch.zeros_like
        return PseudoPrompts(self.points, none(self.masks), none(self.valid))


@torch.no_grad()
def pseudo_prompts(
    correlation: Float[Tensor, "B T h w"], *, clusters: int = 5, ratio: float = 1.04
) -> PseudoPrompts:
    """Points and masks where a text fits better than elsewhere in the image; no gradient.

    A softmax over the cells of each map gives probabilities, a threshold the cells that are on,
    k-means on their coordinates the clusters. A cluster is a mask, its most probable cell a point.

    Args:
        correlation: of patches and texts, of any offset.
        clusters: at most so many prompts a text (the paper's N_o).
        ratio: a cell is on where it is so many times as probable as in a flat map (the paper's
            alpha, which it does not report).
    """
    grid = correlation.shape[-2:]
    scores = rearrange(correlation, "B T h w -> B T (h w)").contiguous()
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    on = scores.softmax(dim=-1) > ratio / scores.shape[-1]
    x, y = _coordinates((grid[0], grid[1]), scores)
    member = _k_means(scores, on, x, y, clusters)
    valid = member.any(dim=-1)
    best = _first_largest(scores[:, :, None].expand(-1, -1, clusters, -1), member)
    points = torch.stack([best % grid[1], best // grid[1]], dim=-1)
    masks = rearrange(member, "B T K (h w) -> B T K h w", h=grid[0])
    return PseudoPrompts(points * valid[..., None], masks, valid)


def _coordinates(
    grid: tuple[int, int], like: Tensor
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    y = torch.arange(grid[0], dtype=like.dtype, device=like.device)
    x = torch.arange(grid[1], dtype=like.dtype, device=like.device)
    return x.repeat(grid[0]), y.repeat_interleave(grid[1])


def _k_means(
    scores: Float[Tensor, "B T N"],
    on: Bool[Tensor, "B T N"],
    x: Float[Tensor, " N"],
    y: Float[Tensor, " N"],
    clusters: int,
) -> Bool[Tensor, "B T K N"]:
    """Which cell belongs to which cluster; a cluster may stay empty.

    The first centre is the most probable cell, each next one the cell farthest from all before it:
    random centres leave one of five separate regions without a point in most trials.
    """
    centre_x, centre_y = _farthest_first(scores, on, x, y, clusters)
    for _ in range(ITERATIONS):
        member = _nearest(centre_x, centre_y, x, y) & on[:, :, None]
        # Sums of whole numbers, which are exact in any order.
        count = member.sum(dim=-1)
        empty = count == 0
        size = count.clamp(min=1).to(x.dtype)
        centre_x = torch.where(empty, centre_x, (member * x).sum(dim=-1) / size)
        centre_y = torch.where(empty, centre_y, (member * y).sum(dim=-1) / size)
    return _nearest(centre_x, centre_y, x, y) & on[:, :, None]


def _farthest_first(
    scores: Float[Tensor, "B T N"],
    on: Bool[Tensor, "B T N"],
    x: Float[Tensor, " N"],
    y: Float[Tensor, " N"],
    clusters: int,
) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B T K"]]:
    """Where the clusters begin; with fewer cells than clusters some begin at the same cell."""
    centres = [_first_largest(scores, on)]
    distance = _distance(x[centres[0]][..., None], y[centres[0]][..., None], x, y)
    for _ in range(clusters - 1):
        farthest = _first_largest(distance, on)
        centres.append(farthest)
        to_new = _distance(x[farthest][..., None], y[farthest][..., None], x, y)
        distance = torch.minimum(distance, to_new)
    cells = torch.stack(centres, dim=-1)
    return x[cells], y[cells]


def _nearest(
    centre_x: Float[Tensor, "B T K"],
    centre_y: Float[Tensor, "B T K"],
    x: Float[Tensor, " N"],
    y: Float[Tensor, " N"],
) -> Bool[Tensor, "B T K N"]:
    """True at the nearest centre of a cell, the first of several."""
    distance = _distance(centre_x[..., None], centre_y[..., None], x, y)
    nearest = distance == distance.amin(dim=2, keepdim=True)
    return nearest & (nearest.cumsum(dim=2) == 1)


def _distance(
    from_x: Float[Tensor, "*B 1"],
    from_y: Float[Tensor, "*B 1"],
    x: Float[Tensor, " N"],
    y: Float[Tensor, " N"],
) -> Float[Tensor, "*B N"]:
    """Squared."""
    return (x - from_x).square() + (y - from_y).square()


def _first_largest(values: Float[Tensor, "*B N"], among: Bool[Tensor, "*B N"]) -> Int[Tensor, "*B"]:
    """The first index of the largest value among some; 0 where there are none."""
    masked = values.masked_fill(~among, -torch.inf)
    largest = (masked == masked.amax(dim=-1, keepdim=True)) & among
    index = torch.arange(values.shape[-1], device=values.device)
    first = torch.where(largest, index, values.shape[-1]).amin(dim=-1)
    return first * largest.any(dim=-1)
