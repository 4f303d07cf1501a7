import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg import winners
from lexiseg.images import ImageError
from lexiseg.segmenter import Segmenter


def test_a_flag_by_its_colours(painter: Any, flag: np.ndarray) -> None:
    result = Segmenter(painter)(flag, ["blue", "red", "green"])
    np.testing.assert_array_equal(result.label_map[0], [1] * 10 + [2] * 10 + [0] * 10)
    assert result.label_map.dtype == np.uint8
    assert result.shares() == pytest.approx({"blue": 1 / 3, "red": 1 / 3, "green": 1 / 3}, abs=1e-6)
    assert result.confidence.min() > 0.99
    assert result.scores is None
    np.testing.assert_array_equal(result.image, flag)


def test_every_kind_of_source(painter: Any, flag: np.ndarray, flag_file: Path) -> None:
    segment = Segmenter(painter)
    sources = [
        flag_file,
        str(flag_file),
        flag_file.read_bytes(),
        Image.fromarray(flag),
        flag,
        torch.tensor(flag).permute(2, 0, 1),
    ]
    results = [segment(source, "red, green") for source in sources]
    for result in results:
        np.testing.assert_array_equal(result.label_map, results[0].label_map)
    assert [result.source for result in results] == [str(flag_file)] * 2 + [None] * 4


def test_the_result_has_the_size_of_the_picture(painter: Any) -> None:
    segment = Segmenter(painter)
    for size in [(1, 1), (200, 90), (65, 64), (1, 300)]:
        result = segment(np.zeros((*size, 3), dtype=np.uint8), "red, green")
        assert result.label_map.shape == size


def test_changed_labels_are_never_stale(painter: Any, flag: np.ndarray) -> None:
    segment = Segmenter(painter)
    first = segment(flag, ["red", "green"])
    second = segment(flag, ["green", "red"])
    np.testing.assert_array_equal(first.mask("red")[:, :20], second.mask("red")[:, :20])
    assert not np.array_equal(first.label_map, second.label_map)
    segment(flag, ["red", "green"])
    segment(flag, {"red": ["red"], "green": "green"})
    assert len(painter.encoded) == 2


def test_new_weights_are_never_stale(painter: Any, flag: np.ndarray) -> None:
    segment = Segmenter(painter)
    segment(flag, ["red"])
    painter.load_state_dict({"gain": torch.tensor(3.0)})
    segment(flag, ["red"])
    with torch.no_grad():
        painter.gain.mul_(2)
    segment(flag, ["red"])
    assert len(painter.encoded) == 3


def test_prompts_come_from_templates_and_synonyms(painter: Any, flag: np.ndarray) -> None:
    Segmenter(painter, templates=["{}", "a {}."])(flag, "red, sofa|couch")
    assert painter.encoded == [[["red", "a red."], ["sofa", "a sofa.", "couch", "a couch."]]]
    Segmenter(painter, templates="clip")(flag, "red")
    Segmenter(painter, templates="the {}")(flag, "red")
    assert painter.encoded[1:] == [[["a photo of a red."]], [["the red"]]]


def test_negative_names_leave_pixels_without_a_label(painter: Any, flag: np.ndarray) -> None:
    segment = Segmenter(painter)
    assert (segment(flag, "red").label_map == 0).all()
    result = segment(flag, "red", background="green|blue", scores=True)
    np.testing.assert_array_equal(result.label_map[0], [0] * 10 + [255] * 20)
    assert result.scores.shape == (1, 20, 30)


def test_a_threshold_leaves_pixels_without_a_label(painter: Any, flag: np.ndarray) -> None:
    result = Segmenter(painter)(flag, "red, green", background=0.6)
    np.testing.assert_array_equal(result.label_map[0], [0] * 10 + [1] * 10 + [255] * 10)
    np.testing.assert_allclose(result.confidence[0, 20:], 0.5, atol=1e-4)


def test_texts_that_are_judged_alone(judge: Any, flag: np.ndarray) -> None:
    segment = Segmenter(judge)
    np.testing.assert_array_equal(segment(flag, "red").label_map[0], [0] * 10 + [255] * 20)
    assert (segment(flag, "red", background=0.0).label_map == 0).all()


def test_scores_and_label_map_agree_in_chunks(
    painter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    labels = [f"thing {index}" for index in range(13)]
    segment = Segmenter(painter)
    whole = segment(image, labels, scores=True)
    np.testing.assert_array_equal(whole.scores.argmax(axis=0), whole.label_map)
    np.testing.assert_array_equal(whole.scores.max(axis=0), whole.confidence)
    np.testing.assert_allclose(whole.scores.sum(axis=0), 1, atol=1e-5)
    for chunk in (1, 90 * 70, 90 * 70 * 5):
        monkeypatch.setattr(winners, "_CHUNK_NUMBERS", chunk)
        chunked = segment(image, labels, scores=True, background="sky|wall")
        assert chunked.scores.shape == (13, 90, 70)
        chunked = segment(image, labels, scores=True)
        np.testing.assert_array_equal(chunked.label_map, whole.label_map)
        np.testing.assert_allclose(chunked.scores, whole.scores, atol=1e-6)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_any_number_of_labels(painter: Any, flag: np.ndarray, count: int) -> None:
    labels = [f"thing {index}" for index in range(count - 1)] + ["green"]
    result = Segmenter(painter)(flag, labels, background=0.0)
    assert result.label_map.dtype == (np.uint8 if count <= 255 else np.uint16)
    assert (result.label_map[:, 10:20] == count - 1).all()
    assert result.none not in result.label_map
    nothing = Segmenter(painter)(flag, labels, background="blue|lime")
    assert (nothing.label_map[:, 20:] == result.none).all()


def test_permuted_labels_permute_the_result(painter: Any) -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    labels = [f"thing {index}" for index in range(9)]
    segment = Segmenter(painter)
    forward, backward = segment(image, labels), segment(image, labels[::-1])
    np.testing.assert_array_equal(forward.label_map, 8 - backward.label_map.astype(int))


def test_windows(painter: Any, flag: np.ndarray) -> None:
    whole = Segmenter(painter)(flag, "red, green, blue")
    windows = Segmenter(painter, protocol="windows")(flag, "red, green, blue")
    np.testing.assert_array_equal(windows.label_map, whole.label_map)


def test_a_score_that_reaches_the_threshold_is_enough(judge: Any, flag: np.ndarray) -> None:
    segmenter = Segmenter(judge)
    best = float(segmenter(flag, ["red"]).confidence.max())
    there = segmenter(flag, ["red"], background=best).mask("red")
    assert there[:, :10].all()
    assert not there[:, 10:].any()
    np.testing.assert_array_equal(segmenter.refer(flag, ["red"], background=best).masks[0], there)
    assert not segmenter(flag, ["red"], background=best + 1e-6).mask("red").any()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_many_are_as_one_by_one(painter: Any, batch_size: int) -> None:
    random = np.random.default_rng(3)
    sizes = [(20, 30), (20, 30), (20, 30), (30, 20), (20, 30), (9, 9)]
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    segment = Segmenter(painter)
    results = list(segment.segment_many(iter(images), "red, green", batch_size=batch_size))
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result.label_map, segment(image, "red, green").label_map)


def test_many_is_lazy_but_checks_labels_at_once(painter: Any, flag: np.ndarray) -> None:
    segment = Segmenter(painter)
    with pytest.raises(ValueError, match="no labels came"):
        segment.segment_many([flag], [])
    with pytest.raises(ValueError, match="batch_size 0 came"):
        segment.segment_many([flag], "red", batch_size=0)
    results = segment.segment_many([flag, "missing.jpg"], "red")
    assert next(results).label_map.shape == (20, 30)
    with pytest.raises(ImageError, match="no such file"):
        next(results)


def test_threads_with_labels_of_their_own(painter: Any, flag: np.ndarray) -> None:
    segment = Segmenter(painter)
    vocabularies = [["red", "green"], ["green", "red"], ["blue", "red"], ["red", "green", "blue"]]
    expected = [segment(flag, labels).label_map for labels in vocabularies]
    segment._cache.clear()
    wrong: list[int] = []

    def work(index: int) -> None:
        for step in range(10):
            which = (index + step) % len(vocabularies)
            if not np.array_equal(segment(flag, vocabularies[which]).label_map, expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_limits_of_size(painter: Any, flag: np.ndarray) -> None:
    with pytest.raises(ImageError, match="too large"):
        Segmenter(painter, max_pixels=599)(flag, "red")
    segment = Segmenter(painter, max_pixels=100_000)
    preprocess = replace(segment.protocol.preprocess, shorter=64, longest=None)
    segment.protocol = replace(segment.protocol, preprocess=preprocess)
    with pytest.raises(ImageError, match="1 x 3000 pixels is too narrow .* 64 x 192000"):
        segment(np.zeros((1, 3000, 3), dtype=np.uint8), "red")


def test_unknown_names(painter: Any) -> None:
    with pytest.raises(ValueError, match="unknown protocol 'window'; did you mean 'windows'"):
        Segmenter(painter, protocol="window")
    with pytest.raises(ValueError, match="unknown templates 'clop'; did you mean 'clip'"):
        Segmenter(painter, templates="clop")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        Segmenter(painter, device="gpu")


def test_a_published_protocol_takes_first_synonyms_and_limits_the_texts(painter):
    protocol = replace(painter.protocols["default"], texts_at_most=1, first_synonym=True)
    painter.protocols = {**painter.protocols, "published": protocol}
    seen = []
    original = painter.forward
    painter.forward = lambda images, texts: seen.append(texts.at_most) or original(images, texts)
    segmenter = Segmenter(painter, protocol="published", device="cpu")
    segmenter(np.zeros((8, 8, 3), np.uint8), "red|lime, blue")
    assert seen == [1]
    assert painter.encoded[-1] == [["red"], ["blue"]]


def test_a_name_in_place_of_a_model_says_what_to_do() -> None:
    # In a process of its own, where the tests' type checker does not come first.
    code = "import lexiseg; lexiseg.Segmenter('catseg_lite')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "TypeError: the model came as str" in done.stderr
    assert "from_pretrained" in done.stderr
