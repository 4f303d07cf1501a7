import numpy as np
import pytest
from PIL import Image

from lexiseg.explanation import ExplainedView, Explanation
from lexiseg.segmenter import Segmenter

PHOTO = np.full((40, 60, 3), 128, np.uint8)


def explanation() -> Explanation:
    """One step: the label's left half is hot, with a region and a point there."""
    maps = np.zeros((2, 4, 6), np.float32)
    maps[1, :, :3] = 5.0
    mask = np.zeros((1, 4, 6), bool)
    mask[0, :2, :2] = True
    points = (np.zeros((0, 2), np.float32), np.array([[0.25, 0.5]], np.float32))
    step = ExplainedView("block 1, correlation", maps, points, (mask[:0], mask))
    return Explanation(("cat", "../dog"), (step, ExplainedView("logits", maps)), PHOTO)


def test_a_map_is_drawn_from_blue_to_red():
    picture = np.array(explanation().plot(1, "../dog")).astype(int)
    left, right = picture[:, :20].mean(axis=(0, 1)), picture[:, 40:].mean(axis=(0, 1))
    assert left[0] > left[2] + 50
    assert right[2] > right[0] + 50
    flat = np.array(explanation().plot(1, "cat"))
    assert (flat == flat[0, 0]).all()


def test_points_and_regions_are_drawn_over_the_map():
    plain = np.array(explanation().plot(1, "../dog")).astype(int)
    drawn = np.array(explanation().plot(0, "../dog")).astype(int)
    assert (drawn[20, 15] == 255).all()  # the point: x 0.25, y 0.5
    assert (np.abs(drawn - plain)[5:15, 2:10].sum(axis=-1) > 0).all()  # the region
    assert (drawn[30:, 40:] == plain[30:, 40:]).all()


def test_a_label_that_was_not_looked_for_is_refused():
    with pytest.raises(ValueError, match="unknown label 'cow'; there are cat, ../dog"):
        explanation().plot(0, "cow")


def test_every_step_of_every_label_is_written_and_no_label_is_a_path(tmp_path):
    written = explanation().save(tmp_path / "new")
    assert [path.name for path in written] == [
        "01_cat_01_block-1-correlation.png",
        "02_dog_01_block-1-correlation.png",
        "01_cat_02_logits.png",
        "02_dog_02_logits.png",
    ]
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    for path in written:
        with Image.open(path) as picture:
            assert picture.size == (60, 40)


def test_every_model_tells_at_least_its_logits(painter):
    found = Segmenter(painter).explain(PHOTO, ["red", "blue|green"])
    assert [view.name for view in found.views] == ["logits"]
    assert found.views[0].maps.shape[0] == 2
    assert found.labels == ("red", "blue")
