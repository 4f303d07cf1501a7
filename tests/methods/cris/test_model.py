from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures
from lexiseg.methods.base import Texts
from lexiseg.methods.cris import CRIS, CRISConfig, Sentences, cris_protocols
from lexiseg.segmenter import Segmenter
from tests.methods import contract
from tests.methods.cris.recordings import pair_logits


def tiny(**changes) -> CRIS:
    torch.manual_seed(0)
    return contract.tiny_cris(replace(contract.TINY_CRIS, **changes)).eval()


def noise(count: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def sentences(model: CRIS, *expressions: str) -> Sentences:
    return model.encode_texts([[expression] for expression in expressions])


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (160, 64)])
def test_logits_lie_at_a_quarter_of_the_image(size: tuple[int, int]) -> None:
    model = tiny()
    with torch.no_grad():
        logits = model(noise(2, *size), sentences(model, "a cat", "the red dog", "left"))
    assert logits.shape == (2, 3, size[0] // 4, size[1] // 4)


def test_pairs_are_the_diagonal() -> None:
    model = tiny()
    texts = sentences(model, "a cat", "the red dog")
    with torch.no_grad():
        pairs, all_of_them = pair_logits(model, noise(), texts), model(noise(), texts)
    torch.testing.assert_close(pairs[:, 0], all_of_them[[0, 1], [0, 1]], atol=1e-5, rtol=1e-5)


def test_several_sentences_of_an_expression_are_averaged() -> None:
    model = tiny()
    with torch.no_grad():
        both = model(noise(), model.encode_texts([["a cat", "one feline"], ["dog"]]))
        each = model(noise(), sentences(model, "a cat", "one feline", "dog"))
    torch.testing.assert_close(both[:, 0], each[:, :2].mean(dim=1))
    torch.testing.assert_close(both[:, 1], each[:, 2])


def test_the_length_of_other_sentences_makes_no_difference() -> None:
    """Padding is hidden: beside a long sentence, a short one gives the same map."""
    model = tiny()
    with torch.no_grad():
        alone = model(noise(), sentences(model, "a cat"))
        beside = model(noise(), sentences(model, "a cat", "the cat on the right of the red sofa"))
    torch.testing.assert_close(alone[:, 0], beside[:, 0], atol=1e-5, rtol=1e-5)


def test_words_that_begin_with_id_zero_are_hidden_only_as_published() -> None:
    """A "!" before more punctuation has the id of padding."""
    ours, published = tiny(), tiny(hide_id_zero=True)
    for model, expected in ((ours, [True] * 5), (published, [True, True, False, True, True])):
        texts = sentences(model, "cat !(")
        assert texts.is_word[0].tolist() == expected
    model = tiny()
    model.hide_id_zero = True
    assert not sentences(model, "cat !(").is_word.all()


def test_long_sentences_are_cut_only_as_published() -> None:
    long_one = "the cat that sits on the left of the old red sofa under a green lamp and sleeps"
    assert sentences(tiny(), long_one).words.shape[1] == 20
    cut = sentences(tiny(word_length=17), long_one)
    assert cut.words.shape[1] == 17
    with pytest.raises(ValueError, match="at most 77 are allowed"):
        sentences(tiny(), long_one * 6)


def test_texts_of_another_method_are_told() -> None:
    with pytest.raises(TypeError, match="texts came as Texts; CRIS needs the words too"):
        tiny()(noise(), Texts(torch.ones(1, 16)))


def test_frozen_norms_of_the_encoder_stay_as_loaded() -> None:
    model = tiny(encoder_norms="frozen").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pair_logits(model, noise(), sentences(model, "a cat", "dog"))
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed
    assert not any(key.startswith("encoder.") for key in changed)
    trained = tiny().train()
    assert all(part.training for part in trained.encoder.modules())
    assert not any(part.training for part in trained.eval().modules())


def test_dropout_is_random_only_in_training() -> None:
    model = tiny(encoder_norms="frozen", dropout=0.5)
    texts = sentences(model, "a cat", "dog")
    with torch.no_grad():
        assert torch.equal(model(noise(), texts), model(noise(), texts))
        model.decoder.train()
        assert not torch.equal(model(noise(), texts), model(noise(), texts))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neck_widths": (16, 60, 32)}, "60 wide .*give a multiple of 8"),
        ({"word_length": 2}, "word_length 2 came"),
    ],
)
def test_configurations_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(contract.TINY_CRIS, **changes)


class Pyramid(nn.Module):
    """An encoder of another kind: maps at strides 4, 8 and 8, other words."""

    dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 4, stride=4)
        self.middle = nn.Conv2d(3, 10, 8, stride=8)
        self.patches = nn.Conv2d(10, 12, 1)
        self.words = nn.Embedding(128, 16)
        self.project = nn.Linear(16, 12)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def encode_images(
        self, images: torch.Tensor, *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        middle = self.middle(images)
        patches = self.patches(middle)
        available = (self.fine(images), middle)
        maps = tuple(available[index] for index in intermediates)
        return ImageFeatures(patches.mean(dim=(2, 3)), patches, maps)

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        ids = torch.tensor([[ord(c) for c in prompt.ljust(8)[:8]] for prompt in prompts])
        words = self.words(ids)
        pooled = self.project(words.mean(dim=1))
        return TextFeatures(pooled=pooled, words=words, is_word=ids != ord(" "))


def test_an_encoder_of_other_strides() -> None:
    """The merged map lies on the grid of the middle map, whatever its stride."""
    config = CRISConfig(
        intermediates=(0, 1),
        image_widths=(6, 10, 12),
        neck_widths=(8, 16, 12),
        state_width=12,
        layers=1,
        heads=2,
        hidden=16,
    )
    model = CRIS(Pyramid(), config, protocols=cris_protocols(64)).eval()
    with torch.no_grad():
        logits = model(noise(1, 64, 72), model.encode_texts([["a cat"], ["the dog"]]))
    assert logits.shape == (1, 2, 32, 36)


def test_the_segmenter_looks_once_and_reads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    looks, reads = [], []
    look, read = model.look, model._read
    monkeypatch.setattr(model, "look", lambda images: looks.append(1) or look(images))
    monkeypatch.setattr(model, "_read", lambda prompts: reads.append(len(prompts)) or read(prompts))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    expressions = ["the left one", "a red cat", "the cup, or the glass|mug"]
    for protocol in ("default", "published"):
        segmenter = Segmenter(model, protocol=protocol, device="cpu")
        found = segmenter.refer(image, expressions)
        again = segmenter.refer(image[:, ::-1], expressions)
        assert found.masks.shape == again.masks.shape == (3, 50, 70)
        each = [segmenter.refer(image, [expression]).masks[0] for expression in expressions]
        assert (np.stack(each) != found.masks).mean() < 1e-3
        assert (len(looks), reads) == (5, [3, 1, 1, 1])
        looks.clear()
        reads.clear()


def test_the_published_threshold_is_the_segmenters() -> None:
    model = tiny()
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    segmenter = Segmenter(model, protocol="published", device="cpu")
    kept = segmenter(image, "cat", scores=True).scores
    np.testing.assert_array_equal(segmenter.refer(image, ["cat"]).masks, kept >= 0.35)
