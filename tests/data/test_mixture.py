import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lexiseg.data.mixture import Cutouts, ImageLabelSource, MaskSource, Mixture, MixtureConfig
from lexiseg.data.semantic import IGNORE_INDEX, read_semantic_folder
from lexiseg.images import Preprocess

PREPROCESS = Preprocess(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


@pytest.fixture
def mixture(own_data, tmp_path):
    named = tmp_path / "named"
    named.mkdir()
    Image.new("RGB", (50, 50), (0, 200, 0)).save(named / "g.png")
    rows = [{"image": "g.png", "name": name, "split": "train"} for name in ("green", "leaf")]
    (named / "labels.json").write_text(json.dumps(rows))
    Image.new("L", (50, 50), 255).save(named / "a.png")
    (named / "cutouts.json").write_text(
        json.dumps([{"image": "g.png", "alpha": "a.png", "name": "frog"}])
    )
    sources = [
        (MaskSource(read_semantic_folder(own_data, "train")), 1.0),
        (ImageLabelSource(named, "train"), 1.0),
    ]
    return Mixture(
        sources,
        preprocess=PREPROCESS,
        config=MixtureConfig(crop=32, longest=(32, 64), paste_probability=0.5),
        length=40,
        seed=3,
        cutouts=Cutouts(named),
    )


def test_samples_do_not_depend_on_order_or_workers(mixture):
    loaded = list(DataLoader(mixture, batch_size=8, collate_fn=list, num_workers=2))
    direct = [mixture[index] for index in reversed(range(40))][::-1]
    for one, other in zip((s for batch in loaded for s in batch), direct, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label_map, other.label_map)
        assert one.class_names == other.class_names


def test_every_kind_of_sample_is_drawn_with_its_names(mixture):
    samples = [mixture[index] for index in range(40)]
    whole = [s for s in samples if s.image_label is not None]
    pasted = [s for s in samples if "frog" in s.class_names]
    plain = [s for s in samples if s.class_names == ("red", "blue")]
    assert len(whole) + len(pasted) + len(plain) == 40
    assert min(len(whole), len(pasted), len(plain)) > 4
    assert all((s.label_map == IGNORE_INDEX).all() for s in whole)
    assert {s.class_names[s.image_label] for s in whole} == {"green", "leaf"}
    assert any((s.label_map == s.class_names.index("frog")).any() for s in pasted)
    assert mixture.names == ["blue", "frog", "green", "leaf", "red"]


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one data set"):
        Mixture([], preprocess=PREPROCESS, config=MixtureConfig(), length=1, seed=0)


def test_pixels_are_normalised(mixture):
    assert 0.3 < np.mean([mixture[i].image.max().item() for i in range(8)]) <= 1.0
