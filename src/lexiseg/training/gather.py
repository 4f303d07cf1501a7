"""What a loss across samples needs of the other processes' samples."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def gather_rows(rows: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "N D"], int]:
    """The rows of all processes in the order of the batch, and where this process's begin.

    Gradients flow back to the process that a row came from. A contrastive loss takes its own rows
    against everybody's, as a mean over its own: the mean over processes is then the loss of the
    whole batch, and so is its gradient. Parts of an accumulated step do not see each other.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    everyone: Tensor = _Gather.apply(rows)
    return everyone, dist.get_rank() * len(rows)


class _Gather(torch.autograd.Function):
    """``all_gather``, whose gradient is the sum of what every process found."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        own = len(total) // dist.get_world_size()
        first = dist.get_rank() * own
        return total[first : first + own]
