"""Linear layers that reach the speed of the processor, whoever made it."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

LEAST_ROWS = 128  # below, putting the weights into oneDNN's order costs more than it brings
LEAST_CHANNELS = 32
BLOCK = 192  # so many channels are summed up in a row, as MKL does
# A kernel of one cell has nothing to dilate; but with a dilation PyTorch takes oneDNN even where it
# runs on a single thread.
DILATION = 2

_MKL = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


class Linear(nn.Linear):
    """``torch.nn.Linear``, by :func:`linear`."""

    def forward(self, input: Float[Tensor, "*B D"]) -> Float[Tensor, "*B K"]:
        """Each row transformed by itself."""
        return linear(input, self.weight, self.bias)


class Pointwise(nn.Conv2d):
    """A convolution with a kernel of one cell: a linear layer on the channels of each cell."""

    def __init__(self, before: int, after: int, *, bias: bool = True) -> None:
        super().__init__(before, after, 1, bias=bias)

    def forward(self, input: Float[Tensor, "B D h w"]) -> Float[Tensor, "B K h w"]:
        """Each cell transformed by itself."""
        return pointwise(input, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*B D"],
    weight: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, "*B K"]:
    """The product of each row with the weights, as ``torch.nn.functional.linear`` gives it.

    On a CPU PyTorch leaves products to MKL, which keeps its widest instructions for Intel's
    processors, and convolutions to oneDNN, which uses them on AMD's too
    (https://github.com/pytorch/builder/issues/504). So a large product is asked for as the
    convolution that it is equal to: up to twice as fast, see docs/performance.md. It is summed up
    in blocks, as MKL does: oneDNN by itself would round twice as much away.
    """
    rows = x.numel() // x.shape[-1]
    if not _MKL or not _pays(x, weight, rows):
        return F.linear(x, weight, bias)
    total: Tensor | None = None
    blocks = x.reshape(1, rows, 1, -1).split(BLOCK, dim=-1)
    for block, of_block in zip(blocks, weight.split(BLOCK, dim=1), strict=True):
        cells = rearrange(block.contiguous(), "B h w D -> B D h w")  # channels last
        kernel = rearrange(of_block, "K D -> K D 1 1")
        product = pointwise(cells, kernel, bias if total is None else None)
        total = product if total is None else total.add_(product)
    assert total is not None
    return rearrange(total, "B K h w -> B h w K").reshape(*x.shape[:-1], -1)


def pointwise(
    x: Float[Tensor, "B D h w"],
    weight: Float[Tensor, "K D 1 1"],
    bias: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, "B K h w"]:
    """The convolution with a kernel of one cell, by oneDNN on any number of threads.

    With gradients, and in compiled and exported graphs, it is as PyTorch takes it.
    """
    plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return F.conv2d(x, weight, bias, dilation=1 if plain else DILATION)


def _pays(x: Float[Tensor, "*B D"], weight: Float[Tensor, "K D"], rows: int) -> bool:
    if torch.compiler.is_compiling():  # graphs keep a product, and any number of rows
        return False
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and rows >= LEAST_ROWS
        and min(weight.shape) >= LEAST_CHANNELS
        and (weight.shape[1] <= BLOCK or weight.shape[0] <= weight.shape[1])  # sums are not free
        and not torch.is_grad_enabled()
    )
