"""SegCLIP on CLIP's ViT."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from lexiseg.encoders.base import flatten_prompts, in_parts, mean_directions
from lexiseg.encoders.clip import (
    CHANNELS_A_HEAD,
    CLIP,
    MEAN,
    STD,
    VITB16,
    CLIPConfig,
    build_text_tower,
)
from lexiseg.images import Preprocess
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, Tiling, View
from lexiseg.methods.plain_resize import PlainResize
from lexiseg.methods.segclip import checkpoints
from lexiseg.methods.segclip.scoring import published_logits, soft_logits
from lexiseg.methods.segclip.tower import GroupingTower, RegionFeatures
from lexiseg.registry import register_model
from lexiseg.vocabularies import template_set

LARGEST_SCALE = 100.0  # of cosines, published
# The best text of a pixel must reach these, published.
THRESHOLDS = {"voc21": 0.80, "context60": 0.25, "object81": 0.65}
# Under the authors' names; they evaluate with "simple". "subset" differs from CLIP's in a word.
TEMPLATES = {
    "simple": template_set("clip"),
    "subset": tuple(
        "a bad photo of a {}." if template == "a bad photo of the {}." else template
        for template in template_set("imagenet_select")
    ),
    "full": template_set("imagenet"),
    "identity": template_set("plain"),
}


@dataclass(frozen=True)
class SegCLIPConfig:
    """Sizes of what CLIP's image tower gets; the defaults are published.

    Attributes:
        groups: number of centres.
        place: number of blocks before the group module.
        cross_layers: of cross-attention in it.
    """

    groups: int = 8
    place: int = 10
    cross_layers: int = 2

    def __post_init__(self) -> None:
        if self.groups < 1 or self.cross_layers < 0:
            raise ValueError(
                f"groups {self.groups} and cross_layers {self.cross_layers} came; there is at "
                "least 1 group, and layers are 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class RegionTexts(Texts):
    """Labels as SegCLIP sees them.

    Attributes:
        averaged: as ``features``, but prompts count by their length too, as published: the mean of
            what the text tower gives, brought to length one.
    """

    averaged: Float[Tensor, "T D"]


class SegCLIP(SegmentationModel):
    """Patch aggregation with learnable centres (Luo et al., ICML 2023).

    A window is looked at once, whatever the number of texts.

    Args:
        encoder: CLIP whose image tower is a :class:`GroupingTower`.
        config: sizes.
        protocols: ways to prepare an image; one with the rule "published" scores as the authors do.
        templates: sentences into which a label is put.
    """

    activation: ClassVar[Activation] = "softmax"
    exclusive: ClassVar[bool] = True
    encoder: CLIP

    def __init__(
        self,
        encoder: CLIP,
        config: SegCLIPConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        templates: Sequence[str] = ("a photo of a {}.",),
    ) -> None:
        super().__init__()
        if not isinstance(encoder.visual, GroupingTower):
            raise TypeError(
                f"the image tower came as {type(encoder.visual).__name__}; SegCLIP needs a "
                "GroupingTower: use build_segclip"
            )
        self.encoder = encoder
        self.config = config or SegCLIPConfig()
        self.protocols = protocols
        self.templates = tuple(templates)

    @property
    def tower(self) -> GroupingTower:
        """The image tower."""
        visual = self.encoder.visual
        assert isinstance(visual, GroupingTower)
        return visual

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Factor of cosines."""
        return self.encoder.logit_scale.exp().clamp(max=LARGEST_SCALE)

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> RegionTexts:
        """Each label by its prompts: their mean direction, and the direction of their mean."""
        flat, counts = flatten_prompts(prompts)
        features = in_parts(lambda part: self.encoder.encode_prompts(part).pooled, flat)
        means = torch.stack([of_label.mean(dim=0) for of_label in features.split(counts)])
        return RegionTexts(
            features=mean_directions(features, counts), averaged=F.normalize(means, dim=-1)
        )

    def look(self, images: Float[Tensor, "B 3 H W"], **choices: Any) -> RegionFeatures:
        """Regions of normalised images; ``choices`` are those of :meth:`GroupingTower.look`."""
        return self.tower.look(images, **choices)

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B _ h w"]:
        """Logits, without any noise.

        By default of each patch, softly between regions. With the rule "published", of each pixel
        by the authors' scores, and with ``texts.background`` one more map for the background.

        Raises:
            ValueError: a side is no multiple of the patch, or there is no such rule.
            TypeError: the published rule came with texts that ``encode_texts`` did not make.
        """
        seen = self.look(images)
        if not texts.rule:
            return soft_logits(seen, texts.features, self.scale)
        if texts.rule != "published":
            raise ValueError(
                f"rule {texts.rule!r} came; choose 'published', or '' for SegCLIP's own"
            )
        if not isinstance(texts, RegionTexts):
            raise TypeError(
                f"texts came as {type(texts).__name__}; give what SegCLIP's encode_texts made"
            )
        size = (images.shape[2], images.shape[3])
        return published_logits(seen, texts.averaged, self.scale, size, texts.background)

    def views(self, image: Float[Tensor, "1 3 H W"], texts: Texts) -> Iterator[View]:
        """The share of each centre in each patch (the paper's figure 4), and the answer.

        An image of other sides is stretched to whole patches.
        """
        patch = self.tower.patch_size
        size = [max(1, round(side / patch)) * patch for side in image.shape[2:]]
        if list(image.shape[2:]) != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        seen = self.look(image)
        yield centres_view(seen.groups.soft, seen.grid)
        yield View("logits", self(image, replace(texts, background=None))[0])

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for the authors' checkpoint as it is; our own stay as they are.

        A CLIP alone, such as OpenAI's ViT-B/16, starts a new model: the group module keeps the
        values that it was built with.
        """
        if checkpoints.is_published(state):
            return checkpoints.from_published(state, place=self.config.place)
        if any(key.startswith("encoder.") for key in state):
            return dict(state)
        state, own = checkpoints.from_clip(state), self.state_dict()
        return {key: own[key] for key in own if ".grouping." in key} | state


def centres_view(soft: Float[Tensor, "1 G N"], grid: tuple[int, int]) -> View:
    """Which patches each centre takes."""
    maps = rearrange(soft[0], "G (h w) -> G h w", h=grid[0])
    return View("patches", maps, regions=tuple(f"centre {n}" for n in range(1, len(maps) + 1)))


def segclip_protocols(size: int = 224, patch: int = 16) -> dict[str, Protocol]:
    """How images reach a SegCLIP that was trained at ``size`` pixels.

    * "default": windows that overlap by half, softly scored.
    * "published": windows side by side, each pixel in one group, the authors' scores, and a
      threshold that leaves each window something.
    """
    longest = size * 2048 // 224
    keep = Preprocess(mean=MEAN, std=STD, shorter=size, longest=longest, multiple=patch)
    plain = PlainResize(mean=MEAN, std=STD, shorter=size, longest=longest, patch=patch)
    published = Protocol(
        plain,
        Tiling(window=size, stride=size),
        first_synonym=True,
        authors="segclip",
        thresholds=THRESHOLDS,
        rule="published",
        background_inside=True,
        logits_blended=True,
    )
    return {
        "default": Protocol(keep, Tiling(window=size, stride=size // 2)),
        "published": published,
    }


def build_segclip(
    clip: CLIPConfig, config: SegCLIPConfig, *, protocols: Mapping[str, Protocol]
) -> SegCLIP:
    """A SegCLIP with untrained weights on any CLIP with a ViT."""
    tower = GroupingTower(
        image_size=clip.image_size,
        patch_size=clip.patch_size,
        width=clip.vision_width,
        layers=clip.vision_layers,
        heads=clip.vision_width // CHANNELS_A_HEAD,
        dim=clip.dim,
        activation=clip.activation,
        **asdict(config),
    )
    encoder = CLIP(visual=tower, text=build_text_tower(clip), dim=clip.dim)
    return SegCLIP(encoder, config, protocols=protocols)


@register_model
def segclip_vitb16(**changes: Any) -> SegCLIP:
    """SegCLIP on CLIP ViT-B/16, untrained; ``changes`` go to :class:`SegCLIPConfig`."""
    config = replace(SegCLIPConfig(), **changes)
    return build_segclip(VITB16, config, protocols=segclip_protocols())
