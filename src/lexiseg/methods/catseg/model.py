"""CAT-Seg on any encoder whose patches and texts share one space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.encoders.base import Encoder, ImageFeatures, encode_labels
from lexiseg.encoders.clip import clip_vitb16, clip_vitl14_336
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import complete
from lexiseg.layers.cost import CostSkip, cosine_cost, of_best_texts
from lexiseg.layers.decoder import Decoder
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts
from lexiseg.methods.catseg.aggregation import Aggregator
from lexiseg.methods.catseg.checkpoints import from_published
from lexiseg.methods.clip_protocols import SHRUNK, whole_image, windows
from lexiseg.registry import register_model
from lexiseg.weights import metadata_of

# Bounds the memory, and is fast on a CPU: larger tensors get new pages from the system each time.
CLASS_CHUNK = 8


@dataclass(frozen=True)
class CATSegConfig:
    """Sizes and choices of the head; the defaults are those published for ViT-B/16.

    Attributes:
        intermediates: layers of the encoder that guide the decoder, for its coarsest stage first.
        guidance_widths: their widths.
        guidance_upsample: factor by which each is up-sampled; 1 keeps its grid.
        guidance_maps: widths after that.
        guidance_projected: widths beside the decoder's own.
        hidden: width of an embedded cost.
        heads: of the spatial and the class attention.
        layers: pairs of spatial and class aggregation.
        window: side of a Swin window, in cells.
        decoder_widths: of the decoder's stages, each of which doubles the grid.
        cost_stride: patches to a cell of the aggregation grid.
        class_pooling: side of the square of cells that share one class attention; published are 2
            in training and 1 in evaluation.
        padding_length: number of texts up to which the class attention is filled with a learned
            token; None for no such token.
        cost_skip: add the raw cost to the logits; ours, for a head that is trained for minutes: it
            begins where the raw cost is.
    """

    intermediates: tuple[int, ...] = (3, 7)
    guidance_widths: tuple[int, ...] = (768, 768)
    guidance_upsample: tuple[int, ...] = (2, 4)
    guidance_maps: tuple[int, ...] = (256, 128)
    guidance_projected: tuple[int, ...] = (32, 16)
    hidden: int = 128
    heads: int = 4
    layers: int = 2
    window: int = 12
    decoder_widths: tuple[int, ...] = (64, 32)
    cost_stride: int = 1
    class_pooling: int = 1
    padding_length: int | None = 256
    cost_skip: bool = False

    def __post_init__(self) -> None:
        of_stages = (
            *(self.intermediates, self.guidance_widths, self.guidance_upsample),
            *(self.guidance_maps, self.guidance_projected, self.decoder_widths),
        )
        if len({len(numbers) for numbers in of_stages}) > 1:
            raise ValueError(
                "intermediates, guidance_widths, guidance_upsample, guidance_maps, "
                "guidance_projected and decoder_widths hold one number for each decoder stage, but "
                f"came with {[len(numbers) for numbers in of_stages]}"
            )
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} cannot be split into {self.heads} heads")
        if self.class_pooling < 1:
            raise ValueError(f"class_pooling {self.class_pooling} came; it must be at least 1")


class CATSeg(SegmentationModel):
    """Cost aggregation (Cho et al., CVPR 2024).

    The embedded cost of all texts must lie in memory at once, because every text reads every other:
    4 x C x h x w bytes a text and image, which is 295 kB at the published 24 x 24 cells of width
    128: each layer puts its result in the place of what came. ``class_chunk`` texts need another
    6 MB each on the way through a layer or the decoder, the logits 37 kB a text. So T texts take
    about T x 0.3 MB + class_chunk x 6 MB an image; in training everything is kept.

    Args:
        encoder: image and text tower in one space; a module.
        config: sizes and choices of the head.
        protocols: ways to prepare an image.
        templates: sentences into which a label is put.
        class_chunk: texts worked on at a time in the spatial aggregation, the class aggregation and
            the decoder; None for all. The result is the same.

    Attributes:
        class_pooling: as in the config; may be changed between training and evaluation.
    """

    activation: ClassVar[Activation] = "sigmoid"
    exclusive: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        config: CATSegConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        templates: Sequence[str] = ("A photo of a {} in the scene",),
        class_chunk: int | None = None,
    ) -> None:
        super().__init__()
        config = config or CATSegConfig()
        self.config = config
        self.protocols = protocols
        self.templates = tuple(templates)
        self.class_pooling = config.class_pooling
        self.class_chunk = class_chunk
        self.encoder = encoder
        self.guidance_upsamples = nn.ModuleList(
            nn.ConvTranspose2d(before, width, factor, stride=factor)
            for before, width, factor in zip(
                config.guidance_widths, config.guidance_maps, config.guidance_upsample, strict=True
            )
        )
        self.aggregator = Aggregator(
            dim=encoder.dim,
            hidden=config.hidden,
            heads=config.heads,
            layers=config.layers,
            window=config.window,
            cost_stride=config.cost_stride,
            padding_length=config.padding_length,
        )
        self.decoder = Decoder(
            hidden=config.hidden,
            guidance_maps=config.guidance_maps,
            guidance_projected=config.guidance_projected,
            widths=config.decoder_widths,
        )
        self.skip = CostSkip() if config.cost_skip else None
        if config.cost_skip:
            nn.init.zeros_(self.decoder.head.weight)
            nn.init.zeros_(cast(Tensor, self.decoder.head.bias))

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """The mean direction of each label's prompts, with gradients into the text tower."""
        return Texts(encode_labels(self.encoder, prompts))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits, on a grid four times as fine as the aggregation's (with two decoder stages).

        With ``texts.at_most``, the texts with the highest cosine anywhere in an image take part and
        the others get the logit -100 (published: 256).
        """
        features = self.encoder.encode_images(images, intermediates=self.config.intermediates)
        cost = cosine_cost(features.patch_features, texts.features)
        if texts.at_most is None or len(texts) <= texts.at_most:
            return self.refine(cost, features, texts.features)

        def refine(index: int, best: Int[Tensor, " K"]) -> Float[Tensor, "1 K h w"]:
            one = slice(index, index + 1)
            alone = ImageFeatures(
                pooled=features.pooled[one],
                patch_features=features.patch_features[one],
                intermediates=tuple(maps[one] for maps in features.intermediates),
            )
            return self.refine(cost[one, best], alone, texts.features[best])

        return of_best_texts(refine, cost, texts.at_most)

    def refine(
        self,
        cost: Float[Tensor, "B T H W"],
        features: ImageFeatures,
        text_features: Float[Tensor, "T D"],
    ) -> Float[Tensor, "B T h w"]:
        """From the raw cost of all texts that take part to their logits."""
        embedded = self.aggregator(
            cost,
            features.patch_features,
            text_features,
            class_pooling=self.class_pooling,
            class_chunk=self.class_chunk,
        )
        upsampled = zip(self.guidance_upsamples, features.intermediates, strict=True)
        guidance = [upsample(maps) for upsample, maps in upsampled]
        logits = self.decoder(embedded, guidance, class_chunk=self.class_chunk)
        return logits if self.skip is None else self.skip(logits, cost)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for the ``model`` of an official ``.pth``; our own stay as they are.

        The file of a bundled model holds the head alone; the bundled encoder is added to it.
        """
        return complete(from_published(state), self.encoder, metadata_of(state))


def clip_protocols(size: int, patch: int) -> dict[str, Protocol]:
    """How images reach a CLIP that works at ``size`` pixels.

    * "default": the whole image at its own aspect ratio.
    * "published": as all published numbers were made. 2 x 2 windows of the image, stretched to a
      square, and the whole of it once more; the best 256 texts of each; first synonyms.
    * "published_whole": the whole image, padded and stretched to a square; texts likewise.
    """
    squashed = replace(SHRUNK, pad_multiple=32, crop_padding=False, squash=(size, size))
    return {
        "default": whole_image(size, patch),
        "published": windows(size, texts_at_most=256, first_synonym=True, authors="catseg"),
        "published_whole": Protocol(
            squashed, texts_at_most=256, first_synonym=True, authors="catseg"
        ),
    }


@register_model
def catseg_vitb16(**changes: Any) -> CATSeg:
    """CAT-Seg on CLIP ViT-B/16, untrained; ``changes`` go to :class:`CATSegConfig`."""
    return CATSeg(
        clip_vitb16(dense="catseg"),
        replace(CATSegConfig(), **changes),
        protocols=clip_protocols(384, patch=16),
        class_chunk=CLASS_CHUNK,
    )


@register_model
def catseg_vitl14(**changes: Any) -> CATSeg:
    """CAT-Seg on CLIP ViT-L/14@336px, untrained; ``changes`` go to :class:`CATSegConfig`."""
    large = replace(CATSegConfig(), intermediates=(7, 15), guidance_widths=(1024, 1024))
    return CATSeg(
        clip_vitl14_336(dense="catseg"),
        replace(large, **changes),
        protocols=clip_protocols(336, patch=14),
        class_chunk=CLASS_CHUNK,
    )


@register_model
def catseg_lite(**changes: Any) -> CATSeg:
    """CAT-Seg on the bundled encoder; ``changes`` go to :class:`CATSegConfig`."""
    small = CATSegConfig(
        intermediates=(0, 1),
        guidance_widths=(192, 24),
        guidance_upsample=(1, 1),
        guidance_maps=(64, 24),
        guidance_projected=(16, 8),
        hidden=64,
        window=8,
        decoder_widths=(32, 16),
        cost_stride=2,
        padding_length=None,
        cost_skip=True,
    )
    return CATSeg(
        Lite(),
        replace(small, **changes),
        protocols={"default": Protocol(LITE_PREPROCESS)},
        templates=("{}",),
        class_chunk=2 * CLASS_CHUNK,
    )
