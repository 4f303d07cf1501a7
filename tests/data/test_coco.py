import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.coco import read_coco_json
from lexiseg.data.masks import encode_rle
from lexiseg.data.semantic import IGNORE_INDEX, Truth

HEIGHT, WIDTH = 6, 8


def rectangle(left, top, right, bottom):
    """Pixels left..right-1, top..bottom-1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(identity, category, segmentation, image=1, **more):
    row = {"id": identity, "image_id": image, "category_id": category}
    return row | {"segmentation": segmentation} | more


@pytest.fixture
def folder(tmp_path):
    """Two photographs of 6 x 8, the second in a folder of its own; categories 3, 7 and 90."""
    root = tmp_path / "coco"
    (root / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / name)
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "deep/b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [
            {"id": 7, "name": "person"},
            {"id": 3, "name": "tie|necktie"},
            {"id": 90, "name": "dog"},
        ],
        "annotations": [],
    }
    return root, content


def write(root, content, annotations=(), file="annotations.json", **changes):
    path = root / file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(content | {"annotations": list(annotations)} | changes))
    return path


def test_polygons_runs_and_crowds_become_classes(folder):
    root, content = folder
    person = np.zeros((HEIGHT, WIDTH), bool)
    person[1:5, 1:4] = True
    crowd = {"size": [HEIGHT, WIDTH], "counts": [36, 12]}  # the last two columns
    path = write(
        root,
        content,
        [
            annotation(1, 7, {"size": [HEIGHT, WIDTH], "counts": encode_rle(person)}),
            annotation(2, 7, crowd, iscrowd=1),
            annotation(3, 90, rectangle(4, 0, 5, 2) + rectangle(4, 4, 5, 6)),
        ],
    )
    dataset = read_coco_json(path)
    assert dataset.class_names == ("background", "person", "tie", "dog")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[1:5, 1:4] = 1
    expected[:, 6:] = 1
    expected[[0, 1, 4, 5], 4] = 3
    np.testing.assert_array_equal(dataset[0].label_map, expected)
    assert not dataset[1].label_map.any()
    assert dataset[1].name == "b"
    assert all(isinstance(truth, Truth) for truth in dataset.truths)


def test_without_background_nobody_judges_the_rest(folder):
    root, content = folder
    path = write(root, content, [annotation(1, 90, rectangle(0, 0, 2, 2))])
    dataset = read_coco_json(path, background=False, split="mine")
    assert dataset.split == "mine"
    assert dataset.class_names == ("person", "tie", "dog")
    label_map = dataset[0].label_map
    assert (label_map[:2, :2] == 2).all()
    assert (label_map == IGNORE_INDEX).sum() == HEIGHT * WIDTH - 4
    words = dataset.vocabulary()
    assert words.none is None
    assert words.labels.names[1] == ("tie", "necktie")


def test_a_pixel_without_a_label_is_background(folder):
    root, content = folder
    words = read_coco_json(write(root, content)).vocabulary()
    assert words.labels.labels == ("person", "tie", "dog")
    assert words.background == ("background",)
    labels = np.array([[0, 2, IGNORE_INDEX]], np.uint8)
    np.testing.assert_array_equal(words.to_classes(labels, nothing=9), [[1, 3, 0]])


@pytest.mark.parametrize("turn", [1, -1])
def test_the_smaller_object_lies_on_top(folder, turn):
    root, content = folder
    objects = [
        annotation(1, 3, rectangle(2, 2, 4, 4)),
        annotation(2, 7, rectangle(0, 0, 6, 6)),
        annotation(3, 90, rectangle(3, 3, 8, 6)),
    ]
    label_map = read_coco_json(write(root, content, objects[::turn]))[0].label_map
    assert (label_map[2:4, 2:4] == 2).all()  # 4 pixels over 15 over 36
    assert (label_map[4:, 3:6] == 3).all()
    assert label_map[0, 0] == 1


def test_of_two_of_one_size_the_later_lies_on_top(folder):
    root, content = folder
    objects = [annotation(1, 3, rectangle(0, 0, 4, 4)), annotation(2, 7, rectangle(1, 1, 5, 5))]
    for order, winner in ((objects, 1), (objects[::-1], 2)):
        assert read_coco_json(write(root, content, order))[0].label_map[2, 2] == winner


def test_a_category_called_background_is_the_background(folder):
    root, content = folder
    content["categories"].insert(1, {"id": 0, "name": "Background"})
    path = write(
        root,
        content,
        [annotation(1, 7, rectangle(0, 0, 8, 6)), annotation(2, 0, rectangle(0, 0, 2, 2))],
    )
    dataset = read_coco_json(path)
    assert dataset.class_names == ("background", "person", "tie", "dog")
    label_map = dataset[0].label_map
    assert not label_map[:2, :2].any()
    assert (label_map[2:] == 1).all()
    plain = read_coco_json(path, background=False)
    assert plain.class_names == ("person", "Background", "tie", "dog")
    assert (plain[0].label_map[:2, :2] == 1).all()


def test_categories_that_only_group_others_are_no_classes(folder):
    root, content = folder
    content["categories"] = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
        {"id": 2, "name": "person", "supercategory": "person"},
    ]
    cat = annotation(1, 1, rectangle(0, 0, 2, 2))
    dataset = read_coco_json(write(root, content, [cat]))
    assert dataset.class_names == ("background", "cat", "person")
    cat = annotation(2, 0, rectangle(0, 0, 2, 2))
    used = read_coco_json(write(root, content, [cat]))
    assert used.class_names == ("background", "animals", "cat", "person")


def test_more_than_255_classes_need_16_bits(folder):
    root, content = folder
    content["categories"] = [{"id": 5 * i, "name": f"thing {i}"} for i in range(300)]
    path = write(root, content, [annotation(1, 5 * 299, rectangle(0, 0, 2, 2))])
    dataset = read_coco_json(path, background=False)
    assert dataset[0].label_map.dtype == np.uint16
    assert dataset[0].label_map[0, 0] == 299
    assert dataset[0].label_map[5, 5] == 65535 == dataset.ignore_index


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("_annotations.coco.json", "."),
        ("annotations.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/x.json", "."),
        ("x.json", "val"),
    ],
)
def test_photographs_are_found_where_tools_put_them(tmp_path, folder, file, images):
    root, content = folder
    place = tmp_path / "own"
    (place / images / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        (root / name).rename(place / images / name)
    dataset = read_coco_json(write(place, content, file=file))
    assert len(dataset) == 2
    assert dataset.name == "own"
    assert dataset[1].image.shape == (HEIGHT, WIDTH, 3)
    moved = write(root, content)
    with pytest.raises(ValueError, match=r"its first photograph, a\.png, is in none of"):
        read_coco_json(moved)
    assert read_coco_json(moved, place / images).images == dataset.images


def image_row(**changes):
    return {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "is not what it should be; it holds COCO's"),
        ({"images": []}, "lists no images"),
        ({"images": [image_row(), image_row()]}, "two of the images have the id 1"),
        ({"images": [image_row(id=None)]}, "one of the images has the id None"),
        ({"images": [image_row(height=True)]}, "image 1 has height True and width 8"),
        ({"images": [image_row(id=True)]}, "one of the images has the id True"),
        ({"images": [image_row(height="6")]}, "image 1 has height '6' and width 8"),
        ({"images": [image_row(file_name="../a.png")]}, "leads outside of"),
        ({"images": [image_row(file_name="/etc/a.png")]}, "leads outside of"),
        ({"images": [image_row(file_name="C:\\a.png")]}, "leads outside of"),
        ({"images": [image_row(file_name=None)]}, "a file is called None"),
        (
            {"images": [image_row(), image_row(id=2, file_name="c.png")]},
            r"1 of its files are missing, the first .*c\.png",
        ),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "A"}]}, "'A' came twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two of the categories"),
        ({"categories": [{"id": 1, "name": " "}]}, "category 1 is called ' '"),
        ({"categories": []}, "its categories: no labels came"),
        ({"annotations": [annotation(5, 7, [], image=3)]}, "annotation 5: no image has the id 3"),
        ({"annotations": [annotation(5, 7, [], image=[])]}, r"no image has the id \[\]"),
        ({"annotations": [annotation(5, 8, [])]}, "annotation 5: no category has the id 8"),
        ({"annotations": [annotation(5, {}, [])]}, r"annotation 5: no category has the id \{\}"),
    ],
)
def test_errors_name_the_file_and_the_rule(folder, changes, message):
    root, content = folder
    path = write(root, content, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        read_coco_json(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "annotation 5: it has no segmentation, at most a box"),
        ([[1, 2, 3]], "annotation 5: a polygon has 3 numbers"),
        ({"size": [8, 6], "counts": [48]}, r"annotation 5: its run lengths are for \[8, 6\]"),
        ({"size": [6, 8], "counts": [2**40]}, "annotation 5: a run of"),
    ],
)
def test_damaged_outlines_are_told_when_they_are_painted(folder, segmentation, message):
    root, content = folder
    dataset = read_coco_json(write(root, content, [annotation(5, 7, segmentation, image=2)]))
    assert not dataset[0].label_map.any()
    with pytest.raises(ValueError, match=rf"annotations\.json \(deep/b\.png\): {message}"):
        dataset[1]


def test_a_photograph_of_another_size_is_told(folder):
    root, content = folder
    Image.new("RGB", (9, 9)).save(root / "a.png")
    dataset = read_coco_json(write(root, content))
    with pytest.raises(ValueError, match=r"\(a\.png\): \(6, 8\) .* is \(9, 9\)"):
        dataset[0]


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_other_files_are_told(tmp_path, text):
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match=r"x\.json is missing; it holds COCO's"):
        read_coco_json(path)
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"x\.json cannot be read .*; it holds COCO's"):
        read_coco_json(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no JSON object"):
        read_coco_json(path)


def test_what_is_served_does_not_depend_on_the_order_of_reading(folder):
    root, content = folder
    objects = [annotation(i, 7, rectangle(i, 0, i + 2, 2), image=1 + i % 2) for i in range(4)]
    dataset = read_coco_json(write(root, content, objects))
    forward = [dataset[i].label_map for i in (0, 1)]
    for index in (1, 0):
        np.testing.assert_array_equal(dataset[index].label_map, forward[index])
    assert len(dataset.fingerprint()) == 64
