"""The patch-text cost."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

LEFT_OUT = -100.0  # logit of a text that did not take part, as CAT-Seg published it


def cosine_cost(
    patch_features: Float[Tensor, "B D h w"], text_features: Float[Tensor, "T D"]
) -> Float[Tensor, "B T h w"]:
    """Cosine of each patch and each text, between -1 and 1.

    Args:
        patch_features: of any length.
        text_features: of length one.
    """
    return torch.einsum("bdhw,td->bthw", F.normalize(patch_features, dim=1), text_features)


def best_texts(cost: Float[Tensor, "T h w"], at_most: int) -> Int[Tensor, " K"]:
    """The texts whose cosine is highest anywhere in an image, in their order."""
    return cost.amax(dim=(-2, -1)).topk(at_most).indices.sort().values


def of_best_texts(
    refine: Callable[[int, Int[Tensor, " K"]], Float[Tensor, "1 K _ _"]],
    cost: Float[Tensor, "B T h w"],
    at_most: int,
) -> Float[Tensor, "B T _ _"]:
    """Logits where the best texts alone take part in an image; the others get -100 (CAT-Seg).

    Args:
        refine: logits of an image, by its number, and of some texts, by theirs.
        cost: cosines of all.
        at_most: so many texts take part.
    """
    results = []
    for index, of_image in enumerate(cost):
        best = best_texts(of_image, at_most)
        logits = refine(index, best)
        everywhere = logits.new_full((1, cost.shape[1], *logits.shape[2:]), LEFT_OUT)
        results.append(everywhere.index_copy(1, best, logits))
    return torch.cat(results)


class CostSkip(nn.Module):
    """The raw cost beside a head's logits, so that the head learns what to change in it.

    Args:
        gain: factor of the cosines at first.
        offset: added at first; negative, because a text fits few of the places.
    """

    def __init__(self, *, gain: float = 15.0, offset: float = -4.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(
        self, logits: Float[Tensor, "B T H W"], cost: Float[Tensor, "B T h w"]
    ) -> Float[Tensor, "B T H W"]:
        """Their sum, on the grid of the logits."""
        fine = F.interpolate(cost, size=logits.shape[-2:], mode="bilinear")
        return logits + self.gain * fine + self.offset
