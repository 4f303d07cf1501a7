"""The segmenter without torch beside the one with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lexiseg.images import ImageError
from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.parity import made_up_pictures
from lexiseg.segmenter import Segmenter

LABELS = "dog, grass|lawn, bright blue sky"


@pytest.mark.parametrize("background", [None, 0.5, "wall|floor"])
def test_results_are_the_same(
    model: SegmentationModel, exported: Path, background: float | str | None
) -> None:
    ours, theirs = OnnxSegmenter(exported), Segmenter(model)
    assert ours.templates == theirs.templates
    for picture in made_up_pictures(((40, 60), (90, 30))):
        found = ours(picture, LABELS, background=background, scores=True)
        expected = theirs(picture, LABELS, background=background, scores=True)
        assert found.labels == expected.labels
        assert found.label_map.dtype == expected.label_map.dtype
        assert (found.label_map == expected.label_map).mean() >= 0.999
        np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found.image, picture)


@pytest.mark.parametrize("threads", ["2,1", "", "many"])
def test_any_number_of_threads_is_taken(
    exported: Path, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert OnnxSegmenter(exported).description.model == "tiny"


def test_more_labels_than_fit_into_8_bits(exported: Path) -> None:
    (picture,) = made_up_pictures(((30, 30),))
    result = OnnxSegmenter(exported)(picture, [f"thing {number}" for number in range(256)])
    assert result.label_map.dtype == np.uint16


def test_another_set_of_labels_is_another_answer(exported: Path) -> None:
    segmenter = OnnxSegmenter(exported)
    (picture,) = made_up_pictures(((40, 40),))
    first = segmenter(picture, ["dog", "grass"], scores=True)
    segmenter(picture, ["sea", "sand"])
    again = segmenter(picture, ["dog", "grass"], scores=True)
    turned = segmenter(picture, ["grass", "dog"], scores=True)
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_allclose(first.scores, turned.scores[::-1], atol=1e-5)


def test_a_segmenter_opens_it(exported: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    opened = Segmenter.from_onnx(exported, templates="a {}")
    assert opened.templates == ("a {}",)
    expected = OnnxSegmenter(exported, templates="a {}")(picture, "dog, grass")
    np.testing.assert_array_equal(opened(picture, "dog, grass").label_map, expected.label_map)


def test_torch_is_not_loaded(exported: Path, tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from lexiseg.onnx import OnnxSegmenter
picture = np.zeros((30, 50, 3), np.uint8)
result = OnnxSegmenter({str(exported)!r})(picture, "dog, grass")
result.save({str(tmp_path / "out")!r}, "a")
assert result.label_map.shape == (30, 50)
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n", done.stderr
    assert (tmp_path / "out" / "a.json").is_file()


def test_what_is_no_export(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no exported model; lexiseg export MODEL"):
        OnnxSegmenter(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    (folder / "head.onnx").unlink()
    with pytest.raises(ValueError, match=r"head\.onnx' is missing; export the model again"):
        OnnxSegmenter(folder)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "format": 0}))
    with pytest.raises(ValueError, match="is of another format"):
        OnnxSegmenter(folder)


def test_wrong_pictures_and_labels(exported: Path) -> None:
    segmenter = OnnxSegmenter(exported, max_pixels=1000)
    with pytest.raises(ImageError, match="no such file"):
        segmenter("nothing.jpg", "dog")
    with pytest.raises(ImageError, match="too narrow for this model"):
        segmenter(np.zeros((1, 1000, 3), np.uint8), "dog")
    with pytest.raises(ValueError, match="came twice"):
        segmenter(np.zeros((9, 9, 3), np.uint8), "dog, dog")
    with pytest.raises(ValueError, match="does not tell what it saw"):
        segmenter.explain(np.zeros((9, 9, 3), np.uint8), "dog")
    with pytest.raises(ValueError, match="has graphs and no module; give photos one by one"):
        _ = segmenter.model
