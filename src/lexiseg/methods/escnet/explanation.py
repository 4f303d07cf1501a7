"""What ESC-Net saw on the way to its masks (the paper's figures 3 and 6)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lexiseg.methods.base import View
from lexiseg.methods.escnet.pseudo_prompts import PseudoPrompts


@dataclass(frozen=True)
class BlockView:
    """One ESC-block.

    Attributes:
        prompts: pseudo points and masks, on SAM's grid.
        entering: the correlation from which they were made.
        leaving: the correlation after the block; for the last block the logits.
        without_sam: what would have left it, had its SAM block been skipped.
    """

    prompts: PseudoPrompts
    entering: Float[Tensor, "B T H W"]
    leaving: Float[Tensor, "B T _ _"]
    without_sam: Float[Tensor, "B T _ _"]


@dataclass(frozen=True)
class Explanation:
    """All blocks in turn; the first one gets the cosines of patches and texts."""

    blocks: tuple[BlockView, ...]

    @property
    def correlation(self) -> Float[Tensor, "B T H W"]:
        """The cosines of patches and texts."""
        return self.blocks[0].entering

    @property
    def logits(self) -> Float[Tensor, "B T h w"]:
        """What the model answers."""
        return self.blocks[-1].leaving

    def views(self) -> Iterator[View]:
        """The same of the first image, as :meth:`SegmentationModel.views` gives it."""
        last = len(self.blocks)
        for number, block in enumerate(self.blocks, start=1):
            left = "logits" if number == last else "refined"
            points, masks = _prompts_of(block.prompts)
            yield View(f"block {number}, correlation", block.entering[0], points, masks)
            yield View(f"block {number}, {left} without SAM", block.without_sam[0])
            yield View(f"block {number}, {left}", block.leaving[0])


def _prompts_of(
    prompts: PseudoPrompts,
) -> tuple[tuple[Float[Tensor, "_ 2"], ...], tuple[Bool[Tensor, "_ h w"], ...]]:
    """Of each text the valid points, as parts of the width and height, and masks."""
    height, width = prompts.masks.shape[-2:]
    size = torch.tensor([width, height], device=prompts.points.device)
    middles = (prompts.points[0] + 0.5) / size
    valid = prompts.valid[0]
    points = tuple(middles[text, valid[text]] for text in range(len(valid)))
    return points, tuple(prompts.masks[0, text, valid[text]] for text in range(len(valid)))
