"""Who has each pixel at the picture's own size, found a few texts at a time."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexiseg.methods.base import Protocol

# Of scores at full size, so many numbers are held at a time: 64 MB.
_CHUNK_NUMBERS = 16_000_000


@torch.inference_mode()
def winners(
    view: Float[Tensor, "T h w"], size: tuple[int, int], protocol: Protocol, *, keep: int
) -> tuple[Float[np.ndarray, "H W"], Int64[np.ndarray, "H W"], Float[np.ndarray, "_ H W"] | None]:
    """The best score of each pixel, the text that has it, and the maps of the first texts.

    Args:
        view: scores on the prepared image's grid, or logits where the protocol blends those.
        size: (height, width) of the picture.
        protocol: says how the grid is brought to that size.
        keep: so many maps are kept; None comes for 0.
    """
    height, width = size
    restore = protocol.preprocess.restore
    blended = protocol.logits_blended
    total = torch.full((height, width), -torch.inf, device=view.device)
    kept = np.empty((keep, height, width), dtype=np.float32) if keep else None
    best = torch.full((height, width), -torch.inf, device=view.device)
    winner = torch.zeros((height, width), dtype=torch.int64, device=view.device)
    step = max(1, _CHUNK_NUMBERS // (height * width))
    for start in range(0, len(view), step):
        full = restore(view[start : start + step].float(), (height, width))
        if kept is not None and start < keep:
            kept[start : start + step] = full[: keep - start].cpu().numpy()
        score, position = full.max(dim=0)
        winner = torch.where(score > best, position + start, winner)
        best = torch.maximum(score, best)
        if blended:
            total = torch.logaddexp(total, full.logsumexp(dim=0))
    if blended:  # a text's score is its part of the softmax over all texts
        best = (best - total).exp()
        if kept is not None:
            kept = np.exp(kept - total.cpu().numpy())
    return best.cpu().numpy(), winner.cpu().numpy(), kept
