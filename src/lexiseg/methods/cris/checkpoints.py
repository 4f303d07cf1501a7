"""Published CRIS weights: records, and their names beside ours in both directions."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS
from lexiseg.weights import Weights, rename_keys

WRAPPED = "module."
BACKBONE = "backbone."
LAYER = "decoder.layers.{}."

_NECK = (
    ("f1_v_proj", "project_coarse"),
    ("f2_v_proj", "project_middle"),
    ("f3_v_proj", "project_fine"),
    ("f2_cat", "merge_middle"),
    ("f3_cat", "merge_fine"),
    ("f4_proj5", "gather_coarse"),
    ("f4_proj4", "gather_middle"),
    ("f4_proj3", "gather_fine"),
    ("aggr", "gather"),
    ("coordconv.0.conv1", "locate"),
    ("coordconv.1", "smooth"),
)
_LAYER = (
    ("norm1.", "norm_before_self."),
    ("self_attn.", "self_attention."),
    ("self_attn_norm.", "norm_after_self."),
    ("norm2.", "norm_before_cross."),
    ("multihead_attn.", "cross_attention."),
    ("cross_attn_norm.", "norm_after_cross."),
    ("norm3.", "norm_before_mlp."),
    ("ffn.0.", "mlp.expand."),
    ("ffn.3.", "mlp.norm."),
    ("ffn.4.", "mlp.contract."),
)
KEYS = (
    ("neck.txt_proj.0.", "neck.state_projection.linear."),
    ("neck.txt_proj.1.", "neck.state_projection.norm."),
    ("neck.norm_layer.0.", "neck.product_norm."),
    *((f"neck.{theirs}.0.", f"neck.{ours}.conv.") for theirs, ours in _NECK),
    *((f"neck.{theirs}.1.", f"neck.{ours}.norm.") for theirs, ours in _NECK),
    *((LAYER + theirs, LAYER + ours) for theirs, ours in _LAYER),
    ("proj.vis.1.0.", "projector.conv1.conv."),
    ("proj.vis.1.1.", "projector.conv1.norm."),
    ("proj.vis.3.0.", "projector.conv2.conv."),
    ("proj.vis.3.1.", "projector.conv2.norm."),
    ("proj.vis.4.", "projector.conv3."),
    ("proj.txt.", "projector.kernel."),
)


def is_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is a CLIP with a ResNet and nothing else, under anybody's names."""
    names = ("visual.layer1.0.conv1.weight", "visual.stages.0.0.conv1.weight")
    return any(f"{prefix}{name}" in state for name in names for prefix in ("", WRAPPED))


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the ``state_dict`` of an official ``.pth``; one under ours stays as it is.

    The authors save from a data-parallel wrapper, whose "module." is taken off.
    """
    bare = {key.removeprefix(WRAPPED): value for key, value in state.items()}
    if not any(key.startswith((BACKBONE, "proj.")) for key in bare):
        return dict(state)
    clip = {k.removeprefix(BACKBONE): v for k, v in bare.items() if k.startswith(BACKBONE)}
    head = {key: value for key, value in bare.items() if not key.startswith(BACKBONE)}
    encoder = clip_checkpoints.from_openai(clip)
    return rename_keys(head, KEYS) | {f"encoder.{key}": encoder[key] for key in encoder}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official names for our state dict, "module." included."""
    encoder = {key[8:]: value for key, value in state.items() if key.startswith("encoder.")}
    head = {key: value for key, value in state.items() if not key.startswith("encoder.")}
    published = rename_keys(head, KEYS, reverse=True)
    clip = clip_checkpoints.to_openai(encoder)
    published |= {f"{BACKBONE}{key}": value for key, value in clip.items()}
    return {f"{WRAPPED}{key}": value for key, value in published.items()}


def _record(data: str, scores: Mapping[str, float]) -> Weights:
    """A record of the authors' own training; they publish no file of it, only the code."""
    return Weights(
        url=None,
        sha256=None,
        licence="MIT",
        origin="https://github.com/DerrickWang005/CRIS.pytorch",
        paper="Wang et al., CRIS: CLIP-Driven Referring Image Segmentation, CVPR 2022",
        trained_on=f"{data}, from OpenAI's CLIP",
        scores={f"{split} mean IoU": score for split, score in scores.items()},
    )


# Mean IoU over expressions, in percent, with the protocol "published".
WEIGHTS = {
    "cris_r50.refcoco": _record("RefCOCO", {"val": 69.52, "testA": 72.72, "testB": 64.70}),
    "cris_r50.refcoco+": _record("RefCOCO+", {"val": 61.39, "testA": 67.10, "testB": 52.48}),
    "cris_r50.refcocog_umd": _record("RefCOCOg (umd)", {"val": 59.35, "test": 59.39}),
    "cris_r101.refcoco": _record("RefCOCO", {"val": 70.47, "testA": 73.18, "testB": 66.10}),
    "cris_r101.refcoco+": _record("RefCOCO+", {"val": 62.27, "testA": 68.08, "testB": 53.68}),
    "cris_r101.refcocog_umd": _record("RefCOCOg (umd)", {"val": 59.87, "test": 60.36}),
    "cris_lite.generated": replace(
        LITE_WEIGHTS,
        origin="lexiseg train cris_lite",
        trained_on="14,192 sentences made by rule from 1,537 photographs with masks",
        asset="cris/cris_lite.safetensors",
    ),
}
