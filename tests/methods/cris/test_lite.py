"""The small model: what it adds to CRIS, and the bundled weights."""

from pathlib import Path

import numpy as np
import torch

from lexiseg.methods.cris import CRISLite
from lexiseg.methods.cris.fine_projector import relative_places
from lexiseg.methods.cris.lite import FineMaps
from lexiseg.registry import create_model
from lexiseg.segmenter import Segmenter
from tests.methods import contract

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"


def tiny(**changes) -> CRISLite:
    torch.manual_seed(0)
    return contract.tiny_cris_lite(**changes).eval()


def noise(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_at_first_the_logits_are_the_cost() -> None:
    """The kernel of every sentence is 0, so that training begins where the encoder is."""
    model = tiny()
    texts = model.encode_texts([["a cat"], ["the red dog"]])
    with torch.no_grad():
        logits, maps = model(noise(), texts), model.look(noise())
        cost = torch.einsum("bdhw,td->bthw", maps.patches, texts.features)
        size = logits.shape[-2:]
        fine = torch.nn.functional.interpolate(cost, size=size, mode="bilinear")
    assert logits.shape == (2, 2, 16, 24)
    torch.testing.assert_close(logits, 15 * fine - 4, atol=1e-4, rtol=1e-4)


def test_a_sentence_is_its_place_in_the_joint_space_and_its_words() -> None:
    model = tiny()
    texts = model.encode_texts([["the cat on the left"], ["cat"]])
    assert texts.states.shape == (2, 256 + 384)
    joint, words = texts.states.split([256, 384], dim=1)
    torch.testing.assert_close(joint, texts.features)
    torch.testing.assert_close(words.norm(dim=1), torch.ones(2))
    beside = model.encode_texts([["cat"]]).states
    torch.testing.assert_close(beside, texts.states[1:], atol=1e-5, rtol=1e-5)


def test_left_and_right_lie_on_two_sides_of_what_a_sentence_may_mean() -> None:
    """Two peaks of equal height: their middle is 0, and they are one spread away from it."""
    cost = torch.full((1, 1, 5, 11), -1.0)
    cost[0, 0, 2, [1, 5]] = 1.0
    places = relative_places(cost, gain=torch.tensor(30.0), offset=torch.tensor(0.0))
    assert places.shape == (1, 3, 5, 11)
    across, down, far = places[0, :, 2]
    expected = torch.zeros(11)
    expected[[1, 5]] = torch.tensor([-1.0, 1.0])  # what does not fit is nowhere
    torch.testing.assert_close(across, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(down, torch.zeros(11), atol=1e-3, rtol=0)
    torch.testing.assert_close(far, expected.abs(), atol=1e-3, rtol=0)


def test_states_are_standardised_by_sentences_of_the_training() -> None:
    model = tiny()
    sentences = ["the cup on the left", "the cup on the right", "the red dog", "a tree"]
    model.standardise(sentences)
    states = model.encode_texts([[s] for s in sentences]).states
    standard = (states - model.state_mean) / model.state_scale
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(640), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std(dim=0), torch.ones(640), atol=1e-3, rtol=0)


def test_without_contrast_the_sentence_makes_no_kernel() -> None:
    with_it, without = tiny(), tiny(contrastive=False)
    assert {k.rpartition(".")[0] for k in with_it.state_dict().keys() - without.state_dict()} == {
        "projector.kernel",
        "projector.conv3",
    }
    texts = without.encode_texts([["a cat"], ["the red dog"]])
    with torch.no_grad():
        assert without(noise(), texts).shape == (2, 2, 16, 24)


def test_looking_once_is_enough_for_training() -> None:
    """Features of a frozen encoder give the same maps, repeated for each sentence."""
    model = tiny()
    with torch.no_grad():
        features = model.encoder.encode_images(noise(), intermediates=(1, 0))
        maps, again = model.look(noise()), model.arrange(features)
    assert isinstance(maps, FineMaps)
    assert torch.equal(maps.patches, again.patches)
    repeated = maps.repeated(3)
    for part in (repeated.fine, repeated.coarse, repeated.patches, *repeated.details):
        assert len(part) == 6
        assert torch.equal(part[0], part[2])
        assert not torch.equal(part[2], part[3])


def test_the_encoder_is_not_changed_by_training() -> None:
    model = tiny().train()
    texts = model.encode_texts([["a cat"], ["a dog"]])
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    model(noise(), texts)
    assert all(torch.equal(v, before[k]) for k, v in model.encoder.state_dict().items())


class TestBundled:
    def test_a_photograph_is_searched_by_sentences(self) -> None:
        segmenter = Segmenter(create_model("cris_lite"), device="cpu")
        found = segmenter.refer(PHOTOS / "truck.jpg", ["the truck", "the road"])
        truck, road = found.masks
        assert 0.08 < truck.mean() < 0.6
        assert road[-20:].mean() > 0.5 > road[:20].mean()
        assert (truck & road).sum() < 0.2 * truck.sum()

    def test_left_and_right_are_told_apart(self) -> None:
        segmenter = Segmenter(create_model("cris_lite"), device="cpu")
        sentences = ["the wheel on the left", "the wheel on the right"]
        left, right = segmenter.refer(PHOTOS / "truck.jpg", sentences).masks
        columns = [np.nonzero(mask)[1].mean() for mask in (left, right)]
        assert columns[0] + 0.1 * left.shape[1] < columns[1]
