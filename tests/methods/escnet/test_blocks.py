"""One ESC-block: how SAM is prompted, and what of it reaches the image."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.encoders.sam_transformer import run_layers
from lexiseg.methods.escnet.blocks import ESCBlock, SAMBlock
from lexiseg.methods.escnet.fusion import TextGuidance, VisionLanguageFusion
from lexiseg.methods.escnet.pseudo_prompts import pseudo_prompts

DIM, HEIGHT, WIDTH, TEXTS = 32, 6, 8, 7


def make_block(stride: int = 1) -> ESCBlock:
    torch.manual_seed(0)
    block = ESCBlock(
        sam=SAMBlock(dim=DIM, heads=4, hidden=64),
        fusion=VisionLanguageFusion(
            dim=DIM, text_dim=12, hidden=16, heads=2, window=4, stride=stride, last=False
        ),
        dim=DIM,
        clusters=5,
        ratio=1.04,
        stride=stride,
    ).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return block


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, DIM, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    maps = 0.1 * torch.randn(2, TEXTS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    return image, maps


def test_a_point_has_the_code_of_its_cell() -> None:
    sam = make_block().sam
    prompts = pseudo_prompts(inputs()[1])
    tokens = sam.encode_points(prompts).view(2, TEXTS, 5, DIM)
    code = sam.prompts.dense_positions((HEIGHT, WIDTH))
    assert prompts.valid.any()
    for image, text, cluster in prompts.valid.nonzero().tolist():
        x, y = prompts.points[image, text, cluster].tolist()
        expected = code[:, y, x] + sam.prompts.kinds[1].weight[0]
        torch.testing.assert_close(tokens[image, text, cluster], expected)
    none = tokens[~prompts.valid]
    assert torch.equal(none, sam.prompts.not_a_point.weight.expand_as(none))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_masks_are_encoded_as_sam_encodes_enlarged_ones(scale: float) -> None:
    sam = make_block().sam
    sam.mask_scale = scale
    maps = inputs()[1]
    maps[0, 2] = 0  # no prompt at all
    prompts = pseudo_prompts(maps)
    found = sam.encode_masks(prompts)
    for image in range(2):
        for text in range(TEXTS):
            kept = prompts.masks[image, text][prompts.valid[image, text]]
            fine = F.interpolate(kept[:, None].double() * scale, scale_factor=4, mode="nearest")
            expected = sam.prompts.without_mask((HEIGHT, WIDTH))[0]
            if len(kept):
                expected = sam.prompts.mask_downscaling(fine).mean(dim=0)
            torch.testing.assert_close(found[image, text], expected)


def test_the_sam_block_is_sams_layers_for_each_text() -> None:
    sam = make_block().sam
    image, maps = inputs()
    prompts = pseudo_prompts(maps)
    found = sam(image, prompts)
    tokens, dense = sam.encode_points(prompts).view(2, TEXTS, 5, DIM), sam.encode_masks(prompts)
    positions = sam.prompts.dense_positions((HEIGHT, WIDTH)).flatten(1).T
    cells = (image[1] + dense[1, 3]).flatten(1).T[None]
    _, changed = run_layers(sam.layers, tokens[1, 3][None], cells, positions)
    torch.testing.assert_close(found[1, 3].flatten(1).T, changed[0])


def test_a_text_without_prompts_changes_nothing_for_the_others() -> None:
    block = make_block()
    image, maps = inputs()
    seen = block.see(image, maps)
    flat = torch.full_like(maps[:, :1], 0.3)
    torch.testing.assert_close(block.see(image, torch.cat([maps, flat], dim=1)), seen)
    torch.testing.assert_close(block.see(image, flat), image)
    assert (seen - image).abs().max() > 1e-3
    twice = block.sam(image, pseudo_prompts(torch.cat([maps, flat], dim=1)))
    torch.testing.assert_close(twice[:, :TEXTS], block.sam(image, pseudo_prompts(maps)))


def test_where_a_blob_lies_matters() -> None:
    block = make_block()
    image, maps = inputs()
    one, other = torch.zeros_like(maps), torch.zeros_like(maps)
    one[:, 0, 1:3, 1:3] = 0.5
    other[:, 0, 3:5, 5:7] = 0.5
    assert (block.see(image, one) - block.see(image, other)).abs().max() > 1e-3
    without = block.see(image, one, prompts=block.generate(one).without())
    assert torch.equal(without, image)


def test_prompts_of_a_strided_block_lie_on_sams_grid() -> None:
    block = make_block(stride=2)
    fine = torch.zeros(1, 1, 2 * HEIGHT, 2 * WIDTH, dtype=torch.float64)
    fine[:, :, 4:6, 10:12] = 0.5
    prompts = block.generate(fine)
    assert prompts.masks.shape[-2:] == (HEIGHT, WIDTH)
    assert prompts.points[prompts.valid].tolist() == [[5, 2]]


def test_a_strided_fusion_gives_back_the_fine_map() -> None:
    block = make_block(stride=2)
    image, _ = inputs()
    fine = torch.randn(2, 3, 2 * HEIGHT, 2 * WIDTH, dtype=torch.float64)
    of_texts = block.fusion.project_texts(torch.randn(3, 12, dtype=torch.float64))
    lifted = block.fusion(fine, block.fusion.project_image(image), of_texts)
    assert lifted.shape == (2, 3, HEIGHT, WIDTH, 16)
    assert block.refine(image, fine, of_texts).shape == fine.shape


def test_text_guidance_is_linear_attention_to_all_texts() -> None:
    torch.manual_seed(0)
    guidance = TextGuidance(text_dim=12, hidden=16, heads=2).double()
    maps, texts = torch.randn(1, 3, 2, 2, 16).double(), torch.randn(5, 12).double()
    found = guidance(maps, guidance.sum_texts(texts))
    projected = guidance.text_projection(texts)
    q, k, v = guidance.q(guidance.norm1(maps)), guidance.k(projected), guidance.v(projected)
    mixed = []
    for head in (slice(0, 8), slice(8, 16)):
        positive_q, positive_k = F.elu(q[..., head]) + 1, F.elu(k[:, head]) + 1
        weights = positive_q @ positive_k.T
        mixed.append(weights @ v[:, head] / (weights.sum(dim=-1, keepdim=True) + 1e-6))
    z = maps + torch.cat(mixed, dim=-1)
    torch.testing.assert_close(found, z + guidance.mlp(guidance.norm2(z)))


def test_prompts_that_are_not_valid_have_no_masks() -> None:
    prompts = pseudo_prompts(inputs()[1])
    assert not prompts.without().valid.any()
    assert not prompts.without().masks.any()
