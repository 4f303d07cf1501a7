"""Published CAT-Seg weights: records, and their names beside ours in both directions."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS
from lexiseg.layers.swin import window_mask
from lexiseg.weights import Weights, rename_keys

CLIP = "sem_seg_head.predictor.clip_model."
HEAD = "sem_seg_head.predictor.transformer."
LAYER = HEAD + "layers.{}."
PUBLISHED_GRID = (24, 24)

_SWIN_PARTS = (
    ("norm1.", "norm1."),
    ("attn.", "attention."),
    ("norm2.", "norm2."),
    ("mlp.fc1.", "mlp.0."),
    ("mlp.fc2.", "mlp.2."),
)
_STAGE_PARTS = (
    ("up.", "up."),
    ("conv.double_conv.0.", "conv1."),
    ("conv.double_conv.1.", "norm1."),
    ("conv.double_conv.3.", "conv2."),
    ("conv.double_conv.4.", "norm2."),
)
KEYS = (
    ("upsample1.", "guidance_upsamples.0."),
    ("upsample2.", "guidance_upsamples.1."),
    (HEAD + "conv1.", "aggregator.cost_embedding."),
    (HEAD + "guidance_projection.", "aggregator.appearance_projection."),
    (HEAD + "text_guidance_projection.", "aggregator.text_projection."),
    (LAYER + "swin_block.guidance_norm.", "aggregator.layers.{}.spatial.guidance_norm."),
    *(
        (LAYER + f"swin_block.{block}.{theirs}", f"aggregator.layers.{{}}.spatial.{name}.{ours}")
        for block, name in (("block_1", "plain"), ("block_2", "shifted"))
        for theirs, ours in _SWIN_PARTS
    ),
    (LAYER + "attention.attention.", "aggregator.layers.{}.classes."),
    (LAYER + "attention.MLP.", "aggregator.layers.{}.classes.mlp."),
    (LAYER + "attention.norm1.", "aggregator.layers.{}.classes.norm1."),
    (LAYER + "attention.norm2.", "aggregator.layers.{}.classes.norm2."),
    (LAYER + "attention.padding_tokens", "aggregator.layers.{}.classes.padding_tokens"),
    (LAYER + "attention.padding_guidance", "aggregator.layers.{}.classes.padding_guidance"),
    (HEAD + "decoder_guidance_projection.", "decoder.guidance_projections."),
    *(
        (HEAD + f"decoder{stage + 1}.{theirs}", f"decoder.stages.{stage}.{ours}")
        for stage in range(2)
        for theirs, ours in _STAGE_PARTS
    ),
    (HEAD + "head.", "decoder.head."),
)
# Reading ours, the bare projections of the class attention must be tried last.
_REVERSED = sorted(KEYS, key=lambda pair: pair[1].endswith(".classes."))


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the ``model`` of an official ``.pth``; a state under our names stays as it is.

    The masks of shifted windows are left out: they are computed for the grid at hand.
    """
    if not any(key.startswith(("sem_seg_head.", "upsample")) for key in state):
        return dict(state)
    clip = {key.removeprefix(CLIP): state[key] for key in state if key.startswith(CLIP)}
    head = {
        key: value
        for key, value in state.items()
        if not key.startswith(CLIP) and not key.endswith(".attn_mask")
    }
    encoder = clip_checkpoints.from_openai(clip)
    return rename_keys(head, KEYS) | {f"encoder.{key}": encoder[key] for key in encoder}


def to_published(state: Mapping[str, Tensor], *, window: int = 12) -> dict[str, Tensor]:
    """The official names for our state dict, masks of shifted windows included."""
    encoder = {key[8:]: value for key, value in state.items() if key.startswith("encoder.")}
    head = {key: value for key, value in state.items() if not key.startswith("encoder.")}
    clip = clip_checkpoints.to_openai(encoder, fused=False)
    published = rename_keys(head, _REVERSED, reverse=True)
    published |= {CLIP + key: value for key, value in clip.items()}
    for key in [key for key in published if key.endswith("block_2.norm1.weight")]:
        mask = window_mask(PUBLISHED_GRID, window, (window // 2, window // 2))
        if mask is not None:
            published[key.replace("norm1.weight", "attn_mask")] = mask
    return published


def _record(file: str, scores: Mapping[str, float]) -> Weights:
    return Weights(
        url=f"https://huggingface.co/spaces/hamacojr/CAT-Seg-weights/resolve/main/{file}",
        sha256=None,
        licence="MIT",
        origin="https://github.com/cvlab-kaist/CAT-Seg",
        paper="Cho et al., CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation, "
        "CVPR 2024",
        trained_on="COCO-Stuff (171 classes), from OpenAI's CLIP",
        scores={f"{benchmark} mIoU": score for benchmark, score in scores.items()},
    )


# The scores of the published ones are reported with the protocol "published".
WEIGHTS = {
    "catseg_vitb16.coco_stuff": _record(
        "model_base.pth",
        {
            "ade847": 12.0,
            "pc459": 19.0,
            "ade150": 31.8,
            "pc59": 57.5,
            "voc20": 94.6,
            "voc20b": 77.3,
        },
    ),
    "catseg_vitl14.coco_stuff": _record(
        "model_large.pth",
        {
            "ade847": 16.0,
            "pc459": 23.8,
            "ade150": 37.9,
            "pc59": 63.3,
            "voc20": 97.0,
            "voc20b": 82.5,
        },
    ),
    "catseg_lite.scenes": replace(
        LITE_WEIGHTS, origin="lexiseg train catseg_lite", asset="catseg/catseg_lite.safetensors"
    ),
}
