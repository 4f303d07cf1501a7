"""Published SegCLIP weights: records, and their names beside ours in both directions."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS
from lexiseg.encoders.projections import join_projections, split_projections
from lexiseg.weights import Weights, rename_keys

CLIP_PREFIX = "clip."
BLOCKS = "visual.transformer.layers0."
REGION_BLOCKS = "visual.transformer.layers2."
GROUPING = "visual.transformer.semantic_layer2."
REBUILDING = ("visual.transformer.layers_mae2.", "visual.transformer.reconstruct_layer2.")
DECODER = "vis_mae_decoder."
POSITIONS = "decoder_pos_embed"  # a fixed table, which we compute

_CROSS = (
    ("attn.", "attention."),
    ("ln_x.", "norm_queries."),
    ("ln_k.", "norm_context."),
    ("mlp.c_fc.", "mlp.expand."),
    ("mlp.c_proj.", "mlp.contract."),
    ("ln_2.", "norm_mlp."),
)
GROUPING_KEYS = (
    ("semantic_center", "centres"),
    ("norm.", "norm_patches."),
    *((f"cross_att.{{}}.{theirs}", f"layers.{{}}.{ours}") for theirs, ours in _CROSS),
    ("cross_ln.", "norm_centres."),
    ("k_conv.", "key_projection."),
    ("k_ln.", "norm_keys."),
    ("v_conv.", "value_projection."),
    ("proj_o.ln.", "norm_regions."),
    ("proj_o.mlp.fc1.", "mlp.expand."),
    ("proj_o.mlp.fc2.", "mlp.contract."),
)
_BLOCK = (
    ("attn.", "attention."),
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    ("mlp.c_fc.", "mlp.expand."),
    ("mlp.c_proj.", "mlp.contract."),
)
_DECODER_BLOCK = (
    ("norm1.", "norm1."),
    ("attn.qkv.weight", "attention.in_proj_weight"),
    ("attn.qkv.bias", "attention.in_proj_bias"),
    ("attn.proj.", "attention.out_proj."),
    ("norm2.", "norm2."),
    ("mlp.fc1.", "mlp.expand."),
    ("mlp.fc2.", "mlp.contract."),
)
REBUILDING_KEYS = (
    *(
        (f"clip.visual.transformer.layers_mae2.{{}}.{theirs}", f"blocks.{{}}.{ours}")
        for theirs, ours in _BLOCK
    ),
    ("clip.visual.transformer.reconstruct_layer2.rec_proj_a.a_fc.", "mixing."),
    (f"{DECODER}mask_token", "decoder.mask_token"),
    (f"{DECODER}decoder_embed.", "decoder.embedding."),
    *(
        (f"{DECODER}decoder_blocks.{{}}.{theirs}", f"decoder.blocks.{{}}.{ours}")
        for theirs, ours in _DECODER_BLOCK
    ),
    (f"{DECODER}decoder_norm.", "decoder.norm."),
    (f"{DECODER}decoder_pred.", "decoder.prediction."),
)
FUSED = "in_proj_weight"

_logger = logging.getLogger(__name__)


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of the authors' code."""
    return f"{CLIP_PREFIX}{GROUPING}semantic_center" in state


def from_published(state: Mapping[str, Tensor], *, place: int = 10) -> dict[str, Tensor]:
    """Our names for an official state dict; one under ours stays as it is.

    What only training needs, 70 entries that rebuild masked pixels, is left out, and logged.

    Args:
        state: of the authors' file.
        place: number of blocks before the group module.
    """
    if not is_published(state):
        return dict(state)
    left_out = [key for key in state if _rebuilds(key)]
    if left_out:
        _logger.info("%d entries that only training needs are left out", len(left_out))
    clip = {
        key.removeprefix(CLIP_PREFIX): value for key, value in state.items() if not _rebuilds(key)
    }
    grouping = {k.removeprefix(GROUPING): clip.pop(k) for k in list(clip) if k.startswith(GROUPING)}
    encoder = clip_checkpoints.from_openai({_one_tower(k, place): v for k, v in clip.items()})
    ours = rename_keys(split_projections(grouping, FUSED), GROUPING_KEYS)
    encoder.update({f"visual.grouping.{key}": value for key, value in ours.items()})
    return {f"encoder.{key}": value for key, value in encoder.items()}


def rebuilding_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`from_published` leaves out, under the names of ``Reconstruction``."""
    kept = {
        key: value for key, value in state.items() if _rebuilds(key) and not key.endswith(POSITIONS)
    }
    return split_projections(rename_keys(kept, REBUILDING_KEYS), FUSED)


def to_published(state: Mapping[str, Tensor], *, place: int = 10) -> dict[str, Tensor]:
    """The official names for our model's state dict, without what only training needs."""
    ours = {key.removeprefix("encoder."): value for key, value in state.items()}
    prefix = "visual.grouping."
    grouping = {k.removeprefix(prefix): ours.pop(k) for k in list(ours) if k.startswith(prefix)}
    clip = {_two_parts(k, place): v for k, v in clip_checkpoints.to_openai(ours).items()}
    theirs = rename_keys(join_projections(grouping, FUSED), GROUPING_KEYS, reverse=True)
    clip.update({f"{GROUPING}{key}": value for key, value in theirs.items()})
    return {f"{CLIP_PREFIX}{key}": value for key, value in clip.items()}


def rebuilding_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official names for the state dict of ``Reconstruction``."""
    return rename_keys(join_projections(state, FUSED), REBUILDING_KEYS, reverse=True)


def from_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for a CLIP with the same blocks, of any known layout: a new model starts so.

    All that CLIP lacks, the group module, is not in it.
    """
    return {
        f"encoder.{key}": value for key, value in clip_checkpoints.from_published(state).items()
    }


def _rebuilds(key: str) -> bool:
    return key.startswith((DECODER, *(f"{CLIP_PREFIX}{start}" for start in REBUILDING)))


def _one_tower(key: str, place: int) -> str:
    """A key with CLIP's numbers of the blocks, where the authors have two lists."""
    if key.startswith(BLOCKS):
        return f"visual.transformer.resblocks.{key.removeprefix(BLOCKS)}"
    if key.startswith(REGION_BLOCKS):
        number, _, leaf = key.removeprefix(REGION_BLOCKS).partition(".")
        return f"visual.transformer.resblocks.{int(number) + place}.{leaf}"
    return key


def _two_parts(key: str, place: int) -> str:
    start = "visual.transformer.resblocks."
    if not key.startswith(start):
        return key
    number, _, leaf = key.removeprefix(start).partition(".")
    index = int(number)
    return f"{BLOCKS}{index}.{leaf}" if index < place else f"{REGION_BLOCKS}{index - place}.{leaf}"


# Mean IoU in percent with the protocol "published", as the authors report it.
WEIGHTS = {
    "segclip_vitb16.cc3m_coco": Weights(
        url=None,
        sha256=None,
        licence="none stated",
        origin="https://github.com/ArrowLuo/SegCLIP",
        paper="Luo et al., SegCLIP: Patch Aggregation with Learnable Centers for Open-Vocabulary "
        "Semantic Segmentation, ICML 2023",
        trained_on="captions of CC3M and COCO train2014, from OpenAI's CLIP",
        scores={"voc21 mIoU": 52.6, "context60 mIoU": 24.7, "object81 mIoU": 26.5},
    ),
    "segclip_lite.captions": replace(
        LITE_WEAK_WEIGHTS,
        origin="lexiseg train segclip_lite",
        paper="Luo et al., SegCLIP: Patch Aggregation with Learnable Centers for Open-Vocabulary "
        "Semantic Segmentation, ICML 2023",
        trained_on="captions, whole-image names, names that photographs show; no mask was opened",
        asset="segclip/segclip_lite.safetensors",
    ),
}
