"""What a run of the bundled encoder begins with, and how far from there its weights are stored."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import (
    LITE_WEAK_WEIGHTS,
    LITE_WEIGHTS,
    load_starting_weights,
    read_encoder,
)
from lexiseg.training.recipes.lite_data import LiteTrainConfig
from lexiseg.weights import load_state

WEAK = "lite_weak"
STARTS = {"lite": LITE_WEIGHTS, WEAK: LITE_WEAK_WEIGHTS}  # what is bundled, by name


@dataclass(frozen=True)
class EncoderTrainConfig(LiteTrainConfig):
    """A run of the bundled encoder itself.

    Attributes:
        start: what it begins with: "" for ImageNet's weights, "lite" or "lite_weak" for what is
            bundled, else a file of such a run.
        part: how far from ``start`` to what was learned the stored weights lie. 0.5 forgets less of
            the names that were not trained (WiSE-FT: Wortsman et al., CVPR 2022, equation 1).
    """

    start: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part < 1 and not self.start:
            raise ValueError(f"part {self.part} came without a start, to which it would lie nearer")


def check_start(config: EncoderTrainConfig) -> None:
    """Refuse a bundled start that has learned the names which are held out."""
    fits = config.start == WEAK and config.unseen_in == "masks"
    if config.unseen and config.start in STARTS and not fits:
        raise ValueError(
            f"start {config.start} came with unseen {config.unseen}: what is bundled has learned "
            f"these names; leave start out, or take start={WEAK} with unseen_in=masks"
        )


def starting(config: EncoderTrainConfig) -> Lite:
    """The encoder as a run begins; its sentence encoder stays as it is."""
    torch.manual_seed(config.seed)
    encoder = Lite()
    load_start(encoder, config.start)
    encoder.text.requires_grad_(False)
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_start(encoder: Lite, start: str) -> None:
    """What an encoder begins with; see :class:`EncoderTrainConfig`.

    Raises:
        ValueError: there is no such file, it does not fit, or a package is not installed.
    """
    if not start:
        load_starting_weights(encoder)
        return
    if start not in STARTS and not Path(start).is_file():
        raise ValueError(
            f"start {start!r} came; give a file of weights of `lexiseg train lite` or `lite_weak`, "
            f"or what is bundled: {' or '.join(STARTS)}"
        )
    try:
        load_state(encoder, read_encoder(STARTS.get(start, start)))
    except ValueError as error:
        raise ValueError(f"start {start!r} is no encoder of `train lite`: {error}") from error


def between(encoder: Lite, config: EncoderTrainConfig) -> dict[str, Tensor]:
    """Weights to store in place of the encoder's, where a part of the way was asked for."""
    if config.part == 1:
        return {}
    begun = read_encoder(STARTS.get(config.start, config.start))
    return {
        name: torch.lerp(begun[name].to(value), value, config.part).half()
        for name, value in encoder.state_dict().items()
        if value.is_floating_point() and not name.startswith("text.")
    }
