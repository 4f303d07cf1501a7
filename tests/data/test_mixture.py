import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lexiseg.data import augment
from lexiseg.data.mixture import (
    Cutouts,
    Drawn,
    ImageLabelSource,
    MaskSource,
    Mixture,
    MixtureConfig,
)
from lexiseg.data.semantic import IGNORE_INDEX, read_semantic_folder
from lexiseg.images import Preprocess

GOLDEN = [
    3411383295,
    2804394666,
    3883197862,
    2133454749,
    2693614538,
    940461643,
    66531425,
    1829517181,
    3275671399,
    439732695,
    2334915514,
    2219690616,
]
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


def test_whole_pictures_have_sides_that_the_model_takes(mixture):
    mixture.preprocess = replace(PREPROCESS, multiple=16)
    mixture.config = replace(mixture.config, crop=None, longest=(48, 96), stretch=1.0)
    samples = [mixture[index] for index in range(40)]
    sizes = {tuple(sample.image.shape[1:]) for sample in samples}
    assert all(s.label_map.shape == s.image.shape[1:] for s in samples)
    assert all(side % 16 == 0 for size in sizes for side in size)
    assert {max(size) for size in sizes} == {48, 64, 80, 96}
    assert any(s.image_label is not None for s in samples)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one data set"):
        Mixture([], preprocess=PREPROCESS, config=MixtureConfig(), length=1, seed=0)


def test_pixels_are_normalised(mixture):
    assert 0.3 < np.mean([mixture[i].image.max().item() for i in range(8)]) <= 1.0


def test_samples_are_those_that_the_bundled_models_learned_from(mixture):
    """Checksums of the samples before the augmentations took several maps of 8 or 16 bits."""
    checksums = []
    for index in range(12):
        sample = mixture[index]
        pixels = (sample.image * 255).round().to(torch.uint8)
        data = (pixels.numpy().tobytes(), sample.label_map.to(torch.uint8).numpy().tobytes())
        checksums.append(zlib.crc32(b"".join(data)))
    assert checksums == GOLDEN


class ManyNames:
    """A plain picture with as many names as are asked for; the last one fills its lower half."""

    def __init__(self, count, dtype):
        self.class_names = tuple(f"n{i}" for i in range(count))
        self.dtype = dtype

    def draw(self, generator):
        label_map = np.full((40, 40), np.iinfo(self.dtype).max, self.dtype)
        label_map[20:] = len(self.class_names) - 1
        return Drawn(np.zeros((40, 40, 3), np.uint8), label_map, self.class_names)

    def fingerprint(self):
        return repr(self.class_names)


@pytest.mark.parametrize(
    ("count", "dtype", "ignored"),
    [(100, np.uint8, 255), (254, np.uint8, 65535), (600, np.uint16, 65535)],
)
def test_many_names_need_16_bits(mixture, count, dtype, ignored):
    many = Mixture(
        [(ManyNames(count, dtype), 1.0)],
        preprocess=PREPROCESS,
        config=MixtureConfig(crop=32, longest=(32, 64), paste_probability=1.0),
        length=20,
        seed=0,
        cutouts=mixture.cutouts,
    )
    found = set()
    for index in range(20):
        sample = many[index]
        assert sample.ignore_index == ignored
        found |= set(sample.label_map.unique().tolist())
    assert found == {count - 1, count, ignored}
    assert sample.class_names[count] == "frog"


class Colourist:
    """A teacher that calls dark pixels "night" and is not sure of the others."""

    names = ("day", "night")

    def __call__(self, image):
        return np.where(image.sum(axis=-1) < 300, 1, IGNORE_INDEX).astype(np.uint8)


def taught(mixture, **choices):
    sources = list(zip(mixture.sources, mixture.shares.tolist(), strict=True))
    config = MixtureConfig(
        crop=32, longest=(32, 64), paste_probability=0.5, jitter=0.0, synonym_probability=0.5
    )
    return Mixture(
        sources,
        preprocess=PREPROCESS,
        config=config,
        length=40,
        seed=3,
        cutouts=mixture.cutouts,
        **choices,
    )


def test_a_teachers_labels_are_changed_with_the_photograph(mixture):
    samples = [taught(mixture, teachers=[Colourist()])[index] for index in range(40)]
    known = 0
    for sample in samples:
        assert sample.taught[0].class_names == ("day", "night")
        seen = sample.taught[0].label_map == 1
        known += int(seen.sum())
        # Smooth resizing mixes the colours of neighbours, labels are never mixed: away from
        # borders they agree.
        assert (sample.image.sum(dim=0)[seen] * 255 < 420).all()
    assert known > 1000


def test_a_pasted_object_is_nothing_that_the_teacher_saw(mixture):
    samples = [taught(mixture, teachers=[Colourist()])[index] for index in range(40)]
    pasted = [s for s in samples if "frog" in s.class_names]
    assert pasted
    for sample in pasted:
        frog = sample.label_map == sample.class_names.index("frog")
        assert (sample.taught[0].label_map[frog] == IGNORE_INDEX).all()


def test_names_are_called_by_synonyms_and_nothing_else_changes(mixture):
    words = {"red": ("scarlet", "blue"), "green": ("lime",), "night": ("dusk",)}
    plain = taught(mixture, teachers=[Colourist()])
    renamed = taught(mixture, teachers=[Colourist()], synonyms=words)
    called = set()
    for index in range(40):
        one, other = plain[index], renamed[index]
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label_map, other.label_map)
        for name, synonym in zip(
            one.class_names + one.taught[0].class_names,
            other.class_names + other.taught[0].class_names,
            strict=True,
        ):
            assert synonym == name or synonym in words[name]
            called.add(synonym)
        assert len(set(other.class_names)) == len(other.class_names)
    assert {"red", "scarlet", "green", "lime", "night", "dusk"} <= called
    assert {"scarlet", "dusk", "lime"} <= set(renamed.names)


def test_a_cutout_goes_by_the_word_of_the_picture_and_is_never_its_negative(mixture):
    """A frog on a picture that says "toad" is a toad, and "frog" is no wrong answer there."""
    words = {"blue": ("frog",)}
    samples = [taught(mixture, synonyms=words)[index] for index in range(40)]
    on_masks = [s for s in samples if s.image_label is None]
    assert all(len({"blue", "frog"} & set(s.class_names)) == 1 for s in on_masks)
    plain = [taught(mixture)[index] for index in range(40)]
    assert any({"blue", "frog"} <= set(s.class_names) for s in plain)


def test_maps_of_16_bits_ignore_one_id_with_the_teacher(mixture):
    wide = taught(mixture, teachers=[Colourist()])
    for source in wide.sources:
        if isinstance(source, MaskSource):
            draw = source.draw
            source.draw = lambda g, draw=draw: (
                lambda drawn: replace(drawn, label_map=augment.widen(drawn.label_map))
            )(draw(g))
    for index in range(40):
        sample = wide[index]
        if sample.ignore_index == 65535:
            assert not (sample.taught[0].label_map == IGNORE_INDEX).any()


def test_the_fingerprint_changes_with_files_and_names(mixture, own_data):
    before = mixture.fingerprint()
    assert before == mixture.fingerprint()
    assert taught(mixture, synonyms={"red": ("scarlet",)}).fingerprint() != before
    mask = own_data / "train" / "masks" / "p0.png"
    labels = np.array(Image.open(mask))
    labels[-1, -1] = 2
    Image.fromarray(labels).save(mask)
    assert mixture.fingerprint() != before
