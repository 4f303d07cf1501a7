"""SAM's prompt encoder and mask decoder against recordings of segment-anything.

What the decoder was given is noise that cannot be made smaller, so it has no compact recording;
test_sam.py has golden values for a bare clone.
"""

from functools import lru_cache

import pytest
import torch
from einops import rearrange
from torch import Tensor

from lexiseg.encoders.sam import SAM
from lexiseg.encoders.sam_checkpoints import load_sam
from lexiseg.encoders.sam_transformer import TwoWayLayer
from tests.parity import SOURCES, cases

MANIFEST = "manifest_prompt_decoder.json"
SIZES = {"input_size": (1024, 1024), "grid": (64, 64)}

on_both_sources = pytest.mark.parametrize("source", SOURCES)


@lru_cache(maxsize=1)
def model() -> SAM:
    return load_sam(cases("sam", "compact").weights(MANIFEST)).eval()


@lru_cache(maxsize=4)
def answers(several: bool) -> tuple[Tensor, Tensor]:
    """The decoder's answer to the recorded prompts."""
    case = cases("sam", "full").open("mask_decoder_64.npz")
    sam = model()
    with torch.inference_mode():
        sparse, dense = sam.prompts(
            points=case.tensor("points"), labels=case.tensor("labels"), **SIZES
        )
        image = case.tensor("image_embedding").float()
        positions = sam.prompts.dense_positions((64, 64))
        return sam.decoder(image, positions, sparse, dense, several=several)


@on_both_sources
def test_sam_parity_manifest(source: str) -> None:
    assert cases("sam", source).json(MANIFEST) == cases("sam", "compact").json(MANIFEST)
    assert len(model().state_dict()) == 137


@on_both_sources
def test_sam_parity_points_and_boxes(source: str) -> None:
    case = cases("sam", source).open("prompt_encoder.npz")
    points = {"points": case.tensor("points"), "labels": case.tensor("labels")}
    boxes = {"boxes": case.tensor("boxes")}
    with torch.inference_mode():
        sparse, dense = model().prompts(**points, **SIZES)
        case.check("sparse_points", sparse)
        case.check("dense_nomask_vec", dense[:, :, 0, 0])
        assert torch.equal(dense, dense[:, :, :1, :1].expand(-1, -1, 64, 64))
        case.check("sparse_points_boxes", model().prompts(**points, **boxes, **SIZES)[0])
        case.check("sparse_boxes", model().prompts(**boxes, **SIZES)[0])


@on_both_sources
def test_sam_parity_masks_and_positions(source: str) -> None:
    case = cases("sam", source).open("prompt_encoder.npz")
    with torch.inference_mode():
        sparse, dense = model().prompts(masks=case.tensor("mask").float(), **SIZES)
        positions = model().prompts.dense_positions((64, 64))
    assert list(sparse.shape) == case["sparse_mask_shape"].tolist()
    # The compact recording holds of the mask what the recorded cells see.
    step = dense.shape[-1] // 16
    case.check("dense_mask_sub", dense[:, :, ::step, ::step])
    case.check("dense_pe_sub", positions[None, :, ::4, ::4])


def test_sam_parity_decoder() -> None:
    case = cases("sam", "full").open("mask_decoder_64.npz")
    with torch.inference_mode():
        sparse, _ = model().prompts(
            points=case.tensor("points"), labels=case.tensor("labels"), **SIZES
        )
    case.check("sparse", sparse)
    (single, single_iou), (several, several_iou) = answers(False), answers(True)
    case.check("single_mask_sub", single[..., ::2, ::2])
    case.check("single_iou", single_iou)
    case.check("low_res_all_sub", torch.cat([single, several], dim=1)[..., ::2, ::2])
    case.check("iou_all", torch.cat([single_iou, several_iou], dim=1))


def test_sam_parity_transformer() -> None:
    case = cases("sam", "full").open("twoway_24.npz")
    transformer = model().decoder.transformer
    first = transformer.layers[0]
    assert isinstance(first, TwoWayLayer)
    prompts = case.tensor("point_embedding")
    image = rearrange(case.tensor("image_embedding"), "B D h w -> B (h w) D")
    positions = rearrange(case.tensor("image_pe"), "1 D h w -> (h w) D")
    with torch.inference_mode():
        tokens, cells = first(prompts, image, prompts, positions)
        case.check("queries_block0", tokens)
        case.check("keys_block0_sub", cells[:, ::8])
        tokens, cells = transformer(prompts, image, positions)
    case.check("queries_out", tokens)
    case.check("keys_out_sub", cells[:, ::4])
