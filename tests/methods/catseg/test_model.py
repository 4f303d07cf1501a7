from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures
from lexiseg.methods.base import Texts
from lexiseg.methods.catseg import CATSeg, CATSegConfig, clip_protocols
from lexiseg.registry import builder_of
from tests.methods import contract

STRIDE_TWO = CATSegConfig(
    intermediates=(0, 1),
    guidance_widths=(10, 6),
    guidance_upsample=(1, 1),
    guidance_maps=(8, 4),
    guidance_projected=(4, 4),
    hidden=16,
    heads=2,
    window=4,
    decoder_widths=(16, 16),
    cost_stride=2,
    padding_length=None,
)


class Pyramid(nn.Module):
    """An encoder of another kind: patches of 8 pixels, intermediates at strides 8 and 4."""

    dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 4, stride=4)
        self.coarse = nn.Conv2d(3, 10, 8, stride=8)
        self.patches = nn.Conv2d(10, 12, 1)
        self.words = nn.Linear(4, 12)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def encode_images(self, images: torch.Tensor, *, intermediates: tuple = ()) -> ImageFeatures:
        coarse = self.coarse(images)
        patches = self.patches(coarse)
        available = (coarse, self.fine(images))
        return ImageFeatures(
            pooled=patches.mean(dim=(2, 3)),
            patch_features=patches,
            intermediates=tuple(available[index] for index in intermediates),
        )

    def encode_prompts(self, prompts: list[str]) -> TextFeatures:
        ids = torch.tensor([[float(ord(c)) for c in prompt.ljust(4)[:4]] for prompt in prompts])
        pooled = self.words(ids / 100)
        return TextFeatures(
            pooled=pooled, words=pooled[:, None], is_word=torch.ones(len(prompts), 1).bool()
        )


def make_stride_two() -> CATSeg:
    torch.manual_seed(0)
    return CATSeg(Pyramid(), STRIDE_TWO, protocols=clip_protocols(32, patch=8)).eval()


def random_texts(count: int, dim: int = 16) -> Texts:
    return Texts(F.normalize(torch.randn(count, dim), dim=-1))


@pytest.mark.parametrize("size", [(64, 64), (72, 40), (104, 48), (8, 8)])
def test_an_encoder_of_stride_8_is_aggregated_at_16(size: tuple[int, int]) -> None:
    """The logits lie on four times the aggregation grid, which is half the patch grid."""
    model = make_stride_two()
    logits = model(torch.randn(2, 3, *size), random_texts(3, dim=12))
    expected = tuple(4 * -(-side // 16) for side in size)
    assert logits.shape == (2, 3, *expected)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_class_chunks_change_nothing_without_padding(chunk: int) -> None:
    model = make_stride_two()
    images, texts = torch.randn(2, 3, 72, 40), random_texts(5, dim=12)
    whole = model(images, texts)
    model.class_chunk = chunk
    torch.testing.assert_close(model(images, texts), whole, atol=1e-5, rtol=1e-5)


def test_texts_get_gradients() -> None:
    model = contract.make("catseg_vitb16")
    texts = model.encode_texts([["a cat"], ["a dog"]])
    model(contract.prepared(model), texts).sum().backward()
    gradient = model.encoder.text.blocks[0].attention.v_proj_weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_prompts_are_averaged_as_directions() -> None:
    model = make_stride_two()
    together = model.encode_texts([["ab", "cd"], ["ef"]]).features
    one, two, three = F.normalize(model.encoder.encode_prompts(["ab", "cd", "ef"]).pooled, dim=-1)
    torch.testing.assert_close(together, torch.stack([F.normalize(one + two, dim=0), three]))


def test_all_texts_take_part_unless_limited() -> None:
    model = contract.make("catseg_vitb16")
    images = contract.prepared(model)
    texts = random_texts(20)
    logits = contract.run(model, images, texts)
    assert (logits > -100).all()
    limited = Texts(texts.features, at_most=20)
    torch.testing.assert_close(contract.run(model, images, limited), logits)


def test_published_limit_of_classes() -> None:
    """Each image keeps the texts with the highest cosine anywhere in it; the others get -100."""
    model = contract.make("catseg_vitb16")
    images = torch.cat([contract.prepared(model), contract.prepared(model).flip(1) * 2])
    texts = replace(random_texts(12), at_most=4)
    logits = contract.run(model, images, texts)
    with torch.no_grad():
        patches = model.encoder.encode_images(images).patch_features
    highest = torch.einsum("bdhw,td->bthw", F.normalize(patches, dim=1), texts.features)
    for index in range(2):
        kept = highest[index].amax(dim=(1, 2)).topk(4).indices
        left_out = torch.ones(12, dtype=torch.bool).index_fill(0, kept, False)
        assert (logits[index][left_out] == -100).all()
        alone = contract.run(model, images[index : index + 1], Texts(texts.features[kept]))[0]
        torch.testing.assert_close(logits[index][kept], alone, atol=1e-4, rtol=1e-4)


def test_class_pooling_is_an_argument_not_a_mode() -> None:
    model = contract.make("catseg_vitb16")
    images, texts = torch.randn(1, 3, 32, 48), random_texts(3)
    one = contract.run(model.train(), images, texts)
    torch.testing.assert_close(contract.run(model.eval(), images, texts), one)
    model.class_pooling = 2
    assert (contract.run(model, images, texts) - one).abs().max() > 1e-4


def test_variants_differ_in_widths_only() -> None:
    with torch.device("meta"):
        base, large = builder_of("catseg_vitb16")(), builder_of("catseg_vitl14")()
    assert large.config == replace(base.config, intermediates=(7, 15), guidance_widths=(1024, 1024))
    assert (base.encoder.dim, large.encoder.dim) == (512, 768)
    assert base.protocols["published"].tiling.input_size == 384
    assert large.protocols["published"].tiling.input_size == 336


def test_builders_take_changes() -> None:
    with torch.device("meta"):
        assert builder_of("catseg_vitb16")(class_pooling=2).class_pooling == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediates": (3, 5, 7)}, "one number for each decoder stage"),
        ({"heads": 3}, "hidden 128 cannot be split into 3 heads"),
        ({"class_pooling": 0}, "class_pooling 0"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CATSegConfig(**changes)


def test_a_class_chunk_of_nothing_is_refused() -> None:
    model = make_stride_two()
    model.class_chunk = 0
    with pytest.raises(ValueError, match="class_chunk 0 came; it must be at least 1"):
        model(torch.randn(1, 3, 32, 32), random_texts(2, dim=12))
