"""SAM's published checkpoints: where they are, and how their keys reach ours."""

from collections.abc import Mapping

from torch import Tensor

from lexiseg.encoders.sam import SAM, build_sam
from lexiseg.weights import Source, Weights, load_state, read_weights, rename_keys

IMAGE_ENCODER = "image_encoder."

_ATTENTION = (("q_proj.", "q."), ("k_proj.", "k."), ("v_proj.", "v."), ("out_proj.", "out."))
_LAYER = (
    *((f"self_attn.{theirs}", f"self_attention.{ours}") for theirs, ours in _ATTENTION),
    *(
        (f"cross_attn_token_to_image.{theirs}", f"tokens_to_image.{ours}")
        for theirs, ours in _ATTENTION
    ),
    *(
        (f"cross_attn_image_to_token.{theirs}", f"image_to_tokens.{ours}")
        for theirs, ours in _ATTENTION
    ),
    ("mlp.lin1.", "mlp.0."),
    ("mlp.lin2.", "mlp.2."),
    *((f"norm{number}.", f"norm{number}.") for number in range(1, 5)),
)
_TRANSFORMER = "mask_decoder.transformer."
PROMPT_KEYS = (
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "prompts.frequencies"),
    ("prompt_encoder.point_embeddings.{}.", "prompts.kinds.{}."),
    ("prompt_encoder.not_a_point_embed.", "prompts.not_a_point."),
    ("prompt_encoder.no_mask_embed.", "prompts.no_mask."),
    ("prompt_encoder.mask_downscaling.{}.", "prompts.mask_downscaling.{}."),
)
LAYER_KEYS = tuple(
    (f"{_TRANSFORMER}layers.{{}}.{theirs}", f"layers.{{}}.{ours}") for theirs, ours in _LAYER
)
KEYS = (
    *PROMPT_KEYS,
    *((theirs, f"decoder.transformer.{ours}") for theirs, ours in LAYER_KEYS),
    *(
        (
            f"{_TRANSFORMER}final_attn_token_to_image.{theirs}",
            f"decoder.transformer.final_attention.{ours}",
        )
        for theirs, ours in _ATTENTION
    ),
    (f"{_TRANSFORMER}norm_final_attn.", "decoder.transformer.final_norm."),
    ("mask_decoder.iou_token.", "decoder.iou_token."),
    ("mask_decoder.mask_tokens.", "decoder.mask_tokens."),
    ("mask_decoder.output_upscaling.{}.", "decoder.upscaling.{}."),
    (
        "mask_decoder.output_hypernetworks_mlps.{}.layers.{}.",
        "decoder.hypernetworks.{}.layers.{}.",
    ),
    ("mask_decoder.iou_prediction_head.layers.{}.", "decoder.iou_head.layers.{}."),
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the state dict of any ``sam_vit_*.pth``, its image encoder left out.

    A state under our names stays as it is.
    """
    kept = {key: value for key, value in state.items() if not key.startswith(IMAGE_ENCODER)}
    return rename_keys(kept, KEYS)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official names for our state dict; the image encoder is not among them."""
    return rename_keys(state, KEYS, reverse=True)


def load_sam(source: Source) -> SAM:
    """Prompt encoder and mask decoder with the weights of any ``sam_vit_*.pth``.

    Raises:
        ValueError: keys do not fit; the message lists them.
    """
    sam = build_sam()
    load_state(sam, read_weights(source), from_official)
    return sam


def _record(file: str) -> Weights:
    return Weights(
        url=f"https://dl.fbaipublicfiles.com/segment_anything/{file}",
        sha256=None,
        licence="Apache-2.0",
        origin="https://github.com/facebookresearch/segment-anything",
        paper="Kirillov et al., Segment Anything, ICCV 2023",
        trained_on="SA-1B (11 million images, 1.1 billion masks)",
    )


OFFICIAL = {
    "sam_vitb": _record("sam_vit_b_01ec64.pth"),
    "sam_vitl": _record("sam_vit_l_0b3195.pth"),
    "sam_vith": _record("sam_vit_h_4b8939.pth"),
}
