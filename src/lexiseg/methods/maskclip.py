"""MaskCLIP (Zhou et al., ECCV 2022) without its refinements: the training-free floor.

image ─ image tower, value path ─┬─ cosine x logit scale ─ logits
texts ─ text tower ──────────────┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lexiseg.encoders.base import Encoder, encode_labels
from lexiseg.encoders.checkpoints import OPENAI
from lexiseg.encoders.checkpoints import from_published as clip_from_published
from lexiseg.encoders.clip import MEAN, STD, clip_vitb16
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS, LITE_WEIGHTS, complete
from lexiseg.images import Preprocess
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, Tiling
from lexiseg.registry import register_model
from lexiseg.weights import metadata_of


class MaskCLIP(SegmentationModel):
    """The raw patch-text cost of an encoder.

    Args:
        encoder: image and text tower in one space; a module.
        protocols: ways to prepare an image for it.
        templates: sentences into which a label is put.
    """

    activation: ClassVar[Activation] = "softmax"
    exclusive: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        protocols: Mapping[str, Protocol],
        templates: Sequence[str] = ("a photo of a {}.",),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.protocols = protocols
        self.templates = tuple(templates)

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """The mean direction of each label's prompts."""
        return Texts(encode_labels(self.encoder, prompts))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits on the grid of the encoder's patches: cosine times the learned factor."""
        patch_features = self.encoder.encode_images(images).patch_features
        return self.encoder.logit_scale.exp() * cosine_cost(patch_features, texts.features)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for an encoder's checkpoint, CLIP's in any known layout; our own stay."""
        if any(key.startswith("encoder.") for key in state):
            return dict(state)
        if not isinstance(self.encoder, Lite):
            state = clip_from_published(state)
        ours = {f"encoder.{key}": value for key, value in state.items()}
        return complete(ours, self.encoder, metadata_of(state))


@register_model
def maskclip_vitb16() -> MaskCLIP:
    """The floor on CLIP ViT-B/16, untrained: the value path of its last block as patch features."""
    preprocess = Preprocess(mean=MEAN, std=STD, shorter=448, longest=1792, multiple=16)
    sliding = replace(preprocess, longest=None)
    return MaskCLIP(
        clip_vitb16(dense="value"),
        protocols={
            "default": Protocol(preprocess),
            "sliding": Protocol(sliding, Tiling(window=224, stride=112)),
        },
    )


@register_model
def maskclip_lite() -> MaskCLIP:
    """The floor on the bundled encoder."""
    return MaskCLIP(Lite(), protocols={"default": Protocol(LITE_PREPROCESS)}, templates=("{}",))


@register_model
def maskclip_lite_weak() -> MaskCLIP:
    """The floor on the bundled encoder's twin, which never saw a mask."""
    return maskclip_lite()


WEIGHTS = {
    "maskclip_lite.scenes": LITE_WEIGHTS,
    "maskclip_lite_weak.captions": LITE_WEAK_WEIGHTS,
    "maskclip_vitb16.openai": OPENAI["clip_vitb16"],
}
