"""SegCLIP's head on the bundled encoder: sentences without masks, losses, what is stored."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lexiseg.images
from lexiseg.encoders.lite_checkpoints import pack
from lexiseg.registry import builder_of
from lexiseg.training import sentences, tellers
from lexiseg.training.loop import fit
from lexiseg.training.recipes import segclip_lite as recipe
from lexiseg.training.run import OptimConfig
from lexiseg.weights import read_metadata, read_weights, save_weights
from tests.methods import contract


def write_data(root: Path) -> Path:
    """The folders of the project's data sets with two photographs each, and no masks at all."""
    shown = sentences.read_scene_names()
    for folder in sentences.SCENES:
        place = root / folder / "train" / "images"
        place.mkdir(parents=True)
        for number, name in enumerate(list(shown[folder])[:2]):
            picture(number).save(place / f"{name}.jpg")
    place = root / "image_labels" / "caltech101" / "images"
    place.mkdir(parents=True)
    rows = [{"image": f"images/{n}.jpg", "name": n, "split": "train"} for n in ("ant", "lamp")]
    for number, row in enumerate(rows):
        picture(number).save(place.parent / row["image"])
    (place.parent / "labels.json").write_text(json.dumps(rows))
    photographs = list(shown["scenes/coco_mini"])[:2]
    captions = {name: {"captions": ["a scene"], "split": "train"} for name in photographs}
    (root / "scenes" / "coco_mini" / "captions.json").write_text(json.dumps(captions))
    place = root / "captions" / "coco" / "images"
    place.mkdir(parents=True)
    picture(7).save(place / "one.jpg")
    rows_of_one = {"one": {"captions": ["two dogs", "dogs that run"]}}
    (place.parent / "captions.json").write_text(json.dumps(rows_of_one))
    return root


def picture(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    noise[:, :32] //= 4
    return Image.fromarray(noise)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small text tower, an encoder file of it, and photographs; reading a mask fails."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))

    def refuse(*_: object) -> None:
        raise AssertionError("training without masks read one")

    monkeypatch.setattr(lexiseg.images, "read_label_map", refuse)
    monkeypatch.setattr("lexiseg.data.semantic.dataset.read_label_map", refuse)
    torch.manual_seed(0)
    encoder = contract.tiny_lite()
    packed = tmp_path / "encoder.safetensors"
    save_weights(packed, pack(encoder))
    monkeypatch.setattr(recipe, "builder_of", lambda name: contract.tiny_segclip_lite)
    monkeypatch.setattr(recipe, "read_encoder", lambda weights: dict(read_weights(packed)))
    return write_data(tmp_path / "data")


def config(**changes: object) -> recipe.SegCLIPLiteTrainConfig:
    every = {"superpixels": 1.0, "hidden_patches": 1.0}  # the published losses, all of them
    plain = replace(recipe.SEGCLIP_LITE.config, steps=1, batch_size=4, crop=64, groups=3, **every)
    return replace(plain, optim=OptimConfig(lr=1e-3, clip_norm=1.0), **changes)  # type: ignore


def test_the_head_trains_without_masks(tiny: Path, tmp_path: Path) -> None:
    assert not list(tiny.rglob("masks"))
    run = config(steps=2)
    job = recipe.segclip_lite(tiny, run)
    assert not any(".encoder." in name for group in job.groups for name in group["names"])
    before = {n: v.clone() for n, v in job.objective.model.encoder.state_dict().items()}
    weights = fit(job, run, tmp_path / "run")
    after = job.objective.model.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    state = read_weights(weights)
    assert "region_part" in state
    assert not any(name.startswith(("encoder.", "reconstruction.")) for name in state)
    assert read_metadata(weights)["model"] == "segclip_lite"
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"contrast", "maps", "superpixels", "hidden patches"} <= row.keys()


def test_losses_can_be_left_out_and_parts_frozen(tiny: Path) -> None:
    job = recipe.segclip_lite(tiny, config(superpixels=0.0, hidden_patches=0.0))
    losses = job.objective([job.samples[i] for i in range(4)])
    assert losses.keys() == {"contrast", "maps"}
    sum(losses.values()).backward()
    assert job.objective.model.region_part.grad is not None
    for choice, left in (("frozen_centres", "grouping.norm"), ("frozen_grouping", "projection")):
        names = [
            name
            for group in recipe.segclip_lite(tiny, config(**{choice: True})).groups
            for name in group["names"]
        ]
        assert "model.grouping.centres" not in names
        assert any(left in name for name in names)


def test_what_is_learned_from_is_the_same_at_every_call(tiny: Path) -> None:
    first, again = (recipe.segclip_lite(tiny, config(steps=4)) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    for index in range(3):
        mine, other = first.samples[index], again.samples[index]
        assert mine.sentence == other.sentence
        assert torch.equal(mine.image, other.image)
        assert mine.superpixels.shape == (4, 4)


def test_a_missing_folder_is_told(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks .'scenes/msrc21'"):
        recipe.segclip_lite(tmp_path, config())


def sample(sentence: str, mentioned: tuple[str, ...] = (), shown: tuple[str, ...] = ()):
    ids = torch.zeros(2, 2, dtype=torch.long)
    return sentences.ToldCrop(torch.zeros(3, 4, 4), sentence, mentioned, shown, ids)


def test_a_sentence_that_fits_another_picture_is_not_held_against_it() -> None:
    cow = sample("cow", ("cow",), ("cow", "grass"))
    field = sample("cow and grass", ("cow", "grass"), ("cow", "grass", "sky"))
    caption = sample("a cow in a field")
    left_out = recipe.not_compared([cow, field, caption, sample("a cow in a field")])
    assert left_out.tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [False, False, False, True],
        [False, False, True, False],
    ]


def test_names_as_english_lists_them() -> None:
    assert tellers.listed(["tree"]) == "tree"
    assert tellers.listed(["tree", "cow"]) == "tree and cow"
    assert tellers.listed(["tree", "cow", "sky"]) == "tree, cow and sky"


def test_names_of_scenes() -> None:
    shown = sentences.read_scene_names()
    assert set(shown) == set(sentences.SCENES)
    names = {
        name for photographs in shown.values() for each in photographs.values() for name in each
    }
    assert {"grass", "window", "zebra", "hood"} <= names
    assert "background" not in names


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        config(crop=50)
    with pytest.raises(ValueError, match="superpixels -1"):
        config(superpixels=-1.0)
    with pytest.raises(ValueError, match="two at once or more"):
        config(accumulate=4)


def test_the_head_is_small() -> None:
    with torch.device("meta"):
        model = builder_of("segclip_lite")()
    numbers = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("encoder."))
    assert 2 * numbers < 6e6
