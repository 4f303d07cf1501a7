"""Features of texts, kept: found again, never mistaken, never in the way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lexiseg import text_cache
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.segmenter import Segmenter
from lexiseg.text_cache import encode_once, kept_in
from tests.methods import contract

MANY = [[f"{word} {number}" for number in range(4)] for word in ("cat", "dog", "tree", "car")]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SegmentationModel:
    """A tiny CAT-Seg for which sixteen prompts are many, with a cache of this test's own."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_cache, "LEAST_PROMPTS", 16)
    torch.manual_seed(0)
    return contract.tiny_catseg().eval()


@pytest.fixture
def calls(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many labels were encoded, call by call."""
    encode, seen = model.encode_texts, []

    def counted(prompts: list[list[str]]) -> Texts:
        seen.append(len(prompts))
        return encode(prompts)

    monkeypatch.setattr(model, "encode_texts", counted)
    return seen


def test_many_are_encoded_once_for_these_weights_and_words(
    model: SegmentationModel, calls: list[int]
) -> None:
    with torch.inference_mode():
        first = encode_once(model, MANY)
        again = encode_once(model, MANY)
        assert calls == [4]
        assert torch.equal(first.features, again.features)
        other = encode_once(model, MANY[::-1])
        assert torch.allclose(other.features, first.features.flip(0), atol=1e-5)
        encode_once(model, [*MANY[:3], [*MANY[3][:3], "another"]])
        assert calls == [4, 4, 4]
    with torch.no_grad():
        next(model.parameters()).add_(0.5)
    assert not kept_in(model, MANY).exists()


def test_a_segmenter_reads_what_another_process_left(
    model: SegmentationModel, calls: list[int]
) -> None:
    words = [f"word {number}" for number in range(16)]
    picture = torch.zeros(32, 32, 3, dtype=torch.uint8)
    first, second = (Segmenter(model)(picture, words, scores=True) for _ in range(2))
    assert calls == [16]
    assert (first.scores == second.scores).all()


def test_few_are_not_kept(model: SegmentationModel, calls: list[int]) -> None:
    encode_once(model, MANY[:3])
    assert not kept_in(model, MANY[:3]).parent.exists()


def test_a_damaged_file_or_a_closed_folder_costs_time_alone(
    model: SegmentationModel, calls: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with torch.inference_mode():
        expected = encode_once(model, MANY).features
        kept_in(model, MANY).write_bytes(b"damaged")
        assert torch.equal(encode_once(model, MANY).features, expected)
        assert torch.equal(encode_once(model, MANY).features, expected)
        assert calls == [4, 4]
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "file"))
        assert torch.equal(encode_once(model, MANY).features, expected)


def test_texts_that_hold_more_than_features_are_not_kept(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class More(Texts):
        pass

    encode = model.encode_texts
    monkeypatch.setattr(model, "encode_texts", lambda prompts: More(encode(prompts).features))
    assert type(encode_once(model, MANY)) is More
    assert not kept_in(model, MANY).exists()


def test_the_oldest_files_go(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "MOST_FILES", 2)
    orders = [MANY, MANY[::-1], [*MANY[1:], MANY[0]]]
    with torch.inference_mode():
        for order in orders[:2]:
            encode_once(model, order)
        encode_once(model, orders[0])  # used again
        encode_once(model, orders[2])
    assert [kept_in(model, order).exists() for order in orders] == [True, False, True]


def test_the_cache_is_bounded(
    painter: Any, flag: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_cache, "MOST_IN_MEMORY", 4)
    segment = Segmenter(painter)
    for labels in ("red, green", "red, blue", "red, green", "blue, green"):
        segment(flag, labels)
    assert len(painter.encoded) == 3
    segment(flag, "red, green")
    assert len(painter.encoded) == 3
    segment(flag, "red, blue")
    segment(flag, "red, green, blue, lime, black")
    assert len(painter.encoded) == 5
    assert len(segment._cache) == 1
