import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from lexiseg.layers.decoder import Decoder


def make() -> Decoder:
    torch.manual_seed(0)
    return Decoder(hidden=24, guidance_maps=(6, 5), guidance_projected=(8, 16), widths=(32, 16))


def per_text(decoder: Decoder, x: torch.Tensor, guidance: list[torch.Tensor]) -> torch.Tensor:
    """The decoder with the guidance copied for each text and concatenated."""
    texts = x.shape[1]
    y = rearrange(x, "b t h w c -> (b t) c h w")
    for index, stage in enumerate(decoder.stages):
        y = stage.up(y)
        projected = decoder.guidance_projections[index](guidance[index])
        y = torch.cat([y, repeat(projected, "b c h w -> (b t) c h w", t=texts)], dim=1)
        y = F.relu(stage.norm1(stage.conv1(y)))
        y = F.relu(stage.norm2(stage.conv2(y)))
    return rearrange(decoder.head(y), "(b t) 1 h w -> b t h w", t=texts)


def test_shared_guidance_is_guidance_for_each_text() -> None:
    decoder = make()
    x = torch.randn(2, 3, 4, 5, 24)
    guidance = [torch.randn(2, 6, 8, 10), torch.randn(2, 5, 16, 20)]
    expected = per_text(decoder, x, guidance)
    assert expected.shape == (2, 3, 16, 20)
    torch.testing.assert_close(decoder(x, guidance), expected)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_class_chunks_change_nothing(chunk: int) -> None:
    decoder = make()
    x = torch.randn(2, 3, 4, 5, 24)
    guidance = [torch.randn(2, 6, 8, 10), torch.randn(2, 5, 16, 20)]
    torch.testing.assert_close(decoder(x, guidance, class_chunk=chunk), decoder(x, guidance))


def test_guidance_of_another_grid_is_resized() -> None:
    decoder = make()
    x = torch.randn(1, 2, 4, 5, 24)
    guidance = [torch.randn(1, 6, 7, 9), torch.randn(1, 5, 15, 19)]
    assert decoder(x, guidance).shape == (1, 2, 16, 20)


def test_narrow_decoders_have_one_group() -> None:
    narrow = Decoder(hidden=8, guidance_maps=(4, 4), guidance_projected=(4, 2), widths=(8, 4))
    assert [stage.norm1.num_groups for stage in narrow.stages] == [1, 1]


def test_a_bilinear_decoder_learns_no_upsampling() -> None:
    torch.manual_seed(0)
    sizes = {"guidance_maps": (6, 5), "guidance_projected": (8, 16), "widths": (32, 16)}
    decoder = Decoder(hidden=24, **sizes, upsampling="bilinear")
    x = torch.randn(2, 3, 4, 5, 24)
    guidance = [torch.randn(2, 6, 4, 5), torch.randn(2, 5, 4, 5)]
    logits = decoder(x, guidance)
    assert logits.shape == (2, 3, 16, 20)
    torch.testing.assert_close(decoder(x, guidance, class_chunk=2), logits)
    assert decoder.stages[0].conv1.weight.shape == (32, 24 + 8, 3, 3)
    assert not [name for name, _ in decoder.named_parameters() if ".up." in name]
