"""Expressions made from masks: each must be true of exactly one region."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets import check_dataset, open_dataset
from lexiseg.data.referring import read_generated
from lexiseg.data.referring.generated import references_of
from lexiseg.data.referring.regions import COLOURS, regions_of
from lexiseg.data.referring.shapes import SHAPES, draw_scene, draw_shapes
from lexiseg.data.referring.wording import compares, describe, mirrored
from lexiseg.data.semantic import read_semantic_folder
from tests.data.sentence_checker import true_of

SHARED = Path(__file__).parents[3] / "shared" / "data"
NAMES = ("cup", "laptop", "grass")
GREY = (120, 120, 120)


def scene(*boxes, size=(100, 200)):
    """A picture of boxes (class, x1, y1, x2, y2, colour), and its label map; 9 is nothing."""
    image = np.full((*size, 3), (250, 240, 200), np.uint8)
    label_map = np.full(size, 9, np.uint8)
    for class_id, x1, y1, x2, y2, *colour in boxes:
        image[y1:y2, x1:x2] = colour[0] if colour else GREY
        label_map[y1:y2, x1:x2] = class_id
    return image, label_map


def said(*boxes):
    """The sentences of each region, by class and row by row."""
    image, label_map = scene(*boxes)
    return describe(regions_of(image, label_map, NAMES))


def test_every_sentence_about_drawn_scenes_is_true_of_one_region() -> None:
    count, kinds = 0, Counter()
    for seed in range(60):
        image, label_map = draw_scene(np.random.default_rng((7, seed)), (96, 128))
        regions = regions_of(image, label_map, SHAPES)
        for region, sentences in zip(regions, describe(regions), strict=True):
            for sentence in sentences:
                found = true_of(sentence, image, label_map, SHAPES)
                assert len(found) == 1, (seed, sentence)
                np.testing.assert_array_equal(found[0], region.mask)
                count += 1
                kinds.update(set(sentence.split()))
    assert count > 400
    words = ("left", "right", "larger", "smallest", "second", "middle", "upper", "red")
    assert all(kinds[word] > 0 for word in words), kinds


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there")
@pytest.mark.parametrize("folder", ["scenes/coco128", "scenes/coco_mini"])
def test_every_sentence_about_photographs_is_true_of_one_region(folder: str) -> None:
    dataset = read_semantic_folder(SHARED / folder, "val")
    references = {}
    for reference in references_of(dataset):
        references.setdefault(reference.image, []).append(reference)
    for index, photograph in list(enumerate(dataset.images))[::3]:
        sample = dataset[index]
        for reference in references.get(photograph, ()):
            mask = reference.read().mask
            for sentence in reference.expressions:
                found = true_of(sentence, sample.image, sample.label_map, dataset.class_names)
                assert len(found) == 1, (photograph.name, sentence)
                np.testing.assert_array_equal(found[0], mask)


def test_one_region_goes_by_its_name_and_colour() -> None:
    assert said((0, 10, 10, 60, 60, (200, 20, 20))) == [("the cup", "cup", "the red cup")]


def test_two_regions_are_told_apart_by_side_and_size() -> None:
    left, right = said((0, 10, 10, 70, 80), (0, 120, 20, 160, 60))
    assert left == ("the cup on the left", "the left cup", "the larger cup", "the bigger cup")
    assert right == ("the cup on the right", "the right cup", "the smaller cup")


def test_a_row_is_counted_from_both_ends() -> None:
    row = said(*((0, x, 40, x + 20, 60) for x in (5, 55, 105, 155)))
    assert row[0] == ("the leftmost cup", "the cup on the far left")
    assert row[1] == ("the second cup from the left", "the third cup from the right")
    assert row[2] == ("the third cup from the left", "the second cup from the right")
    three = said(*((0, x, 40, x + 20, 60) for x in (5, 80, 155)))
    assert "the cup in the middle" in three[1]


def test_a_colour_is_said_only_where_no_other_has_it() -> None:
    red, blue = (200, 20, 20), (30, 60, 200)
    differing = said((0, 10, 20, 50, 60, red), (0, 120, 20, 160, 60, blue))
    assert ["the red cup" in each for each in differing] == [True, False]
    assert ["the blue cup" in each for each in differing] == [False, True]
    alike = said((0, 10, 20, 50, 60, red), (0, 120, 20, 160, 60, red))
    assert not any("red" in sentence for each in alike for sentence in each)


def test_a_neighbour_is_said_only_where_the_others_are_far() -> None:
    near, far = said((0, 42, 20, 62, 40), (0, 150, 60, 170, 80), (1, 10, 10, 40, 50))[:2]
    assert "the cup next to the laptop" in near
    assert not any("next to" in sentence for sentence in far)
    both_near = said((0, 42, 20, 62, 40), (0, 42, 60, 62, 80), (1, 10, 10, 40, 90))
    assert not any("next to" in sentence for each in both_near for sentence in each)


@pytest.mark.parametrize(
    "boxes",
    [
        [(0, 10, 10, 40, 50), (0, 20, 60, 52, 95)],  # hardly left, hardly larger
        [(0, 10, 10, 150, 30), (0, 60, 40, 180, 60)],  # one reaches beyond the other's centre
    ],
)
def test_what_is_not_clear_is_not_said(boxes: list) -> None:
    sentences = [s for each in said(*boxes) for s in each]
    assert not any("left" in s or "right" in s for s in sentences)
    assert not any(word in s for s in sentences for word in ("larg", "small", "big"))


def test_a_class_with_a_part_too_small_to_name_is_left_out() -> None:
    clear = (0, 10, 10, 60, 60)
    assert said(clear, (0, 100, 50, 107, 57)) == []
    assert said(clear, (0, 100, 50, 102, 52)) == [("the cup", "cup", "the grey cup")]


def test_pieces_of_what_is_not_counted_have_no_sentence() -> None:
    assert said((2, 10, 10, 60, 60), (2, 120, 10, 180, 60)) == [(), ()]


def test_mirrored_sentences_are_true_of_mirrored_pictures() -> None:
    assert mirrored("the second cup from the left") == "the second cup from the right"
    for seed in range(30):
        image, label_map = draw_scene(np.random.default_rng((9, seed)), (96, 128))
        straight = describe(regions_of(image, label_map, SHAPES))
        turned = describe(regions_of(image[:, ::-1].copy(), label_map[:, ::-1].copy(), SHAPES))
        expected = {mirrored(sentence) for each in straight for sentence in each}
        assert expected == {sentence for each in turned for sentence in each}


def test_what_compares() -> None:
    assert compares("the cup on the left")
    assert not compares("the red cup")
    assert not compares("leftover")


def test_colours_have_gaps_between_them() -> None:
    """No pixel has two of the words."""
    axis = np.arange(0, 256, 5)
    hsv = np.stack(np.meshgrid(np.arange(180), axis, axis), axis=-1).reshape(-1, 3).astype(np.uint8)
    assert sum(colour.of(hsv).astype(int) for colour in COLOURS.values()).max() == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small data sets, one of them without a val split."""
    image, label_map = scene((0, 10, 10, 70, 80), (0, 120, 20, 160, 60), (1, 80, 80, 110, 98))
    for name, splits in (("a", ("train", "val")), ("b", ("train",))):
        for split in splits:
            for kind, pixels in (("images", image), ("masks", label_map)):
                place = tmp_path / "sets" / name / split / kind
                place.mkdir(parents=True)
                Image.fromarray(pixels).save(place / f"{name}_{split}.png")
        classes = {str(i): each for i, each in enumerate(NAMES)}
        text = json.dumps({"classes": classes, "ignore": 9})
        (tmp_path / "sets" / name / "classes.json").write_text(text)
    return tmp_path


def test_a_folder_of_data_sets(folder: Path) -> None:
    train, val = read_generated(folder, "train"), open_dataset("generated", root=folder)
    assert (len(train), len(val), val.name) == (6, 3, "generated")
    assert not {r.image.name for r in train.references} & {r.image.name for r in val.references}
    first = val[0]
    assert first.expressions[0] == "the cup on the left"
    assert first.mask[10:80, 10:70].all()
    assert first.mask.sum() == 70 * 60
    again = read_generated(folder, "val")
    assert again.references == val.references
    assert again.fingerprint() == val.fingerprint()
    assert len(read_generated(folder / "sets" / "a")) == len(val)


def test_a_folder_without_photographs_is_told(folder: Path) -> None:
    assert check_dataset("generated", folder) == []
    assert (
        "no folder with classes.json and test/images"
        in check_dataset("generated", folder, split="test")[0]
    )
    with pytest.raises(ValueError, match="expressions are made from photographs with masks"):
        read_generated(folder / "nowhere")


def test_rendered_shapes() -> None:
    one, same, other = (draw_shapes(6, seed=seed, size=(64, 80)) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    for index in range(len(one)):
        sample = one[index]
        assert sample.image.shape == (64, 80, 3)
        assert 0.005 < sample.mask.mean() < 0.2
