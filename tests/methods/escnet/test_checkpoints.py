"""Starting from the official files of CLIP and SAM, made from manifests and tiny sizes."""

from pathlib import Path

import pytest
import torch

from lexiseg import registry
from lexiseg.encoders.checkpoints import to_huggingface, to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.encoders.sam import SAM, MaskDecoder
from lexiseg.encoders.sam_checkpoints import to_official
from lexiseg.encoders.sam_prompts import PromptEncoder
from lexiseg.encoders.sam_transformer import TwoWayTransformer
from lexiseg.methods.escnet import ESCNet
from lexiseg.registry import create_model
from lexiseg.weights import KeyFate
from tests.methods import contract
from tests.parity import cases


def sam_file(dim: int = 32) -> dict[str, torch.Tensor]:
    """A SAM of the tiny model's width under official names, as a ``.pth`` holds it."""
    torch.manual_seed(5)
    transformer = TwoWayTransformer(dim=dim, heads=4, hidden=64)
    sam = SAM(prompts=PromptEncoder(dim), decoder=MaskDecoder(transformer=transformer, dim=dim))
    image_encoder = {"image_encoder.pos_embed": torch.zeros(1, 2, 2, 3)}
    return to_official(sam.state_dict()) | image_encoder


def clip_file() -> dict[str, torch.Tensor]:
    torch.manual_seed(6)
    extras = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    return to_openai(build_clip(contract.TINY_CLIP).state_dict()) | extras


def of_key(fates: tuple[KeyFate, ...], key: str) -> KeyFate:
    (fate,) = [fate for fate in fates if fate.key == key]
    return fate


def test_every_block_holds_sams_own_tensors() -> None:
    model, sam, clip = contract.tiny_escnet(), sam_file(), clip_file()
    fates = model.initialise({"clip": clip, "sam": sam})
    state = model.state_dict()
    layer = "mask_decoder.transformer.layers.1."
    for block in range(2):
        place = f"rounds.blocks.{block}.sam."
        pairs = {
            "layers.1.tokens_to_image.q.weight": layer + "cross_attn_token_to_image.q_proj.weight",
            "layers.1.mlp.2.bias": layer + "mlp.lin2.bias",
            "prompts.kinds.1.weight": "prompt_encoder.point_embeddings.1.weight",
            "prompts.frequencies": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        }
        for ours, theirs in pairs.items():
            assert torch.equal(state[place + ours], sam[theirs])
    for key in state:
        if ".sam." in key:
            assert any(key in fate.places for fate in fates), key
    weights = [block.sam.layers[0].mlp[0].weight for block in model.rounds.blocks]
    assert weights[0].data_ptr() != weights[1].data_ptr()


def test_every_key_has_a_fate() -> None:
    model, sam, clip = contract.tiny_escnet(), sam_file(), clip_file()
    fates = model.initialise({"clip": clip, "sam": sam})
    assert [fate.key for fate in fates] == [*clip, *sam]
    assert of_key(fates, "image_encoder.pos_embed").reason == "SAM's image encoder is not used"
    assert "own decoder" in of_key(fates, "mask_decoder.iou_token.weight").reason
    final = "mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"
    assert of_key(fates, final).reason == "its output never reaches the image"
    assert "no parameter" in of_key(fates, "input_resolution").reason
    block = "encoder.visual.blocks.0.attention."
    assert of_key(fates, "visual.transformer.resblocks.0.attn.in_proj_weight").places == tuple(
        f"{block}{letter}_proj_weight" for letter in "qkv"
    )
    loaded = {place for fate in fates for place in fate.places}
    assert {f"encoder.{key}" for key in model.encoder.state_dict()} <= loaded
    assert str(of_key(fates, "visual.proj")) == "clip: visual.proj loaded as " + (
        "encoder.visual.projection"
    )


def test_other_layouts_of_clip_are_traced_too() -> None:
    model = contract.tiny_escnet()
    state = to_huggingface(build_clip(contract.TINY_CLIP).state_dict())
    fates = model.initialise({"clip": state})
    assert all(fate.places for fate in fates)
    key = "text_model.encoder.layers.0.self_attn.k_proj.bias"
    assert of_key(fates, key).places == ("encoder.text.blocks.0.attention.in_proj_bias",)


def test_the_official_file_of_full_size_fits() -> None:
    with torch.device("meta"):
        model = registry.builder_of("escnet_vitb16")()
    model.rounds.to_empty(device="cpu")
    state = cases("sam", "compact").weights("manifest_prompt_decoder.json")
    fates = model.initialise({"sam": state})
    assert sum(bool(fate.places) for fate in fates) == 17 + 2 * 36
    assert {len(fate.places) for fate in fates} == {0, 4}


@pytest.mark.parametrize("block", [0, 1])
def test_a_loaded_tensor_of_a_block_matters(block: int) -> None:
    model = contract.make("escnet_vitb16")
    model.initialise({"sam": sam_file()})
    images, texts = contract.prepared(model), contract.encoded(model)
    before = contract.run(model, images, texts)
    with torch.no_grad():
        model.rounds.blocks[block].sam.layers[1].image_to_tokens.v.weight.mul_(3)
    assert (contract.run(model, images, texts) - before).abs().max() > 1e-5


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> str:
    registry.builder_of("escnet_vitb16")  # fills the registry
    monkeypatch.setitem(registry._BUILDERS, "escnet_vitb16", contract.tiny_escnet)
    monkeypatch.setitem(registry._BUILDERS, "catseg_vitb16", contract.tiny_catseg)
    return "escnet_vitb16"


def test_create_model_takes_the_files(
    registered: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(sam_file(), tmp_path / "sam.pth")
    torch.save(clip_file(), tmp_path / "clip.pt")
    caplog.set_level("INFO", "lexiseg.registry")
    files = {"clip": tmp_path / "clip.pt", "sam": str(tmp_path / "sam.pth")}
    model = create_model(registered, weights=files)
    assert isinstance(model, ESCNet)
    assert torch.equal(model.encoder.visual.projection, clip_file()["visual.proj"])
    assert len(caplog.messages) == len(model.key_fates) == len(sam_file()) + len(clip_file())
    assert (
        "sam: image_encoder.pos_embed ignored: SAM's image encoder is not used" in caplog.messages
    )


def test_parts_that_do_not_exist_are_refused(registered: str) -> None:
    with pytest.raises(ValueError, match=r"came for \['samm'\], but ESCNet takes 'clip' and 'sam'"):
        create_model(registered, weights={"clip": "a.pt", "samm": "b.pth"})
    with pytest.raises(ValueError, match=r"CATSeg takes one file alone, weights=PATH"):
        create_model("catseg_vitb16", weights={"clip": "a.pt"})


def test_own_weights_are_one_file(registered: str) -> None:
    state = contract.make("escnet_vitb16").state_dict()
    for source in (state, {"model": state}):
        loaded = create_model(registered, weights=source).state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_files_that_do_not_fit_are_refused() -> None:
    model, sam, clip = contract.tiny_escnet(), sam_file(), clip_file()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lacking = {key: value for key, value in sam.items() if "no_mask_embed" not in key}
    with pytest.raises(
        ValueError, match=r'"sam" lack 1 keys: prompt_encoder\.no_mask_embed\.weight'
    ):
        model.initialise({"clip": clip, "sam": lacking})
    with pytest.raises(ValueError, match="of another shape"):
        model.initialise({"clip": clip, "sam": sam_file(dim=64)})
    more = clip | {"visual.transformer.resblocks.3.ln_1.weight": torch.zeros(64)}
    with pytest.raises(ValueError, match=r'"clip" have no place for 1 keys: encoder\.visual'):
        model.initialise({"clip": more})
    with pytest.raises(ValueError, match="the encoder of this model is Lite, no CLIP"):
        contract.tiny_escnet_lite().initialise({"clip": clip})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
