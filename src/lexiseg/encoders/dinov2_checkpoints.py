"""Published DINOv2 checkpoints: where they are, and how their keys reach ours."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from lexiseg.encoders.dinov2 import DINOv2, DINOv2Config
from lexiseg.encoders.projections import join_projections, split_projections
from lexiseg.weights import Source, Weights, load_state, read_weights, rename_keys

KEYS = (
    ("cls_token", "class_embedding"),
    ("pos_embed", "position_embedding"),
    ("mask_token", "mask_token"),
    ("register_tokens", "registers"),
    ("patch_embed.proj.", "patch_embedding."),
    *(
        (f"blocks.{{}}.{theirs}", f"blocks.{{}}.{ours}")
        for theirs, ours in (
            ("norm1.", "norm1."),
            *((f"attn.{n}_proj_weight", f"attention.{n}_proj_weight") for n in "qkv"),
            ("attn.qkv.bias", "attention.in_proj_bias"),
            ("attn.proj.", "attention.out_proj."),
            ("ls1.gamma", "scale1"),
            ("norm2.", "norm2."),
            ("mlp.fc1.", "mlp.expand."),
            ("mlp.fc2.", "mlp.contract."),
            ("mlp.w12.", "mlp.expand."),
            ("mlp.w3.", "mlp.contract."),
            ("ls2.gamma", "scale2"),
        )
    ),
    ("norm.", "norm."),
)
_FUSED = "qkv.weight"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the state dict of an official file; one under ours stays as it is."""
    return rename_keys(split_projections(state, _FUSED), KEYS)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official names for our state dict."""
    gated = any(
        len(value) != 4 * value.shape[1]
        for key, value in state.items()
        if key.endswith("mlp.expand.weight")
    )
    other = ("mlp.fc1.", "mlp.fc2.") if gated else ("mlp.w12.", "mlp.w3.")
    table = [pair for pair in KEYS if not pair[0].endswith(other)]
    return join_projections(rename_keys(state, table, reverse=True), _FUSED)


def infer_config(state: Mapping[str, Tensor]) -> DINOv2Config:
    """The architecture that a state dict under our names belongs to, read off its shapes.

    Raises:
        ValueError: it is no DINOv2.
    """
    missing = [key for key in ("patch_embedding.weight", "position_embedding") if key not in state]
    if missing:
        raise ValueError(f"the weights lack {missing}; give an official DINOv2 file, unchanged")
    width, _, _, patch = state["patch_embedding.weight"].shape
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    expand = state.get("blocks.0.mlp.expand.weight")
    return DINOv2Config(
        width=width,
        layers=len(blocks),
        registers=state["registers"].shape[1] if "registers" in state else 0,
        gated=expand is not None and len(expand) != 4 * width,
        image_size=patch * math.isqrt(state["position_embedding"].shape[1] - 1),
        patch_size=patch,
    )


def load_dinov2(source: Source) -> DINOv2:
    """A DINOv2 with weights; its variant is read off their shapes.

    Args:
        source: a file, a record such as ``DINOV2["dinov2_vitb14"]``, or a state dict.

    Raises:
        ValueError: keys do not fit; the message lists them.
    """
    state = from_published(read_weights(source))
    model = DINOv2(infer_config(state))
    load_state(model, state)
    return model


def _record(size: str, suffix: str) -> Weights:
    """A record of the authors' own files, for which they state no checksum."""
    folder = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{size}"
    return Weights(
        url=f"{folder}/dinov2_{size}{suffix}_pretrain.pth",
        sha256=None,
        licence="Apache-2.0",
        origin="https://github.com/facebookresearch/dinov2",
        paper="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024"
        if not suffix
        else "Darcet et al., Vision Transformers Need Registers, ICLR 2024",
        trained_on="LVD-142M",
    )


DINOV2 = {
    f"dinov2_{size}{name}": _record(size, suffix)
    for size in ("vits14", "vitb14", "vitl14", "vitg14")
    for name, suffix in (("", ""), ("_reg", "_reg4"))
}
