import pytest
import torch

from lexiseg.encoders.checkpoints import from_openai
from lexiseg.encoders.clip import CLIP, VITB16
from lexiseg.encoders.clip_text import TextTransformer
from lexiseg.encoders.dinov2 import DINOv2
from lexiseg.methods.freeda.offline.encoding import BankEncoder, DinoClip
from lexiseg.methods.freeda.offline.text_keys import caption_key, context_key, key_kind
from tests.encoders.tiny_clip import tiny_clip
from tests.methods.freeda.offline.tiny_encoders import TINY_DINO, tiny_lite, tiny_pair
from tests.parity import SOURCES, cases, fill

POSITIONS = ([2, 3], [6, 13], [10])


@pytest.mark.parametrize("source", SOURCES)
def test_parity_of_the_keys_from_token_features(source: str) -> None:
    case = cases("freeda", source).open("text_key_candidates.npz")
    features = case.tensor("token_features")
    keys = torch.stack([context_key(features, rows) for rows in POSITIONS])
    case.check("context_keys", keys, absolute=1e-6)
    case.check("caption_embedding", caption_key(features[-1]), absolute=1e-6)


def test_parity_of_the_keys_from_words() -> None:
    case = cases("freeda", "compact").open("text_key_candidates.npz")
    encoder = DinoClip(DINOv2(TINY_DINO), clip_with_recorded_text_tower())
    caption, words = str(case["caption"]), case["words"].tolist()
    for name, kind in (("context_keys", "context"), ("template_keys", "template")):
        case.check(name, torch.stack(encoder.keys(caption, words, kind)), absolute=1e-5)
    case.check("caption_embedding", encoder.keys(caption, words, "caption")[0], absolute=1e-5)


def clip_with_recorded_text_tower() -> CLIP:
    """Its image tower is another, a tiny one.

    OpenAI's loader keeps the matrices in half precision, and so did the recording's CLIP.
    """
    manifest = cases("clip", "compact").json("manifest_vitb16.json")
    published = {
        name: torch.from_numpy(fill(name, tuple(row["shape"])))
        for name, row in manifest.items()
        if row.get("fill", True) and not name.startswith("visual.")
    }
    halved = ("in_proj_weight", "in_proj_bias", "out_proj", "c_fc", "c_proj", "text_projection")
    for name in published:
        if any(part in name for part in halved):
            published[name] = published[name].half().float()
    text = TextTransformer(
        context_length=VITB16.context_length,
        vocabulary=VITB16.vocabulary,
        width=VITB16.text_width,
        layers=VITB16.text_layers,
        heads=VITB16.text_width // 64,
        dim=VITB16.dim,
    )
    ours = from_openai(published)
    text.load_state_dict({k.removeprefix("text."): v for k, v in ours.items() if k[:5] == "text."})
    return CLIP(visual=tiny_clip().visual, text=text, dim=VITB16.dim)


@pytest.fixture(params=[tiny_pair, tiny_lite])
def encoder(request: pytest.FixtureRequest) -> BankEncoder:
    return request.param()


def test_an_encoder_gives_keys_of_length_one(encoder: BankEncoder) -> None:
    assert isinstance(encoder, BankEncoder)
    caption = "A skateboarder and two dogs near the dog's t-shirt."
    for kind in ("context", "template", "caption"):
        keys = torch.stack(encoder.keys(caption, ["skateboarder", "t-shirt"], kind))
        torch.testing.assert_close(keys.norm(dim=1), torch.ones(2))
        assert bool((keys[0] == keys[1]).all()) == (kind == "caption")
    other = encoder.keys("A skateboarder.", ["skateboarder"], "context")[0]
    assert (other != encoder.keys(caption, ["skateboarder"], "context")[0]).any()
    with pytest.raises(ValueError, match="not in the caption"):
        encoder.keys(caption, ["cat"], "context")


def test_a_word_behind_the_cut_has_no_key(encoder: BankEncoder) -> None:
    caption = "dog " + "and " * 200 + "cat"
    first, last = encoder.keys(caption, ["dog", "cat"], "context")
    assert first is not None
    assert last is None


def test_image_features_cover_the_image(encoder: BankEncoder) -> None:
    image = torch.randint(0, 256, (40, 80, 3), dtype=torch.uint8).numpy()
    features = encoder.image_features(image)
    assert features.shape[2] == 2 * features.shape[1]
    assert features.isfinite().all()
    assert encoder.identity() == encoder.identity()


def test_kinds_name_the_encoders() -> None:
    pair = tiny_pair()
    assert (pair.kind.text_encoder, pair.kind.image_encoder) == (
        *("clip_of_24_channels", "dinov2_of_64_channels"),
    )
    assert tiny_lite().kind.image_encoder == "lite"


def test_kinds_of_keys() -> None:
    assert key_kind("template") == "template"
    with pytest.raises(ValueError, match="key 'sentence'; the keys are context, template, caption"):
        key_kind("sentence")


def test_positions_behind_the_last_token_are_told() -> None:
    with pytest.raises(ValueError, match=r"positions \[3\] came with 3 tokens"):
        context_key(torch.ones(3, 2), [3])
