import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data import semantic
from lexiseg.data.captions import read_captions
from lexiseg.data.mixture import (
    CaptionSource,
    ImageLabelSource,
    MixtureConfig,
    PhotographSource,
    weak_mixture,
)
from lexiseg.data.mixture import bundled as mixtures
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.images import Preprocess

PREPROCESS = Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3)


def photograph(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Three photographs with two captions each; one sentence is said of two of them."""
    captions = {}
    for index, name in enumerate("abc"):
        photograph(tmp_path / "images" / f"{name}.jpg", (80 * index, 0, 0))
        captions[name] = {"captions": [f"only {name}", "a thing" if index < 2 else "another"]}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    return tmp_path


def test_the_right_caption_stands_first_among_those_of_others(captioned: Path) -> None:
    source = CaptionSource(read_captions(captioned), others=2)
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        drawn = source.draw(generator)
        picture = "abc"[round(int(drawn.image[0, 0, 0]) / 80)]
        right, *wrong = drawn.class_names
        own = {"a": {"only a", "a thing"}, "b": {"only b", "a thing"}}
        own["c"] = {"only c", "another"}
        assert drawn.image_label == 0
        assert right in own[picture]
        assert len(wrong) == 2
        assert not own[picture] & set(wrong)
        assert (drawn.label_map == IGNORE_INDEX).all()
        seen.add((picture, right))
    assert len(seen) == 6
    assert set(source.class_names) == {"only a", "only b", "only c", "a thing", "another"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"image": "a.jpg", "name": "ant", "split": "val"}],
            "no photographs of the split 'train'",
        ),
        ([{"image": "a.jpg", "split": "train"}], "'train'.* cannot be understood; it holds a list"),
        (
            {"a.jpg": "ant"},
            "is not what it should be; it holds a list of rows {image, name, split}",
        ),
    ],
)
def test_whole_image_names_that_cannot_be_used_are_told(
    tmp_path: Path, rows: object, message: str
) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=message):
        ImageLabelSource(tmp_path, "train")
    with pytest.raises(ValueError, match="labels.json is missing"):
        ImageLabelSource(tmp_path / "none", "train")


def test_photographs_come_without_names(captioned: Path) -> None:
    source = PhotographSource(sorted((captioned / "images").iterdir()))
    drawn = source.draw(np.random.default_rng(0))
    assert drawn.class_names == ()
    assert drawn.image_label is None
    assert source.fingerprint() != PhotographSource(source.images[:1]).fingerprint()


class Nothing:
    """A teacher that is never sure."""

    names = ("thing",)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return np.full(image.shape[:2], IGNORE_INDEX, np.uint8)


def test_a_weak_mixture_reads_no_mask(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for folder in (*mixtures.SCENES, "scenes/coco_mini"):
        photograph(root / folder / "train" / "images" / "p.jpg", (200, 200, 200))
    said = {"p": {"captions": ["a grey wall"], "split": "train"}}
    (root / "scenes/coco_mini/captions.json").write_text(json.dumps(said))
    (root / "captions").mkdir()
    captioned.joinpath("images").rename(root / "captions" / "images")
    (root / "captions" / "coco").mkdir()
    (root / "captions" / "images").rename(root / "captions" / "coco" / "images")
    captioned.joinpath("captions.json").rename(root / "captions" / "coco" / "captions.json")
    named = root / "image_labels" / "caltech101"
    photograph(named / "images" / "n.jpg", (0, 200, 0))
    rows = [{"image": "images/n.jpg", "name": "leaf", "split": "train"}]
    (named / "labels.json").write_text(json.dumps(rows))

    def never(*arguments: object) -> None:
        raise AssertionError("a mask was read")

    monkeypatch.setattr(semantic.MaskFile, "read", never)
    mixture = weak_mixture(
        root,
        preprocess=PREPROCESS,
        config=MixtureConfig(crop=32, longest=(32, 64)),
        length=30,
        seed=0,
        teachers=[Nothing()],
    )
    kinds = set()
    for index in range(30):
        sample = mixture[index]
        assert (sample.label_map == sample.ignore_index).all()
        kinds.add((sample.image_label is not None, len(sample.class_names) > 1))
    assert kinds == {(False, False), (True, False), (True, True)}
    with pytest.raises(ValueError, match="msrc21.*is missing; the recipe needs it"):
        weak_mixture(
            tmp_path / "none",
            preprocess=PREPROCESS,
            config=MixtureConfig(),
            length=1,
            seed=0,
            teachers=[],
        )
