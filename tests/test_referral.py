import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.masks import RunLengths
from lexiseg.referral import Referral
from lexiseg.segmenter import Segmenter


@pytest.fixture
def referral(judge: Any, flag: np.ndarray) -> Referral:
    return Segmenter(judge).refer(flag, ["red", "lime", "green"])


def test_each_expression_by_itself(referral: Referral, flag: np.ndarray) -> None:
    """Two that name the same stripe both get it; none gets pixels of another."""
    np.testing.assert_array_equal(referral.mask("red"), flag[..., 0] == 255)
    for name in ("lime", "green"):
        np.testing.assert_array_equal(referral.mask(name), flag[..., 1] == 255)
    assert referral.scores.min() > 0.99
    with pytest.raises(ValueError, match="'dog' was not asked for in this picture: 'red', 'lime'"):
        referral.mask("dog")


def test_a_model_that_judges_alone_looks_once(judge: Any, flag: np.ndarray) -> None:
    seen = []
    original = judge.forward
    judge.forward = lambda images, texts: seen.append(len(texts)) or original(images, texts)
    segmenter = Segmenter(judge)
    found = segmenter.refer(flag, ["red", "blue ", "RED", "red"])
    assert seen == [2]
    assert judge.encoded == [[["red"], ["blue"]]]
    assert found.expressions == ("red", "blue", "RED", "red")
    np.testing.assert_array_equal(found.masks[0], found.masks[2])
    segmenter.refer(flag, ["red", "blue"])
    assert len(judge.encoded) == 1
    each = segmenter.refer(flag, ["red", "blue"], background="green")
    assert seen[2:] == [2, 2]
    np.testing.assert_array_equal(each.masks, found.masks[:2])


def test_where_labels_compete_each_is_a_call_of_its_own(painter: Any, flag: np.ndarray) -> None:
    found = Segmenter(painter).refer(flag, ["red", "background"])
    assert painter.encoded == [[["red"], ["background"]], [["background"]]]
    np.testing.assert_array_equal(found.mask("red"), flag[..., 0] == 255)
    assert found.mask("background").all()


def test_a_threshold_of_ones_own(judge: Any, flag: np.ndarray) -> None:
    assert Segmenter(judge).refer(flag, ["red"], background=0.0).masks.all()
    nothing = Segmenter(judge).refer(flag, ["red"], background=1.0)
    assert nothing.scores.tolist() == [0.0]
    assert nothing.table()[0]["box"] is None
    assert nothing.table()[0]["polygons"] == []


def test_wrong_expressions(judge: Any, flag: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no expressions came"):
        Segmenter(judge).refer(flag, [])
    with pytest.raises(ValueError, match="an empty expression"):
        Segmenter(judge).refer(flag, ["red", " "])


def test_the_table_says_where(referral: Referral) -> None:
    row = referral.table()[0]
    assert list(row) == ["expression", "score", "share", "box", "polygons", "holes"]
    assert row["box"] == [0, 0, 10, 20]
    assert row["polygons"] == [[0, 0, 10, 0, 10, 20, 0, 20]]
    assert row["share"] == pytest.approx(1 / 3, abs=1e-6)
    painted = RunLengths.of_polygons(row["polygons"], (20, 30)).mask()
    np.testing.assert_array_equal(painted, referral.masks[0])


def test_a_hole_is_told() -> None:
    masks = np.ones((1, 5, 5), bool)
    masks[0, 2, 2] = False
    (row,) = Referral(("ring",), masks, np.ones(1, np.float32)).table()
    assert (len(row["polygons"]), row["holes"]) == (1, [[2, 2, 2, 3, 3, 3, 3, 2]])


def test_files(referral: Referral, tmp_path) -> None:
    files = referral.save(tmp_path / "new", "flag")
    assert [path.name for path in files.values()] == [
        *("flag_1_mask.png", "flag_2_mask.png", "flag_3_mask.png"),
        *("flag_overlay.jpg", "flag.json"),
    ]
    for index in range(3):
        with Image.open(files[f"mask {index + 1}"]) as image:
            np.testing.assert_array_equal(np.asarray(image), referral.masks[index] * 255)
    record = json.loads(files["json"].read_text())
    assert (record["height"], record["width"]) == (20, 30)
    assert record["expressions"] == referral.table()
    assert record["files"]["overlay"] == "flag_overlay.jpg"
    with pytest.raises(ValueError, match="file name without folders"):
        referral.save(tmp_path, "a/b")


def test_the_first_expression_is_drawn_on_top(referral: Referral) -> None:
    both = Referral(("one", "other"), np.ones((2, 40, 400), bool), np.ones(2, np.float32))
    red = np.asarray(both.plot())[20, 200]
    assert red[0] > red[1]
    small = both.plot(longest=100)
    assert small.height < both.plot().height
    assert referral.plot().width == 320


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 expressions came with masks of bool and shape \(1, 3"):
        Referral(("a", "b"), np.ones((1, 3, 4), bool), np.ones(1, np.float32))
