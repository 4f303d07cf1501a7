"""The models that every installation has."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg import weights
from lexiseg.registry import create_model, registered, weights_of
from lexiseg.segmenter import Segmenter

ASSETS = Path(str(files("lexiseg") / "assets"))
TRUCK = Path(__file__).parents[2] / "examples" / "photos" / "truck.jpg"
WORDS = ["truck", "wheel", "road", "building"]


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_pretrained("catseg_lite", device="cpu")


def test_files_stay_small():
    assert (ASSETS / "lite" / "encoder.safetensors").stat().st_size <= 35e6
    assert (ASSETS / "lite" / "weak.safetensors").stat().st_size <= 9e6
    assert (ASSETS / "catseg" / "catseg_lite.safetensors").stat().st_size <= 4e6
    assert (ASSETS / "escnet" / "escnet_lite.safetensors").stat().st_size <= 6e6
    assert (ASSETS / "cris" / "cris_lite.safetensors").stat().st_size <= 6e6
    assert (ASSETS / "segclip" / "segclip_lite.safetensors").stat().st_size <= 6e6
    bank = ASSETS / "freeda" / "scenes_bank"
    assert sum(file.stat().st_size for file in bank.iterdir()) <= 4e6


@pytest.mark.parametrize(
    "name",
    [arch for arch in registered() if any(each.asset for each in weights_of(arch).values())],
)
def test_every_value_comes_from_a_file(name, monkeypatch):
    """Models with weights are built without values: what a file leaves out would be chance."""

    class Poisoned(weights.Uninitialised):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs)
            if getattr(func, "__module__", None) == "torch.nn.init":
                result.data.fill_(torch.nan)
            return result

    monkeypatch.setattr(weights, "Uninitialised", Poisoned)
    model = create_model(name)
    for key, value in [*model.named_parameters(), *model.named_buffers()]:
        assert not value.isnan().any(), key


@pytest.mark.parametrize("name", ["catseg_lite", "escnet_lite", "maskclip_lite"])
def test_a_photograph_is_segmented_by_words(name):
    result = Segmenter.from_pretrained(name, device="cpu")(TRUCK, WORDS)
    shares = result.shares()
    assert shares["road"] > 0.25
    assert shares["building"] > 0.15
    assert shares["truck"] > 0.1
    assert result.mask("road")[-1].mean() > 0.9
    assert result.mask("building")[:20].mean() > 0.5


def test_changed_words_change_the_picture_and_their_order_does_not(segmenter):
    first = segmenter(TRUCK, WORDS)
    turned = segmenter(TRUCK, WORDS[::-1])
    same = [np.mean(first.mask(word) == turned.mask(word)) for word in WORDS]
    assert min(same) > 0.9999
    other = segmenter(TRUCK, ["sea", "sky", "cat"])
    assert other.labels == ("sea", "sky", "cat")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_masks_of_a_turned_photograph_are_upright(segmenter, orientation, tmp_path):
    upright = Image.open(TRUCK).convert("RGB").resize((256, 192))
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    expected = segmenter(upright, WORDS).label_map
    np.testing.assert_array_equal(segmenter(tmp_path / "turned.png", WORDS).label_map, expected)


def test_the_bundled_sentence_encoder_is_minilm():
    """First five numbers of three sentences, by the transformers library, the last accented."""
    expected = torch.tensor(
        [
            [-0.053147, 0.014194, 0.007146, 0.068609, -0.07848],
            [-0.02522, 0.062905, -0.016201, 0.029476, 0.048892],
            [0.052663, 0.0017, 0.068904, -0.021283, 0.025114],
        ]
    )
    text = create_model("maskclip_lite").encoder.text
    with torch.no_grad():
        found = text(
            [
                "dog",
                "a photo of a red fire hydrant on the street",
                "Naïve café — 北京 déjà-vu!",
            ]
        ).pooled
    # int8 weights: the full-precision ones agree to 1.5e-7
    torch.testing.assert_close(found[:, :5], expected, rtol=0, atol=0.01)
