import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.captions import read_captions
from lexiseg.data.mixture import CaptionSource, MixtureConfig, bundled_mixture
from lexiseg.data.mixture.held_out import HeldOut, TeacherWithout, Without, is_held_out, without
from lexiseg.data.mixture.sources import Drawn
from lexiseg.images import Preprocess

NAMES = tuple(f"name {i}" for i in range(2000))


def test_a_share_of_the_names_is_held_out_whatever_the_others_are():
    chosen = {name for name in NAMES if is_held_out(name, 0.2)}
    assert 0.17 < len(chosen) / len(NAMES) < 0.23
    assert {name for name in NAMES if is_held_out(name, 0.1)} < chosen
    assert not any(is_held_out(name, 0.0) for name in NAMES)
    assert not is_held_out("background", 1.0)
    assert is_held_out("Traffic_Light", 0.5) == is_held_out("traffic light", 0.5)


@pytest.fixture
def held(monkeypatch):
    """Holds out "car" and "mug" alone."""
    monkeypatch.setattr(
        "lexiseg.data.mixture.held_out.is_held_out", lambda name, share: name in ("car", "mug")
    )


def test_all_that_would_teach_a_name_goes_with_it(held):
    synonyms = {"cup": ("mug",), "automobile": ("car", "motor"), "dog": ("puppy",)}
    held_out = HeldOut(["car", "mug", "scar", "dog"], 0.2, synonyms)
    gone = ["car", "car_side", "cars", "police Car", "automobile", "motor", "cup", "mug"]
    assert [name for name in gone if name not in held_out] == []
    stays = ["background", "carpet", "scar", "dog", "puppy", "motorcycle"]
    assert [name for name in stays if name in held_out] == []


def test_nothing_is_held_out_of_nothing():
    assert "car" not in HeldOut(["car"], 0.0, {})


class Two:
    """A source of two pictures: one with labelled pixels, one with a name."""

    class_names = ("car", "sky", "mug", "tree")

    def __init__(self):
        self.calls = 0

    def draw(self, generator):
        self.calls += 1
        image = np.zeros((2, 4, 3), np.uint8)
        if self.calls == 1:
            ids = np.array([[0, 1, 2, 3], [255, 3, 3, 0]], np.uint8)
            return Drawn(image, ids, self.class_names)
        whole = 0 if self.calls == 2 else 3
        return Drawn(image, np.full((2, 4), 255, np.uint8), self.class_names, whole)

    def fingerprint(self):
        return "two"


def test_held_out_pixels_are_nobodys_and_held_out_pictures_are_not_drawn():
    source = Without(Two(), frozenset({"car", "mug"}))
    assert source.class_names == ("sky", "tree")
    first, second = source.draw(np.random.default_rng(0)), source.draw(np.random.default_rng(0))
    assert first.class_names == ("sky", "tree")
    np.testing.assert_array_equal(first.label_map, [[255, 0, 255, 1], [255, 1, 1, 255]])
    assert source.source.calls == 3
    assert second.class_names[second.image_label] == "tree"
    assert source.fingerprint() != Without(Two(), frozenset()).fingerprint()


def test_a_teacher_does_not_tell():
    class Teacher:
        names = ("car", "sky")

        def __call__(self, image):
            return np.array([[0, 1, 65535]], np.uint16)

    teacher = TeacherWithout(Teacher(), frozenset({"car"}))
    assert teacher.names == ("sky",)
    found = teacher(np.zeros((1, 3, 3), np.uint8))
    assert found.tolist() == [[65535, 0, 65535]]
    assert found.dtype == np.uint16


def picture(path, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Masks, whole-image names, cutouts and captions that all know a car and a dog."""
    scene = tmp_path / "scenes" / "msrc21"
    picture(scene / "train" / "images" / "s.png")
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 1
    (scene / "train" / "masks").mkdir()
    Image.fromarray(mask).save(scene / "train" / "masks" / "s.png")
    (scene / "classes.json").write_text(json.dumps({"classes": {"0": "car", "1": "dog"}}))
    both = [{"image": "x.png", "name": name, "split": "train"} for name in ("car", "dog")]
    for folder, file in (
        ("image_labels/caltech101", "labels.json"),
        ("cutouts/tuxpaint", "cutouts.json"),
    ):
        picture(tmp_path / folder / "x.png", 200)
        rows = [{**row, "alpha": "x.png"} for row in both]
        (tmp_path / folder / file).write_text(json.dumps(rows))
    picture(tmp_path / "captions" / "images" / "c.jpg")
    said = {"c": {"captions": ["a car on a road", "a dog"]}}
    (tmp_path / "captions" / "captions.json").write_text(json.dumps(said))
    return tmp_path


class Sees:
    """A teacher that calls the left a car and the right a dog."""

    names = ("car", "dog")

    def __call__(self, image):
        ids = np.ones(image.shape[:2], np.uint8)
        ids[:, : ids.shape[1] // 2] = 0
        return ids


@pytest.mark.parametrize("masks_only", [False, True])
def test_no_pixel_teaches_a_held_out_name(held, root, masks_only):
    mixture = bundled_mixture(
        root,
        preprocess=Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3),
        config=MixtureConfig(
            crop=32, longest=(32, 48), paste_probability=0.5, synonym_probability=1.0
        ),
        length=60,
        seed=0,
        shares={"scenes/msrc21": 0.5, "image_labels/caltech101": 0.5},
        teachers=[Sees()],
        synonyms={"car": ("motor",), "dog": ("police car", "hound")},
        unseen=0.2,
        masks_only=masks_only,
    )
    of_pixels, of_pictures = set(), set()
    for index in range(60):
        sample = mixture[index]
        for known in (sample, *sample.taught):
            ids = known.label_map.unique().tolist()
            of_pixels |= {known.class_names[i] for i in ids if i != sample.ignore_index}
        if sample.image_label is None:
            assert set(sample.class_names) <= {"hound"}
        else:
            of_pictures.add(sample.class_names[sample.image_label])
    assert of_pixels == {"hound"}
    assert of_pictures == ({"motor", "hound"} if masks_only else {"hound"})


def test_captions_stay_where_masks_alone_are_held_out(held, root):
    captions = CaptionSource(read_captions(root / "captions"))
    held_out = HeldOut(["car"], 0.2, {})
    assert without(captions, held_out, masks_only=True) is captions
    assert without(captions, held_out).class_names == ("a dog",)
