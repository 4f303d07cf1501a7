"""The rounds: ESC-blocks one after the other, then the decoder; with all of it explained.

Letters beyond the library's: D channels of SAM, H W patches, h w cells of SAM's grid, t texts of a
chunk, I images (B counts pairs of image and text where texts are kept apart), F text features.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.cost import CostSkip
from lexiseg.layers.decoder import Decoder
from lexiseg.layers.maps import in_chunks
from lexiseg.methods.escnet.blocks import ESCBlock
from lexiseg.methods.escnet.boundary import BoundaryRefinement
from lexiseg.methods.escnet.explanation import BlockView, Explanation
from lexiseg.methods.escnet.fusion import OfTexts
from lexiseg.methods.escnet.pseudo_prompts import PseudoPrompts

Guidance = Sequence[Float[Tensor, "I _ _ _"]]
Round = tuple[Float[Tensor, "B D h w"], Float[Tensor, "B T H W"]]


class Rounds(nn.Module):
    """From image features and the cosines of all texts to their logits.

    Args:
        blocks: of which the last gives the decoder all channels of its fusion.
        decoder: doubles the grid under the encoder's middle layers.
        boundary: doubles it once more under the pixels, or None.
        skip: adds the correlation of the last block to the logits, or None.
        texts_apart: True where each text gets an image of its own, False where all share one.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[ESCBlock],
        decoder: Decoder,
        boundary: BoundaryRefinement | None,
        skip: CostSkip | None,
        texts_apart: bool,
    ) -> None:
        super().__init__()
        self.texts_apart = texts_apart
        self.blocks = nn.ModuleList(blocks)
        self.decoder = decoder
        self.boundary = boundary
        self.skip = skip

    def forward(
        self,
        image: Float[Tensor, "I D h w"],
        correlation: Float[Tensor, "I T H W"],
        guidance: Guidance,
        text_features: Float[Tensor, "T F"],
        *,
        class_chunk: int | None,
        adaptive_depth: float | None,
    ) -> Float[Tensor, "I T _ _"]:
        """Logits of all texts.

        Args:
            image: the encoder's patches, projected for SAM.
            correlation: cosines.
            guidance: of :meth:`project_guidance`.
            text_features: of length one.
            class_chunk: texts worked on at a time; None for all.
            adaptive_depth: see :class:`~lexiseg.methods.escnet.model.ESCNet`.
        """
        of_texts = self._of_texts(text_features)

        def run(entering: Round, chunk: int | None) -> Float[Tensor, "I t _ _"]:
            *_, last = self._rounds(*entering, of_texts, chunk, adaptive_depth)
            seen = self._last().see(*last, class_chunk=chunk, recompute=self.training)
            return self._answer(seen, last[1], of_texts[-1], guidance, chunk)

        if not self.texts_apart:
            return run((image, correlation), class_chunk)
        return in_chunks(
            lambda part: run(_as_pairs(image, part), None),
            class_chunk,
            correlation,
            recompute=self.training,
        )

    @torch.no_grad()
    def explain(
        self,
        image: Float[Tensor, "I D h w"],
        correlation: Float[Tensor, "I T H W"],
        guidance: Guidance,
        text_features: Float[Tensor, "T F"],
        *,
        class_chunk: int | None,
        adaptive_depth: float | None,
    ) -> Explanation:
        """What each block got, prompted and gave, with and without its SAM block."""
        images, of_texts = len(image), self._of_texts(text_features)
        if self.texts_apart:
            image, correlation = _as_pairs(image, correlation)
        rounds = list(self._rounds(image, correlation, of_texts, class_chunk, adaptive_depth))
        views = []
        for index, (image, correlation) in enumerate(rounds):
            block = cast(ESCBlock, self.blocks[index])
            if index + 1 < len(rounds):
                leaving = rounds[index + 1][1]
                without = block.refine(image, correlation, of_texts[index], class_chunk=class_chunk)
            else:
                seen = block.see(image, correlation, class_chunk=class_chunk)
                leaving, without = (
                    self._answer(each, correlation, of_texts[index], guidance, class_chunk)
                    for each in (seen, image)
                )
            prompts = block.generate(correlation)
            views.append(_as_images(images, prompts, correlation, leaving, without))
        return Explanation(tuple(views))

    def project_guidance(
        self,
        intermediates: Sequence[Float[Tensor, "I _ _ _"]],
        images: Float[Tensor, "I 3 _ _"],
        cells: tuple[int, int],
    ) -> Guidance:
        """What guides the decoder and the boundary refinement, the same for all texts."""
        guidance = self.decoder.project_guidance(intermediates, cells)
        if self.boundary is not None:
            factor = 2 ** (len(guidance) + 1)
            size = (factor * cells[0], factor * cells[1])
            guidance.append(self.boundary.project_pixels(images, size))
        return guidance

    def _of_texts(self, text_features: Float[Tensor, "T F"]) -> list[OfTexts]:
        blocks = cast(Iterable[ESCBlock], self.blocks)
        return [block.fusion.project_texts(text_features) for block in blocks]

    def _last(self) -> ESCBlock:
        return cast(ESCBlock, self.blocks[-1])

    def _rounds(
        self,
        image: Float[Tensor, "B D h w"],
        correlation: Float[Tensor, "B T H W"],
        of_texts: Sequence[OfTexts],
        chunk: int | None,
        adaptive_depth: float | None,
    ) -> Iterator[Round]:
        """Image and correlation that enter each block."""
        yield image, correlation
        active = torch.arange(len(image), device=image.device)
        recompute = self.training
        blocks = cast(list[ESCBlock], list(self.blocks))
        for block, of_block in zip(blocks[:-1], of_texts[:-1], strict=True):
            if len(active):
                before = correlation[active]
                seen = block.see(image[active], before, class_chunk=chunk, recompute=recompute)
                after = block.refine(seen, before, of_block, class_chunk=chunk, recompute=recompute)
                image = image.index_copy(0, active, seen)
                correlation = correlation.index_copy(0, active, after)
                if adaptive_depth is not None:
                    change = (after - before).abs().mean(dim=(2, 3)).amax(dim=1)
                    active = active[change > adaptive_depth]
            yield image, correlation

    def _answer(
        self,
        image: Float[Tensor, "B D h w"],
        correlation: Float[Tensor, "B T H W"],
        of_texts: OfTexts,
        guidance: Guidance,
        chunk: int | None,
    ) -> Float[Tensor, "I _ _ _"]:
        """Logits of the last block: its fusion and the decoder, chunk by chunk."""
        fusion = self._last().fusion
        of_image = fusion.project_image(image)
        stages = len(self.decoder.stages)

        def run(part: Float[Tensor, "B t H W"]) -> Float[Tensor, "I _ _ _"]:
            maps = fusion(part, of_image, of_texts)
            maps = rearrange(maps, "(I p) t h w C -> I (p t) h w C", I=len(guidance[0]))
            logits = self.decoder.decode(maps, guidance[:stages])
            if self.boundary is not None:
                logits = self.boundary(logits, guidance[stages])
            if self.skip is None:
                return logits
            return self.skip(logits, rearrange(part, "(I p) t H W -> I (p t) H W", I=len(logits)))

        if self.texts_apart:  # the pairs of an image come together in its logits
            return run(correlation)
        return in_chunks(run, chunk, correlation, recompute=self.training)


def _as_pairs(
    image: Float[Tensor, "I D h w"], correlation: Float[Tensor, "I t H W"]
) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B 1 H W"]]:
    """Each text of an image as an image of its own with one text: then the mean is its own."""
    of_pairs = repeat(image, "I D h w -> (I t) D h w", t=correlation.shape[1])
    return of_pairs, rearrange(correlation, "I t H W -> (I t) 1 H W")


def _as_images(
    images: int, prompts: PseudoPrompts, entering: Tensor, leaving: Tensor, without: Tensor
) -> BlockView:
    """Pairs as images with texts again; images with texts as they are."""

    def whole(x: Tensor) -> Tensor:
        return rearrange(x, "(I p) t ... -> I (p t) ...", I=images)

    prompts = PseudoPrompts(whole(prompts.points), whole(prompts.masks), whole(prompts.valid))
    return BlockView(prompts, whole(entering), whole(leaving), whole(without))
