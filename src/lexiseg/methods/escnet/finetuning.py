"""Which parameters are trained, and at which rate."""

import re
from collections.abc import Mapping
from typing import Literal

from torch import nn

Rate = Literal["frozen", "base", "small"]

SMALL_FACTOR = 0.01  # of the learning rate: 2e-6 beside 2e-4

# Of CLIP: query and value weights of every block, and the position embeddings.
_CLIP = re.compile(
    r"encoder\.(?:.*\.blocks\.\d+\.attention\.[qv]_proj_weight|(?:visual|text)\.position_embedding)"
)
_SAM = re.compile(r"rounds\.blocks\.\d+\.sam\.")
_SAM_ATTENTION = re.compile(
    r"rounds\.blocks\.\d+\.sam\.layers\.\d+\.(?:self_attention|tokens_to_image|image_to_tokens)\."
)
# Embeddings of background points and box corners: no pseudo prompt is one.
_UNUSED = re.compile(r"rounds\.blocks\.\d+\.sam\.prompts\.kinds\.[023]\.")


def learning_rates(
    model: nn.Module, *, pretrained_sam: bool, encoder: bool = True
) -> dict[str, Rate]:
    """The rate of each parameter by its name.

    Of a pretrained SAM the attention is trained at the small rate and the rest is frozen; a SAM
    block that begins at random is trained like the head.

    Args:
        model: an ESC-Net.
        pretrained_sam: True where SAM's weights were loaded.
        encoder: True to train CLIP's attention at the small rate, False to freeze the encoder. An
            encoder that is no CLIP is always frozen.
    """
    names = [name for name, _ in model.named_parameters()]
    encoder = encoder and any(name.startswith("encoder.visual.") for name in names)
    return {name: _rate(name, pretrained_sam=pretrained_sam, encoder=encoder) for name in names}


def _rate(name: str, *, pretrained_sam: bool, encoder: bool) -> Rate:
    if name.startswith("encoder."):
        return "small" if encoder and _CLIP.fullmatch(name) else "frozen"
    if _UNUSED.match(name):
        return "frozen"
    if pretrained_sam and _SAM.match(name):
        return "small" if _SAM_ATTENTION.match(name) else "frozen"
    return "base"


def set_finetuning(
    model: nn.Module, *, pretrained_sam: bool, encoder: bool = True
) -> Mapping[str, float]:
    """Freeze what is not trained.

    Args:
        model: an ESC-Net, whose parameters get their ``requires_grad``.
        pretrained_sam: as for :func:`learning_rates`.
        encoder: as for :func:`learning_rates`.

    Returns:
        Factor of the learning rate by the name of each parameter that is trained at the small
        rate, as ``parameter_groups`` of the training takes it.
    """
    rates = learning_rates(model, pretrained_sam=pretrained_sam, encoder=encoder)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(rates[name] != "frozen")
    return {name: SMALL_FACTOR for name, rate in rates.items() if rate == "small"}
