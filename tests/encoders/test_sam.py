"""SAM behind its image encoder: golden values of a small case, and the parts by hand.

The golden values are our own, taken when the recordings of segment-anything were met to 2e-5
(test_sam_parity.py); weights and image follow from names.
"""

from functools import lru_cache

import pytest
import torch

from lexiseg.encoders.sam import SAM, build_sam
from lexiseg.encoders.sam_checkpoints import OFFICIAL, from_official, load_sam, to_official
from lexiseg.encoders.sam_prompts import PromptEncoder
from lexiseg.encoders.sam_transformer import Attention, TwoWayTransformer
from lexiseg.weights import load_state
from tests.parity import cases, fill

SIZES = {"input_size": (96, 128), "grid": (6, 8)}
POINTS = torch.tensor([[[30.0, 50.0], [100.0, 20.0]], [[5.0, 6.0], [60.0, 90.0]]])
LABELS = torch.tensor([[1.0, 0.0], [1.0, -1.0]])


@lru_cache(maxsize=1)
def filled() -> SAM:
    return load_sam(official()).eval()


def official() -> dict[str, torch.Tensor]:
    return dict(cases("sam", "compact").weights("manifest_prompt_decoder.json"))


def test_golden_masks() -> None:
    image = 10 * torch.from_numpy(fill("sam_image_embedding", (1, 256, 6, 8)))
    with torch.no_grad():
        sparse, dense = filled().prompts(points=POINTS, labels=LABELS, **SIZES)
        positions = filled().prompts.dense_positions((6, 8))
        several, ious = filled().decoder(image, positions, sparse, dense, several=True)
        single, iou = filled().decoder(image, positions, sparse, dense, several=False)
    assert several.shape == (2, 3, 24, 32)
    expected = {
        "several": (
            several[:, :, 5, 7],
            [[-0.1820, -0.2426, -0.4413], [-0.6890, -0.2273, -0.9937]],
        ),
        "single": (single[:, 0, 20, :3], [[0.3024, 0.3373, 0.9965], [0.1796, 0.1121, 1.2971]]),
        "ious": (ious, [[0.5035, -0.2450, -0.2792], [0.1877, -0.0484, 0.3409]]),
        "iou": (iou, [[0.5805], [0.5878]]),
    }
    for found, golden in expected.values():
        torch.testing.assert_close(found, torch.tensor(golden), atol=1e-4, rtol=0)


def test_all_three_sizes_load_and_their_image_encoder_is_left_out() -> None:
    state = official() | {"image_encoder.blocks.31.attn.qkv.weight": torch.zeros(3, 1)}
    sam = load_sam(state)
    ours = sam.state_dict()
    assert ours.keys() == from_official(state).keys()
    back = to_official(ours)
    assert back.keys() == official().keys()
    assert all(torch.equal(back[key], value) for key, value in official().items())
    assert from_official(ours).keys() == ours.keys()
    assert set(OFFICIAL) == {"sam_vitb", "sam_vitl", "sam_vith"}


def test_what_is_missing_is_named() -> None:
    state = official()
    del state["prompt_encoder.no_mask_embed.weight"]
    with pytest.raises(ValueError, match=r"1 missing: prompts\.no_mask\.weight"):
        load_state(build_sam(), state, from_official)


def test_a_point_that_is_none_has_no_place() -> None:
    encoder = filled().prompts
    codes = encoder.encode_points(POINTS, torch.full_like(LABELS, -1), (96, 128))
    assert torch.equal(codes, encoder.not_a_point.weight.expand(2, 2, -1))
    bare = encoder.encode_points(POINTS, torch.full_like(LABELS, 7), (96, 128))
    assert torch.equal(bare, encoder.encode_positions(POINTS, (96, 128)))


def test_a_pixel_of_the_grid_has_the_code_of_its_cell() -> None:
    encoder = filled().prompts
    points = torch.tensor([[[7.0, 2.0]]])
    torch.testing.assert_close(
        encoder.encode_positions(points, (6, 8))[0, 0], encoder.dense_positions((6, 8))[:, 2, 7]
    )


def test_prompts_that_cannot_be_are_refused() -> None:
    encoder = PromptEncoder(8)
    with pytest.raises(ValueError, match="give points with labels, boxes, masks"):
        encoder(**SIZES)
    with pytest.raises(ValueError, match="give points with labels"):
        encoder(points=POINTS, **SIZES)
    with pytest.raises(ValueError, match="12 channels cannot be split into 8 heads"):
        Attention(24, 8, 12)


def test_the_first_layer_alone_forgets_its_input() -> None:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(dim=16, depth=3, heads=2, hidden=32)
    assert [layer.first for layer in transformer.layers] == [True, False, False]
    tokens, cells = transformer(torch.randn(2, 3, 16), torch.randn(2, 12, 16), torch.randn(12, 16))
    assert (tokens.shape, cells.shape) == ((2, 3, 16), (2, 12, 16))
