"""What ESC-Net starts from: the official files of CLIP and SAM, and where their tensors go.

The authors have published no weights.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS
from lexiseg.encoders.sam_checkpoints import IMAGE_ENCODER, LAYER_KEYS, PROMPT_KEYS
from lexiseg.weights import KeyFate, Weights, load_state, rename_keys, trace_keys

WEIGHTS: Mapping[str, Weights] = {
    "escnet_lite.scenes": replace(
        LITE_WEIGHTS, origin="lexiseg train escnet_lite", asset="escnet/escnet_lite.safetensors"
    )
}

NOT_USED = {
    IMAGE_ENCODER: "SAM's image encoder is not used",
    "mask_decoder.transformer.final_attn_token_to_image.": "its output never reaches the image",
    "mask_decoder.transformer.norm_final_attn.": "its output never reaches the image",
    "mask_decoder.": "masks come from ESC-Net's own decoder",
}


def initialise(model: nn.Module, states: Mapping[str, Mapping[str, Tensor]]) -> tuple[KeyFate, ...]:
    """Load official files into an ESC-Net; nothing is loaded unless all fits.

    Args:
        model: an ESC-Net.
        states: under "clip" the state dict of a CLIP in any known layout, under "sam" that of
            any ``sam_vit_*.pth``; one of them may be left out.

    Raises:
        ValueError: a state does not fit; the message lists missing, unexpected and mis-shaped keys.
    """
    own = model.state_dict()
    loaded: dict[str, Tensor] = {}
    fates: list[KeyFate] = []
    for part, state in states.items():
        if part == "clip" and not hasattr(model.encoder, "visual"):
            raise ValueError(
                f"the encoder of this model is {type(model.encoder).__name__}, no CLIP; "
                'give weights for "sam" alone'
            )
        ours, of_part = (_clip if part == "clip" else _sam)(own, state)
        loaded |= ours
        fates += of_part
    load_state(model, {**own, **loaded})
    return tuple(fates)


def _sam(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[KeyFate]]:
    """Every block gets its own copy of SAM's prompt encoder and two-way layers."""
    table = [*PROMPT_KEYS, *LAYER_KEYS]
    blocks = sorted({key.split(".")[2] for key in own if key.startswith("rounds.blocks.")}, key=int)
    wanted = {
        key.removeprefix("rounds.blocks.0.sam.")
        for key in own
        if key.startswith("rounds.blocks.0.sam.")
    }
    # SAM's tables have "prompts." beside "decoder."; a block has "prompts." beside "layers.".
    loaded: dict[str, Tensor] = {}
    fates: list[KeyFate] = []
    for key, value in state.items():
        ours = next(iter(rename_keys({key: value}, table)))
        if ours in wanted:
            places = tuple(f"rounds.blocks.{block}.sam.{ours}" for block in blocks)
            loaded |= dict.fromkeys(places, value)
            fates.append(KeyFate("sam", key, places))
        else:
            reason = next((why for start, why in NOT_USED.items() if key.startswith(start)), None)
            fates.append(KeyFate("sam", key, (), reason or "no such name in SAM"))
    missing = wanted - {place.split(".sam.", 1)[1] for place in loaded}
    if missing:
        to_theirs = [(ours, theirs) for theirs, ours in table]
        names = sorted(rename_keys(dict.fromkeys(missing, torch.empty(0)), to_theirs))
        raise ValueError(
            f'the weights for "sam" lack {len(names)} keys: {", ".join(names[:10])}; give a '
            "sam_vit_b, sam_vit_l or sam_vit_h file, unchanged"
        )
    return loaded, fates


def _clip(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[KeyFate]]:
    """The encoder gets all of CLIP."""
    converted = clip_checkpoints.from_published(state)
    loaded = {f"encoder.{key}": value for key, value in converted.items()}
    wanted = {key for key in own if key.startswith("encoder.")}
    problems = {"lack": wanted - loaded.keys(), "have no place for": loaded.keys() - wanted}
    for verb, keys in problems.items():
        if keys:
            raise ValueError(
                f'the weights for "clip" {verb} {len(keys)} keys: '
                f"{', '.join(sorted(keys)[:10])}; give the CLIP that this model is built on"
            )
    return loaded, [
        KeyFate(
            "clip",
            key,
            tuple(f"encoder.{ours}" for ours in places),
            "" if places else "no parameter of the model",
        )
        for key, places in trace_keys(clip_checkpoints.from_published, state).items()
    ]
