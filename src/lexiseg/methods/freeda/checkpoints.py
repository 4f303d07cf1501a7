"""What FreeDA starts from: the official files of DINOv2 and CLIP, or the bundled encoder."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders import dinov2_checkpoints
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS, read_encoder
from lexiseg.weights import KeyFate, Weights, load_state, trace_keys

Convert = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _from_lite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of the image side alone gets the sentence side, which all of them share."""
    has_text = any(key.startswith("text.") for key in state)
    return dict(state) if has_text else read_encoder(state)


CONVERT: Mapping[str, tuple[str, Convert]] = {
    "dino": ("towers.dino.", dinov2_checkpoints.from_published),
    "clip": ("towers.clip.", clip_checkpoints.from_published),
    "lite": ("towers.encoder.", _from_lite),
}


def initialise(model: nn.Module, states: Mapping[str, Mapping[str, Tensor]]) -> tuple[KeyFate, ...]:
    """Load the files of some parts; nothing is loaded unless all fits.

    Args:
        model: a FreeDA.
        states: by part, the state dict of a file as it was published.

    Raises:
        ValueError: a state does not fit; the message lists missing, unexpected and mis-shaped keys.
    """
    loaded = dict(model.state_dict())
    fates: list[KeyFate] = []
    for part, state in states.items():
        prefix, convert = CONVERT[part]
        ours = {f"{prefix}{key}": value for key, value in convert(state).items()}
        loaded = {key: value for key, value in loaded.items() if not key.startswith(prefix)} | ours
        traced = dict if part == "lite" else convert  # that one adds what a file leaves out
        for key, places in trace_keys(traced, state).items():
            reason = "" if places else "no parameter of the model"
            fates.append(KeyFate(part, key, tuple(f"{prefix}{to}" for to in places), reason))
    load_state(model, loaded)
    return tuple(fates)


_SCENES = Weights(
    url=None,
    sha256=None,
    licence="research use (see assets/freeda/NOTICE.md)",
    origin="lexiseg.training.scene_bank",
    paper="Barsellotti et al., Training-Free Open-Vocabulary Segmentation with Offline "
    "Diffusion-Augmented Prototype Generation, CVPR 2024",
    trained_on="no training; 1,766 prototypes of 155 names from photographs with masks",
    asset="freeda/scenes_bank",
)
# The authors publish neither a bank nor weights of their own.
WEIGHTS: Mapping[str, Weights] = {
    "freeda_lite.scenes": replace(
        _SCENES,
        asset=LITE_WEAK_WEIGHTS.asset,
        parts={"lite": LITE_WEAK_WEIGHTS, "bank": _SCENES},
    ),
}
