"""Which head belongs to which encoder."""

import pytest
import torch
from torch import nn

from lexiseg.encoders import lite_checkpoints
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import (
    complete,
    head_metadata,
    pack_image_side,
    pack_model,
)
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.registry import create_model, weights_of
from lexiseg.weights import fetch, metadata_of, read_weights, save_weights


def lite(seed: int) -> Lite:
    torch.manual_seed(seed)
    return Lite(text=MiniLM(MiniLMConfig(layers=1)))


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> Lite:
    """A small encoder in the place of the bundled one."""
    encoder = lite(seed=0)
    state = encoder.state_dict()
    monkeypatch.setattr(lite_checkpoints, "LITE_WEIGHTS", state)
    monkeypatch.setattr(lite_checkpoints, "BUNDLED", (state,))
    return encoder


def test_a_head_gets_the_encoder_that_it_was_trained_on(bundled: Lite) -> None:
    head = {"head.weight": torch.ones(1)}
    for metadata in (head_metadata("catseg_lite", bundled), {"model": "catseg_lite"}, {}):
        state = complete(head, lite(seed=1), metadata)
        assert torch.equal(state["head.weight"], head["head.weight"])
        encoder = {key[8:]: value for key, value in state.items() if key.startswith("encoder.")}
        assert encoder.keys() == bundled.state_dict().keys()
        assert all(torch.equal(value, encoder[key]) for key, value in bundled.state_dict().items())


def test_a_head_of_another_encoder_is_refused_with_both_checksums(bundled: Lite) -> None:
    other = lite(seed=1)
    theirs, ours = (
        head_metadata("catseg_lite", each)["encoder_sha256"] for each in (other, bundled)
    )
    assert theirs != ours
    with pytest.raises(ValueError, match=rf"^this head of catseg_lite .*{theirs}.*{ours}; train"):
        complete({}, bundled, head_metadata("catseg_lite", other))


def test_a_whole_model_and_another_encoder_stay_as_they_are(bundled: Lite) -> None:
    other = lite(seed=1)
    metadata = head_metadata("catseg_lite", other)
    whole = {f"encoder.{key}": value for key, value in other.state_dict().items()}
    assert complete(whole, bundled, metadata) == whole
    assert complete({}, nn.Linear(1, 1), metadata) == {}


def test_an_encoder_that_is_stored_without_sentences_gets_the_bundled_ones(bundled: Lite) -> None:
    other = lite(seed=1)
    stored = pack_image_side(other)
    assert not any(key.startswith("text.") for key in stored)
    state = complete({f"encoder.{key}": value for key, value in stored.items()}, other, {})
    assert state.keys() == {f"encoder.{key}" for key in other.state_dict()}
    for key, value in bundled.state_dict().items():
        if key.startswith("text."):
            assert torch.equal(state[f"encoder.{key}"], value)
    projection = state["encoder.text_projection.weight"]
    assert torch.equal(projection, other.text_projection.weight.half())


class Headed(nn.Module):
    def __init__(self, encoder: Lite) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(2, 2)


def test_a_head_is_stored_with_what_its_encoder_has_of_its_own(bundled: Lite) -> None:
    own = lite(seed=0)
    with torch.no_grad():
        own.image_projection.bias.fill_(0.25)
        own.text.token_embedding.weight[0, 0] += 1
    stored = pack_model(Headed(own), own)
    word = "encoder.text.token_embedding.weight"
    assert {key for key in stored if key.startswith("encoder.")} == {
        "encoder.image_projection.bias",
        word,
        f"{word}_scale",
    }
    bias = stored["encoder.image_projection.bias"].float()
    with_bias = {"head.weight": stored["head.weight"], "encoder.image_projection.bias": bias}
    own.text.load_state_dict(bundled.text.state_dict())
    metadata = head_metadata("cris_lite", own)
    state = complete(with_bias, own, metadata)
    assert state["head.weight"] is stored["head.weight"]
    assert all(torch.equal(state[f"encoder.{k}"], v) for k, v in own.state_dict().items())
    with torch.no_grad():
        bundled.logit_scale.add_(1)  # another one is bundled than when the head was stored
    with pytest.raises(ValueError, match="this head of cris_lite belongs to an encoder with SHA"):
        complete(with_bias, own, metadata)


def test_the_bundled_head_names_the_bundled_encoder() -> None:
    (record,) = weights_of("catseg_lite").values()
    encoder = create_model("catseg_lite").encoder
    assert metadata_of(read_weights(record)) == head_metadata("catseg_lite", encoder)


def test_the_file_of_a_head_is_checked(tmp_path) -> None:
    (record,) = weights_of("catseg_lite").values()
    head = read_weights(fetch(record))
    wrong = {**metadata_of(head), "encoder_sha256": "0" * 64}
    save_weights(tmp_path / "head.safetensors", head, wrong)
    with pytest.raises(ValueError, match="belongs to an encoder with SHA-256 0000"):
        create_model("catseg_lite", weights=tmp_path / "head.safetensors")
