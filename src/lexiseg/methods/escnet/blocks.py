"""The ESC-block: pseudo prompts drive SAM's two-way layers, whose image guides the correlation.

correlation ─┬─ pseudo_prompts.py ─ SAMBlock ─ mean over texts ─ image ─┐
             └───────────────────────────────────────────────── fusion.py ─ correlation

Letters beyond the library's: D channels of SAM, K pseudo prompts of a text, t texts of a chunk.
"""

from collections.abc import Iterator

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.sam_prompts import FOREGROUND, MASK_STRIDE, NO_POINT, PromptEncoder
from lexiseg.encoders.sam_transformer import run_layers, two_way_layers
from lexiseg.layers.maps import each_chunk, in_chunks
from lexiseg.methods.escnet.fusion import OfTexts, VisionLanguageFusion
from lexiseg.methods.escnet.pseudo_prompts import PseudoPrompts, pseudo_prompts


class SAMBlock(nn.Module):
    """SAM's prompt encoder and two-way layers, driven by pseudo prompts (the paper's SA and BCA).

    Args:
        dim: channels.
        heads: of each attention.
        hidden: width of the tokens' MLPs.
        depth: number of layers.
        mask_scale: what a cell of a pseudo mask is worth; SAM was trained on logits.
    """

    def __init__(
        self, *, dim: int, heads: int, hidden: int, depth: int = 2, mask_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.mask_scale = mask_scale
        self.prompts = PromptEncoder(dim)
        self.layers = two_way_layers(dim=dim, depth=depth, heads=heads, hidden=hidden)

    def forward(
        self, image: Float[Tensor, "B D h w"], prompts: PseudoPrompts
    ) -> Float[Tensor, "B t D h w"]:
        """The image as each text's prompts change it."""
        texts = prompts.valid.shape[1]
        grid = (image.shape[2], image.shape[3])
        cells = rearrange(image, "B D h w -> B 1 D h w") + self.encode_masks(prompts)
        _, changed = run_layers(
            self.layers,
            self.encode_points(prompts),
            rearrange(cells, "B t D h w -> (B t) (h w) D"),
            rearrange(self.prompts.dense_positions(grid), "D h w -> (h w) D"),
        )
        return rearrange(changed, "(B t) (h w) D -> B t D h w", t=texts, h=grid[0])

    def encode_points(self, prompts: PseudoPrompts) -> Float[Tensor, "Bt K D"]:
        """A token a point: a cell is a pixel of an image of the grid's size."""
        flat = rearrange(prompts.points, "B t K xy -> (B t) K xy").to(self.prompts.frequencies)
        labels = torch.where(rearrange(prompts.valid, "B t K -> (B t) K"), FOREGROUND, NO_POINT)
        height, width = prompts.masks.shape[-2:]
        return self.prompts.encode_points(flat, labels.to(flat), (height, width))

    def encode_masks(self, prompts: PseudoPrompts) -> Float[Tensor, "B t D h w"]:
        """The mean of the dense prompts of a text's masks, or that of no mask.

        A mask enlarged to SAM's four times finer grid is constant within a cell, and SAM's
        convolutions look at one cell at a time: so they are run on one cell off and one cell on.
        """
        pair = self.prompts.frequencies.new_tensor([0.0, self.mask_scale])
        pair = repeat(pair, "w -> 1 1 a (w b)", a=MASK_STRIDE, b=MASK_STRIDE)
        off, on = rearrange(self.prompts.mask_downscaling(pair), "1 D 1 w -> w 1 1 D 1 1")
        count = reduce(prompts.valid, "B t K -> B t 1 1 1", "sum")
        share = reduce(prompts.masks, "B t K h w -> B t 1 h w", "sum") / count.clamp(min=1).to(on)
        without = rearrange(self.prompts.no_mask.weight, "1 D -> 1 1 D 1 1")
        return torch.where(count > 0, off + share.to(on) * (on - off), without)


class ESCBlock(nn.Module):
    """One round: prompts from the correlation, SAM, vision-language fusion (the paper's figure 2).

    Args:
        sam: driven by the prompts.
        fusion: refines the correlation.
        dim: channels of SAM.
        clusters: most pseudo prompts of a text.
        ratio: threshold of the pseudo prompts.
        stride: patches to a cell of SAM's grid.
    """

    def __init__(
        self,
        *,
        sam: SAMBlock,
        fusion: VisionLanguageFusion,
        dim: int,
        clusters: int,
        ratio: float,
        stride: int,
    ) -> None:
        super().__init__()
        self.clusters, self.ratio, self.stride = clusters, ratio, stride
        self.sam = sam
        self.aggregate = nn.Conv2d(dim, dim, 1)
        self.fusion = fusion

    def generate(self, correlation: Float[Tensor, "B t H W"]) -> PseudoPrompts:
        """Pseudo prompts on SAM's grid."""
        cells = reduce(
            correlation, "B t (h i) (w j) -> B t h w", "mean", i=self.stride, j=self.stride
        )
        return pseudo_prompts(cells, clusters=self.clusters, ratio=self.ratio)

    def see(
        self,
        image: Float[Tensor, "B D h w"],
        correlation: Float[Tensor, "B T H W"],
        *,
        class_chunk: int | None = None,
        recompute: bool = False,
        prompts: PseudoPrompts | None = None,
    ) -> Float[Tensor, "B D h w"]:
        """The image features after SAM has seen the prompts of all texts.

        The paper's convolution over the concatenated texts, for any number of them: the mean over
        the texts that have a prompt, one 1x1 convolution, added to what came. Without any prompt
        the image stays as it is.

        Args:
            image: features.
            correlation: from which the prompts are generated.
            class_chunk: texts worked on at a time.
            recompute: as in :func:`~lexiseg.layers.maps.each_chunk`.
            prompts: instead of those of the correlation; only without ``class_chunk``.
        """

        def run(part: Float[Tensor, "B t H W"]) -> Float[Tensor, "B D1 h w"]:
            of_part = prompts or self.generate(part)
            prompted = of_part.valid.any(dim=-1)[:, :, None, None, None].to(image)
            total = (self.sam(image, of_part) * prompted).sum(dim=1)
            count = prompted.sum(dim=1).expand(-1, 1, *image.shape[2:])
            return torch.cat([total, count], dim=1)

        # A sum over the chunks: nothing of all texts lies there at once.
        sums = _sum(each_chunk(run, class_chunk, correlation, recompute=recompute))
        total, count = sums[:, :-1], sums[:, -1:]
        change = self.aggregate(total / count.clamp(min=1))
        return image + torch.where(count > 0, change, 0)

    def refine(
        self,
        image: Float[Tensor, "B D h w"],
        correlation: Float[Tensor, "B T H W"],
        of_texts: OfTexts,
        *,
        class_chunk: int | None = None,
        recompute: bool = False,
    ) -> Float[Tensor, "B T H W"]:
        """The correlation after the fusion."""
        of_image = self.fusion.project_image(image)

        def run(part: Float[Tensor, "B t H W"]) -> Float[Tensor, "B t H W"]:
            return self.fusion.read(self.fusion(part, of_image, of_texts), part)

        return in_chunks(run, class_chunk, correlation, recompute=recompute)


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total
