import pytest
import torch

from lexiseg.methods.catseg.checkpoints import WEIGHTS, from_published, to_published
from lexiseg.registry import registered
from lexiseg.weights import load_state, read_weights
from tests.methods import contract


def test_there_and_back() -> None:
    own = contract.make("catseg_vitb16").state_dict()
    published = to_published(own)
    assert not published.keys() & own.keys()
    back = from_published(published)
    assert back.keys() == own.keys()
    assert all(torch.equal(back[key], own[key]) for key in own)


def test_masks_are_written_and_not_read() -> None:
    published = to_published(contract.make("catseg_vitb16").state_dict())
    masks = [key for key in published if key.endswith("swin_block.block_2.attn_mask")]
    assert [tuple(published[key].shape) for key in masks] == [(4, 144, 144)] * 2
    assert not [key for key in from_published(published) if "mask" in key]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_takes_the_official_dictionary(wrapped: bool) -> None:
    model, other = contract.make("catseg_vitb16"), contract.make("catseg_vitb16", seed=1)
    official = to_published(model.state_dict())
    source = {"model": official, "iteration": 79999} if wrapped else official
    load_state(other, read_weights(source), other.from_published)
    images, texts = contract.prepared(model), contract.encoded(model)
    assert torch.equal(contract.run(other, images, texts), contract.run(model, images, texts))


def test_a_missing_key_is_named() -> None:
    model = contract.make("catseg_vitb16")
    official = to_published(model.state_dict())
    del official["upsample1.weight"]
    with pytest.raises(ValueError, match=r"1 missing: guidance_upsamples\.0\.weight"):
        load_state(model, official, model.from_published)


def test_an_unknown_key_is_named() -> None:
    model = contract.make("catseg_vitb16")
    official = to_published(model.state_dict()) | {"upsample3.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"1 unexpected: upsample3\.weight"):
        load_state(model, official, model.from_published)


def test_records_are_of_registered_models() -> None:
    assert {name.partition(".")[0] for name in WEIGHTS} <= set(registered())
    assert WEIGHTS["catseg_vitl14.coco_stuff"].scores["ade150 mIoU"] == 37.9
