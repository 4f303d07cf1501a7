from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor

from lexiseg.methods.freeda.offline.attribution import AttentionSums
from lexiseg.methods.freeda.offline.diffusion import Diffusion, recorded_attention
from tests.methods.freeda.offline.tiny_diffusion import WIDTH, tiny_pipeline

CAPTION = "A skateboarder and two dogs near a red t-shirt."


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return tiny_pipeline()


def step(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    """One step of the UNet on fixed noise, unconditional and conditional."""
    made = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, 16, 16, generator=made).repeat(2, 1, 1, 1)
    words = torch.randn(2, 77, WIDTH, generator=made)
    with torch.no_grad():
        return pipeline.unet(noise, 10, encoder_hidden_states=words).sample


def test_what_is_recorded_is_what_the_layers_attended_to(
    pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = AttentionSums(9216)
    with recorded_attention(pipeline.unet, sums, is_guided=True):
        step(pipeline)
    recorded = sums.token_maps(75)

    # The same by diffusers' own processor, whose probabilities pass through one method.
    expected = AttentionSums(9216)
    middle = [m for m in pipeline.unet.mid_block.modules() if isinstance(m, Attention)]
    compute, seen = Attention.get_attention_scores, []

    def watched(self, *arguments):
        given = compute(self, *arguments)
        if self not in middle and given.shape[-1] == 77:
            seen.append(given)
            expected.add(len(seen), given[len(given) // 2 :])
        return given

    before = dict(pipeline.unet.attn_processors)
    pipeline.unet.set_attn_processor(AttnProcessor())
    with monkeypatch.context() as patch:
        patch.setattr(Attention, "get_attention_scores", watched)
        step(pipeline)
    pipeline.unet.set_attn_processor(before)
    assert len(seen) == 3  # one in the down block, two in the up block
    torch.testing.assert_close(recorded, expected.token_maps(75))
    torch.testing.assert_close(recorded.sum(dim=0).mean(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_recording_changes_no_bit_and_leaves_nothing_behind(
    pipeline: StableDiffusionPipeline,
) -> None:
    before = dict(pipeline.unet.attn_processors)
    plain = step(pipeline)
    with recorded_attention(pipeline.unet, AttentionSums(9216), is_guided=True):
        assert torch.equal(step(pipeline), plain)
    assert pipeline.unet.attn_processors == before
    with pytest.raises(RuntimeError, match="stopped"):
        stop_in_the_middle(pipeline)
    assert pipeline.unet.attn_processors == before


def stop_in_the_middle(pipeline: StableDiffusionPipeline) -> None:
    with recorded_attention(pipeline.unet, AttentionSums(9216), is_guided=True):
        raise RuntimeError("stopped")


def test_an_image_and_its_maps_by_seed(pipeline: StableDiffusionPipeline) -> None:
    diffusion = Diffusion(pipeline, name="tiny", steps=2)
    first, again, other = (diffusion.generate(CAPTION, seed) for seed in (1, 1, 2))
    assert first.image.shape == (32, 32, 3)
    assert first.image.dtype == np.uint8
    assert len(first.token_maps) == len(first.tokens) + 2
    assert first.tokens[1:3] == ("skate", "boarder</w>")
    assert not first.flagged
    np.testing.assert_array_equal(first.image, again.image)
    assert torch.equal(first.token_maps, again.token_maps)
    assert (first.image != other.image).any()


def test_without_guidance_the_whole_batch_is_the_captions(
    pipeline: StableDiffusionPipeline,
) -> None:
    plain = Diffusion(pipeline, name="tiny", steps=1, guidance=1.0).generate(CAPTION, 1)
    sums = plain.token_maps.sum(dim=0)
    assert plain.token_maps.isfinite().all()
    assert float(sums.max()) < 1  # the rows behind the caption are not counted
    assert float(sums.min()) > 0


def test_a_long_caption_is_cut_as_the_pipeline_cuts_it(pipeline: StableDiffusionPipeline) -> None:
    made = Diffusion(pipeline, name="tiny", steps=1).generate("dog " * 100, 0)
    assert len(made.tokens) == 75
    assert len(made.token_maps) == 77


def test_from_a_folder(tiny_diffusion: Path, pipeline: StableDiffusionPipeline) -> None:
    loaded = Diffusion.from_pretrained(tiny_diffusion, steps=2)
    assert loaded.name == "tiny"
    assert loaded.image_side == 32
    here = Diffusion(pipeline, name="x", steps=2)
    np.testing.assert_array_equal(
        loaded.generate(CAPTION, 3).image, here.generate(CAPTION, 3).image
    )
    assert loaded.identity() == here.identity()
    assert here.identity() != Diffusion(pipeline, name="x", steps=3).identity()


def test_what_is_no_diffusion_is_told(tmp_path: Path, pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(ValueError, match="no Stable Diffusion that can be read"):
        Diffusion.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="steps 0"):
        Diffusion(pipeline, name="x", steps=0)
    with pytest.raises(ValueError, match="without a UNet"):
        Diffusion(object(), name="x")
