import numpy as np
import pytest
import torch

from lexiseg.encoders import clip
from lexiseg.encoders.clip import CLIPConfig, build_clip, centre_crop
from tests.encoders.tiny_clip import tiny_clip


def test_logits_are_scaled_cosines():
    model = tiny_clip()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = ["a dog", "a cat", "grass"]
    left = model.encode_images(images).pooled
    right = model.encode_prompts(prompts).pooled
    cosines = torch.cosine_similarity(left[:, None], right[None], dim=-1)
    torch.testing.assert_close(model(images, prompts), cosines / 0.07, rtol=1e-5, atol=1e-5)


def test_order_of_prompts_is_order_of_features():
    model = tiny_clip()
    ahead = model.encode_prompts(["dog", "a red bus"]).pooled
    back = model.encode_prompts(["a red bus", "dog"]).pooled
    torch.testing.assert_close(ahead, back.flip(0), rtol=0, atol=2e-6)


def test_a_prompt_that_is_too_long_is_named():
    with pytest.raises(ValueError, match="'dog dog dog.*is 102 tokens long, at most 77"):
        tiny_clip().encode_prompts(["dog " * 100])


def test_the_activation_is_part_of_the_configuration():
    torch.manual_seed(0)
    small = {"vision_layers": 1, "text_layers": 1, "vocabulary": 10, "image_size": 32}
    quick, exact = (
        build_clip(CLIPConfig(**small, activation=name)) for name in ("quick_gelu", "gelu")
    )
    exact.load_state_dict(quick.state_dict())
    images = torch.ones(1, 3, 32, 32)
    difference = quick.encode_images(images).pooled - exact.encode_images(images).pooled
    assert 1e-5 < difference.abs().max() < 1


@pytest.mark.parametrize(
    ("name", "millions", "dim", "side"),
    [
        ("clip_vitb32", 151.3, 512, 224),
        ("clip_vitb16", 149.6, 512, 224),
        ("clip_vitl14", 427.6, 768, 224),
        ("clip_vitl14_336", 427.9, 768, 336),
    ],
)
def test_variants_have_their_published_sizes(name, millions, dim, side):
    with torch.device("meta"):
        model = getattr(clip, name)(dense="value")
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.05)
    assert model.dim == dim
    grid = side // model.visual.patch_size
    assert len(model.visual.position_embedding) == 1 + grid * grid


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (224, 224), (1, 9)])
def test_centre_crop_is_square(size):
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    assert centre_crop(image, 24).shape == (24, 24, 3)
