import pytest
import torch

from lexiseg.encoders.lite import GroupedConv2d, Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Lite(text=MiniLM(MiniLMConfig(layers=1))).eval()


def test_patches_are_eight_pixels_and_intermediates_eight_and_four(encoder):
    with torch.inference_mode():
        features = encoder.encode_images(torch.randn(2, 3, 64, 96), intermediates=(0, 1))
    assert features.patch_features.shape == (2, encoder.dim, 8, 12)
    assert [tuple(m.shape[1:]) for m in features.intermediates] == [(192, 8, 12), (24, 16, 24)]
    assert features.pooled.shape == (2, encoder.dim)


def test_a_batch_gives_what_single_images_give(encoder):
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        together = encoder.encode_images(images).patch_features
        alone = torch.cat([encoder.encode_images(image[None]).patch_features for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(33, 47), (65, 130)])
def test_odd_sizes_are_accepted(encoder, size):
    with torch.inference_mode():
        grid = encoder.encode_images(torch.randn(1, 3, *size)).patch_features.shape[-2:]
    assert tuple(grid) == tuple(-(-n // 8) for n in size)


def test_a_tiny_image_is_refused(encoder):
    with pytest.raises(ValueError, match="at least 32"):
        encoder.encode_images(torch.randn(1, 3, 31, 64))


def test_an_unknown_intermediate_is_refused(encoder):
    with pytest.raises(ValueError, match=r"no intermediates \[2\]; choose from 0 to 1"):
        encoder.encode_images(torch.randn(1, 3, 32, 32), intermediates=(2,))


def test_padding_does_not_change_a_prompt(encoder):
    alone = encoder.encode_prompts(["dog"]).pooled
    beside = encoder.encode_prompts(["dog", "a much longer sentence about a dog"]).pooled[:1]
    torch.testing.assert_close(alone, beside, atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_text_projection_but_not_the_sentence_encoder(encoder):
    encoder.encode_prompts(["dog"]).pooled.sum().backward()
    assert encoder.text_projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.text.parameters())
    encoder.zero_grad()


def test_depthwise_filters_learn_in_single_precision():
    torch.manual_seed(0)
    conv = GroupedConv2d(4, 4, 5, groups=4, bias=False)
    image = torch.randn(1, 4, 9, 9, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(image)
    assert out.dtype == torch.bfloat16
    (learned,) = torch.autograd.grad(out.float().sum(), conv.weight)
    (exact,) = torch.autograd.grad(conv(image.float()).sum(), conv.weight)
    assert torch.equal(learned, exact)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        quick = torch.nn.functional.conv2d(image, conv.weight, groups=4)
        assert torch.equal(conv(image), quick)
