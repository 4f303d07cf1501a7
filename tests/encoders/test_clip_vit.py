import pytest
import torch
from einops import rearrange

from lexiseg.encoders.clip_vit import VisionTransformer
from tests.encoders.tiny_clip import tiny_clip


def images(height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dense", ["final", "value", "catseg"])
@pytest.mark.parametrize("size", [(32, 32), (32, 48), (8, 8), (64, 16)])
def test_any_multiple_of_the_patch_is_taken(dense, size):
    features = tiny_clip(dense=dense).visual(images(*size), intermediates=[2, 0])
    assert features.pooled.shape == (2, 24)
    assert features.patch_features.shape == (2, 24, size[0] // 8, size[1] // 8)
    assert [f.shape for f in features.intermediates] == [(2, 64, size[0] // 8, size[1] // 8)] * 2


@pytest.mark.parametrize(
    ("size", "padded"), [((33, 48), "40 x 48"), ((32, 7), "32 x 8"), ((0, 8), "8 x 8")]
)
def test_other_sizes_are_refused_with_the_size_to_pad_to(size, padded):
    with pytest.raises(ValueError, match=f"resize or pad them to {padded}"):
        tiny_clip().visual(images(*size))


def test_unknown_layers_and_modes_are_refused():
    with pytest.raises(ValueError, match=r"there are no blocks \[3, -1\]; choose from 0 to 2"):
        tiny_clip().visual(images(), intermediates=[3, 0, -1])
    with pytest.raises((ValueError, TypeError), match="dense"):
        VisionTransformer(
            image_size=8, patch_size=8, width=64, layers=1, heads=1, dim=8, dense="last"
        )


def test_intermediates_come_in_the_order_asked_for():
    visual = tiny_clip().visual
    first, second = (
        visual(images(), intermediates=order).intermediates for order in ([0, 1], [1, 0])
    )
    torch.testing.assert_close(first[0], second[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(first[1], second[0], rtol=0, atol=1e-5)
    assert not torch.equal(first[0], first[1])


def test_the_modes_share_all_but_the_last_block():
    final, value, catseg = (
        tiny_clip(dense=dense).visual(images(), intermediates=[1])
        for dense in ("final", "value", "catseg")
    )
    assert torch.equal(final.intermediates[0], value.intermediates[0])
    assert torch.equal(final.intermediates[0], catseg.intermediates[0])
    assert not torch.allclose(final.patch_features, value.patch_features, atol=0.1)
    assert not torch.allclose(value.patch_features, catseg.patch_features, atol=0.1)


def test_value_mode_keeps_the_image_feature_of_clip():
    final, value = (tiny_clip(dense=dense).visual(images()) for dense in ("final", "value"))
    torch.testing.assert_close(value.pooled, final.pooled, rtol=0, atol=2e-6)


def test_in_value_mode_a_patch_of_the_last_block_attends_to_itself_alone():
    visual = tiny_clip(dense="value").visual
    features = visual(images(), intermediates=[1])
    tokens = rearrange(features.intermediates[0], "B C h w -> B h w C")
    last = visual.blocks[-1]
    v_bias = last.attention.in_proj_bias[2 * 64 :]
    values = last.norm1(tokens) @ last.attention.v_proj_weight.T + v_bias
    values = tokens + last.attention.out_proj(values)
    values = values + last.mlp(last.norm2(values))
    expected = visual.norm_post(values) @ visual.projection
    found = rearrange(features.patch_features, "B D h w -> B h w D")
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_catseg_mode_adds_the_class_token_to_every_patch():
    visual = tiny_clip(dense="catseg").visual
    seen = []
    hook = visual.blocks[-2].register_forward_hook(lambda module, args, output: seen.append(output))
    features = visual(images())
    hook.remove()
    tokens, last = seen[0], visual.blocks[-1]
    values = last.attention.values(last.norm1(tokens)) + tokens[:, :1]
    values = values + last.mlp(last.norm2(values))
    expected = visual.norm_post(values) @ visual.projection
    torch.testing.assert_close(features.pooled, expected[:, 0], rtol=0, atol=2e-6)
    found = rearrange(features.patch_features, "B D h w -> B (h w) D")
    torch.testing.assert_close(found, expected[:, 1:], rtol=0, atol=2e-6)


@pytest.mark.parametrize("dense", ["final", "value", "catseg"])
def test_every_mode_holds_the_same_parameters(dense):
    assert tiny_clip(dense=dense).state_dict().keys() == tiny_clip().state_dict().keys()


def test_gradients_of_catseg_mode_leave_the_last_queries_and_keys_alone():
    visual = tiny_clip(dense="catseg").visual
    visual(images()).patch_features.square().sum().backward()
    last, before = visual.blocks[-1].attention, visual.blocks[-2].attention
    assert last.q_proj_weight.grad is None
    assert last.k_proj_weight.grad is None
    assert last.v_proj_weight.grad.abs().max() > 0
    assert before.q_proj_weight.grad.abs().max() > 0


def test_a_batch_is_its_images_one_by_one():
    visual, batch = tiny_clip().visual, images()
    together = visual(batch).patch_features
    alone = torch.cat([visual(image[None]).patch_features for image in batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
