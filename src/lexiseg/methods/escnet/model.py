"""ESC-Net on any encoder whose patches and texts share one space.

Letters beyond the library's: D channels of SAM, H W patches, h w cells of SAM's grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.encoders.base import Encoder, encode_labels
from lexiseg.encoders.clip import clip_vitb16, clip_vitl14_336
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import complete
from lexiseg.layers.cost import CostSkip, cosine_cost, of_best_texts
from lexiseg.layers.decoder import Decoder, fit
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, View
from lexiseg.methods.clip_protocols import whole_image, windows
from lexiseg.methods.escnet.blocks import ESCBlock, SAMBlock
from lexiseg.methods.escnet.boundary import BoundaryRefinement
from lexiseg.methods.escnet.checkpoints import initialise
from lexiseg.methods.escnet.explanation import Explanation
from lexiseg.methods.escnet.fusion import VisionLanguageFusion
from lexiseg.methods.escnet.rounds import Guidance, Rounds
from lexiseg.registry import register_model
from lexiseg.weights import KeyFate, metadata_of

CLASS_FUSIONS = ("mean", "none")

CLASS_CHUNK = 8


@dataclass(frozen=True)
class ESCNetConfig:
    """Sizes and choices of the head; the defaults are for ViT-B/16.

    Attributes:
        intermediates: layers of the encoder that guide the decoder, for its coarsest stage first.
        guidance_widths: their widths.
        guidance_projected: widths beside the decoder's own.
        decoder_widths: of the decoder's stages, each of which doubles the grid.
        blocks: number of ESC-blocks.
        clusters: most pseudo prompts of a text in a block.
        ratio: a cell can be a prompt where it is so many times as probable as in a flat map.
        sam_width: channels of SAM's layers.
        sam_heads: of their attentions.
        sam_hidden: width of their MLPs.
        sam_depth: two-way layers in a block.
        mask_scale: what a cell of a pseudo mask is worth.
        class_fusion: "mean" makes one image of what SAM saw for all texts, "none" gives each text
            its own.
        hidden: width of a lifted correlation.
        heads: of the fusion's attentions.
        window: side of a Swin window, in cells.
        cost_stride: patches to a cell of SAM's grid and of the fusion.
        boundary_refinement: double the logits once more under the image's pixels; ours.
        cost_skip: begin with the last block's correlation as the logits; ours.
    """

    intermediates: tuple[int, ...] = (3, 7)
    guidance_widths: tuple[int, ...] = (768, 768)
    guidance_projected: tuple[int, ...] = (32, 16)
    decoder_widths: tuple[int, ...] = (64, 32)
    blocks: int = 4
    clusters: int = 5
    ratio: float = 1.04
    sam_width: int = 256
    sam_heads: int = 8
    sam_hidden: int = 2048
    sam_depth: int = 2
    mask_scale: float = 1.0
    class_fusion: str = "mean"
    hidden: int = 128
    heads: int = 4
    window: int = 12
    cost_stride: int = 1
    boundary_refinement: bool = False
    cost_skip: bool = False

    def __post_init__(self) -> None:
        of_stages = (self.intermediates, self.guidance_widths, self.guidance_projected)
        if {len(numbers) for numbers in of_stages} != {len(self.decoder_widths)}:
            raise ValueError(
                "intermediates, guidance_widths, guidance_projected and decoder_widths hold one "
                f"number for each decoder stage, but came with {[len(n) for n in of_stages]} and "
                f"{len(self.decoder_widths)}"
            )
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be split into {self.heads} heads")
        if min(self.blocks, self.clusters) < 1:
            raise ValueError(
                f"blocks {self.blocks} and clusters {self.clusters} came; give at least 1 of each"
            )
        if self.class_fusion not in CLASS_FUSIONS:
            raise ValueError(
                f"unknown class_fusion {self.class_fusion!r}; choose one of "
                f"{', '.join(CLASS_FUSIONS)}"
            )


class ESCNet(SegmentationModel):
    """ESC-Net (CVPR 2025): prompts from the correlation, SAM's layers, fusion, N times.

    Texts meet in sums alone, so memory grows with ``class_chunk`` and not with the texts: of all
    texts only the correlation and the logits lie there at once. In training, each of several chunks
    is computed again in the backward pass instead of being kept.

    Args:
        encoder: image and text tower in one space; a module.
        config: sizes and choices of the head.
        protocols: ways to prepare an image.
        templates: sentences into which a label is put.
        class_chunk: texts worked on at a time; None for all. The result is the same.
        adaptive_depth: go on to the last block with an image (with ``class_fusion="none"`` with
            a text of an image) as soon as a block changes no text's correlation by more than this,
            as a mean over the patches; None runs all blocks. Ours, from the paper's outlook.

    Attributes:
        key_fates: after :meth:`initialise`, where each tensor of the files went.
    """

    activation: ClassVar[Activation] = "sigmoid"
    exclusive: ClassVar[bool] = True
    parts = ("clip", "sam")

    def __init__(
        self,
        encoder: Encoder,
        config: ESCNetConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        templates: Sequence[str] = ("A photo of a {} in the scene",),
        class_chunk: int | None = None,
        adaptive_depth: float | None = None,
    ) -> None:
        super().__init__()
        config = config or ESCNetConfig()
        self.config = config
        self.protocols = protocols
        self.templates = tuple(templates)
        self.class_chunk = class_chunk
        self.adaptive_depth = adaptive_depth
        self.encoder = encoder
        self.image_projection = nn.Conv2d(
            encoder.dim, config.sam_width, 3, stride=config.cost_stride, padding=1
        )
        self.rounds = Rounds(
            blocks=[
                _build_block(config, encoder.dim, last=index == config.blocks - 1)
                for index in range(config.blocks)
            ],
            decoder=Decoder(
                hidden=config.hidden,
                guidance_maps=config.guidance_widths,
                guidance_projected=config.guidance_projected,
                widths=config.decoder_widths,
                upsampling="bilinear",
            ),
            boundary=BoundaryRefinement() if config.boundary_refinement else None,
            skip=CostSkip() if config.cost_skip else None,
            texts_apart=config.class_fusion == "none",
        )
        if config.cost_skip:
            nn.init.zeros_(self.rounds.decoder.head.weight)
            nn.init.zeros_(cast(Tensor, self.rounds.decoder.head.bias))

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """The mean direction of each label's prompts, with gradients into the text tower."""
        return Texts(encode_labels(self.encoder, prompts))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits, on a grid four times as fine as SAM's (with two decoder stages).

        With ``texts.at_most``, the texts with the highest cosine anywhere in an image take part and
        the others get the logit -100.
        """
        image, correlation, guidance = self._look(images, texts)
        if texts.at_most is None or len(texts) <= texts.at_most:
            return self.rounds(image, correlation, guidance, texts.features, **self._options())

        def refine(index: int, best: Int[Tensor, " K"]) -> Float[Tensor, "1 K h w"]:
            one = slice(index, index + 1)
            return self.rounds(
                image[one],
                correlation[one, best],
                [maps[one] for maps in guidance],
                texts.features[best],
                **self._options(),
            )

        return of_best_texts(refine, correlation, texts.at_most)

    @torch.no_grad()
    def explain(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Explanation:
        """What each block got, prompted and gave, with and without its SAM block; for all texts."""
        image, correlation, guidance = self._look(images, texts)
        return self.rounds.explain(image, correlation, guidance, texts.features, **self._options())

    def views(self, image: Float[Tensor, "1 3 H W"], texts: Texts) -> Iterator[View]:
        """Of each block its correlation with the pseudo prompts, and what left it (figures 3, 6).

        "without SAM" is what would have left the block, had its SAM block been skipped.
        """
        yield from self.explain(image, texts).views()

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state under our names; the file of a bundled model gets the bundled encoder.

        No weights of the authors are known.
        """
        return complete(dict(state), self.encoder, metadata_of(state))

    def initialise(self, states: Mapping[str, Mapping[str, Tensor]]) -> tuple[KeyFate, ...]:
        """Start from official files of "clip" and "sam"; the rest stays as it is drawn."""
        self.key_fates = initialise(self, states)
        return self.key_fates

    def _options(self) -> dict[str, Any]:
        return {"class_chunk": self.class_chunk, "adaptive_depth": self.adaptive_depth}

    def _look(
        self, images: Float[Tensor, "B 3 _ _"], texts: Texts
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B T H W"], Guidance]:
        """Image for SAM, correlation, and what guides the decoder; the same for any texts."""
        features = self.encoder.encode_images(images, intermediates=self.config.intermediates)
        stride = self.config.cost_stride
        patches = features.patch_features
        cells = (-(-patches.shape[2] // stride), -(-patches.shape[3] // stride))
        patches = fit(patches, (cells[0] * stride, cells[1] * stride))
        guidance = self.rounds.project_guidance(features.intermediates, images, cells)
        return self.image_projection(patches), cosine_cost(patches, texts.features), guidance


def _build_block(config: ESCNetConfig, text_dim: int, *, last: bool) -> ESCBlock:
    return ESCBlock(
        sam=SAMBlock(
            dim=config.sam_width,
            heads=config.sam_heads,
            hidden=config.sam_hidden,
            depth=config.sam_depth,
            mask_scale=config.mask_scale,
        ),
        fusion=VisionLanguageFusion(
            dim=config.sam_width,
            text_dim=text_dim,
            hidden=config.hidden,
            heads=config.heads,
            window=config.window,
            stride=config.cost_stride,
            last=last,
        ),
        dim=config.sam_width,
        clusters=config.clusters,
        ratio=config.ratio,
        stride=config.cost_stride,
    )


def escnet_protocols(size: int, patch: int) -> dict[str, Protocol]:
    """How images reach a CLIP that works at ``size`` pixels.

    * "default": the whole image at its own aspect ratio.
    * "sliding": 2 x 2 windows of the image, stretched to a square, and the whole of it once more,
      as CAT-Seg evaluates; how ESC-Net was evaluated is not known.
    """
    return {"default": whole_image(size, patch), "sliding": windows(size)}


@register_model
def escnet_vitb16(**changes: Any) -> ESCNet:
    """ESC-Net on CLIP ViT-B/16, untrained; ``changes`` go to :class:`ESCNetConfig`."""
    return ESCNet(
        clip_vitb16(dense="catseg"),
        replace(ESCNetConfig(), **changes),
        protocols=escnet_protocols(384, patch=16),
        class_chunk=CLASS_CHUNK,
    )


@register_model
def escnet_vitl14(**changes: Any) -> ESCNet:
    """ESC-Net on CLIP ViT-L/14@336px, untrained; ``changes`` go to :class:`ESCNetConfig`."""
    large = replace(ESCNetConfig(), intermediates=(7, 15), guidance_widths=(1024, 1024))
    return ESCNet(
        clip_vitl14_336(dense="catseg"),
        replace(large, **changes),
        protocols=escnet_protocols(336, patch=14),
        class_chunk=CLASS_CHUNK,
    )


@register_model
def escnet_lite(**changes: Any) -> ESCNet:
    """ESC-Net on the bundled encoder; ``changes`` go to :class:`ESCNetConfig`."""
    small = ESCNetConfig(
        intermediates=(0, 1),
        guidance_widths=(192, 24),
        guidance_projected=(16, 8),
        decoder_widths=(32, 16),
        blocks=2,
        sam_width=128,
        sam_heads=4,
        sam_hidden=512,
        hidden=64,
        window=8,
        cost_stride=2,
        cost_skip=True,
    )
    return ESCNet(
        Lite(),
        replace(small, **changes),
        protocols={"default": Protocol(LITE_PREPROCESS)},
        templates=("{}",),
        class_chunk=2 * CLASS_CHUNK,
    )
