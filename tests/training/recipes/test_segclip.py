"""SegCLIP's published run on made photographs and a tiny CLIP, and its samples."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.data.captions import CaptionSample
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.encoders.clip import build_clip
from lexiseg.images import Preprocess
from lexiseg.methods.segclip import SegCLIP
from lexiseg.methods.segclip.finetuning import LARGEST_LOG_SCALE
from lexiseg.registry import builder_of
from lexiseg.training.captioned import (
    CaptionCrops,
    crop_photograph,
    published_box,
    random_box,
)
from lexiseg.training.loop import fit
from lexiseg.training.recipes import segclip as recipe
from lexiseg.training.run import OptimConfig
from lexiseg.weights import load_state, read_metadata, read_weights, save_weights
from tests.methods import contract
from tests.methods.segclip.recordings import box_of, recording

SOURCE = ("compact", "full")
PLAIN = Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3)


class Pictures:
    """Photographs of noise whose left half is another superpixel than the right."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> CaptionSample:
        noise = np.random.default_rng(index).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        ids = np.zeros((40, 60), np.uint16)
        ids[:, 30:] = 10
        return CaptionSample(noise, f"picture {index}", str(index), ids)


def crops(**changes: object) -> CaptionCrops:
    choices = {"size": 32, "patch": 8, "length": 10, "seed": 1, "published": False, **changes}
    return CaptionCrops(Pictures(), preprocess=PLAIN, **choices)  # type: ignore[arg-type]


def test_samples_depend_on_their_index_alone() -> None:
    first, again = crops(), crops()
    assert torch.equal(first[7].image, again[7].image)
    assert torch.equal(first[3].superpixels, again[3].superpixels)
    assert sorted(first[i].caption for i in range(5)) == [f"picture {i}" for i in range(5)]
    assert first[0].image.shape == (3, 32, 32)
    assert first[0].superpixels.shape == (4, 4)


def test_only_the_published_rule_makes_ids_that_are_none() -> None:
    ours = {
        i for sample in map(crops().__getitem__, range(10)) for i in sample.superpixels.unique()
    }
    assert {int(i) for i in ours} == {0, 10}
    theirs = crops(published=True)
    found = {int(i) for n in range(10) for i in theirs[n].superpixels.unique()}
    assert found - {0, 10}


def test_boxes_are_parts_of_the_photograph() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = random_box((40, 60), generator)
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        assert 0.48 <= (right - left) * (bottom - top) / 2400 <= 1
        assert 0.72 <= (right - left) / (bottom - top) <= 1.39
    assert random_box((10, 100), generator) == (43, 0, 56, 10)
    assert published_box((0, 0, 60, 40), (40, 60)) == (0, 0, 1, 1)


@pytest.mark.parametrize("source", SOURCE)
def test_segclip_parity_crops_and_their_superpixels(source: str) -> None:
    case = recording("train_2", source)
    photo = case["photo0_uint8"]
    box = box_of(case, 0, photo.shape)
    np.testing.assert_allclose(published_box(box, photo.shape[:2]), case["coord"][0], atol=1e-6)
    if source == "full":
        np.testing.assert_array_equal(crop_photograph(photo, box, 224), case["crop0_uint8"])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered name stands for a model that trains in a moment."""
    monkeypatch.setattr(recipe, "builder_of", lambda name: contract.TINY[name])
    monkeypatch.setattr(recipe, "SIZE", 32)


def write_data(root: Path) -> Path:
    """A shard with captions, COCO's captions in Karpathy's splits, and a CLIP to start from."""
    (root / "cc3m").mkdir()
    (root / "coco" / "train2014").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
    noise[:, :, :20] //= 4
    with tarfile.open(root / "cc3m" / "00000.tar", "w") as tar:
        for index in range(3):
            buffer = io.BytesIO()
            Image.fromarray(noise[index]).save(buffer, format="PNG")
            for kind, content in (("png", buffer.getvalue()), ("txt", b"a thing of noise")):
                member = tarfile.TarInfo(f"{index:06d}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    rows = []
    for index, split in enumerate(("train", "val")):
        Image.fromarray(noise[3 + index]).save(root / "coco" / "train2014" / f"{index}.png")
        sentences = [{"raw": "a dog runs"}, {"raw": "one dog " + "and another " * 40}]
        rows.append(
            {
                "split": split,
                "filepath": "train2014",
                "filename": f"{index}.png",
                "sentences": sentences,
            }
        )
    (root / "coco" / "dataset_coco.json").write_text(json.dumps({"images": rows}))
    save_weights(root / "clip.safetensors", to_openai(build_clip(contract.TINY_CLIP).state_dict()))
    return root


def config(root: Path, **changes: object) -> recipe.SegCLIPTrainConfig:
    plain = recipe.SegCLIPTrainConfig(
        steps=2,
        batch_size=2,
        clip=str(root / "clip.safetensors"),
        superpixels=str(root / "superpixels"),
        optim=OptimConfig(lr=1e-3, backbone_factor=0.1, weight_decay=0.05, clip_norm=1.0),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("published", [True, False])
def test_the_published_run_starts_from_clip(tmp_path: Path, published: bool) -> None:
    run = config(write_data(tmp_path), published=published, mix_batch=published)
    job = recipe.segclip_vitb16(tmp_path, run)
    assert job.epoch == 5  # three pairs of the shard, two of the one photograph in "train"
    model: SegCLIP = job.objective.model
    frozen = read_weights(tmp_path / "clip.safetensors")["visual.conv1.weight"]
    assert torch.equal(model.tower.patch_embedding.weight, frozen)
    with torch.no_grad():
        model.encoder.logit_scale.fill_(5.0)
    weights = fit(job, run, tmp_path / "run")
    assert read_metadata(weights) == {"model": "segclip_vitb16"}
    again = contract.tiny_segclip()
    load_state(again, read_weights(weights))
    assert torch.equal(again.tower.patch_embedding.weight, frozen)
    assert float(again.encoder.logit_scale.detach()) < LARGEST_LOG_SCALE + 0.01
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {"contrast", "superpixels", "hidden patches"} <= json.loads(lines[0]).keys()


def test_norms_do_not_decay_by_default_of_ours() -> None:
    for published in (True, False):
        run = recipe.SegCLIPTrainConfig(published=published)
        objective = recipe.published_objective(contract.tiny_segclip(), run)
        groups = recipe.optimiser_groups(objective, run)
        decayed = {n for g in groups if g["weight_decay"] for n in g["names"]}
        assert ("model.encoder.visual.norm_post.weight" in decayed) is published
        assert "model.encoder.visual.grouping.centres" in decayed
        assert ("schedule" in groups[0]) is published


def test_captions_of_something_are_needed() -> None:
    with pytest.raises(ValueError, match="captions of one of them are needed"):
        recipe.SegCLIPTrainConfig(cc3m="", coco="")


def test_the_recipe_is_of_a_registered_model() -> None:
    assert recipe.SEGCLIP_VITB16.name == recipe.ARCH
    assert callable(builder_of(recipe.ARCH))
