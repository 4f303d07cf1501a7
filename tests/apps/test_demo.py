"""The page: what it makes of words and of results."""

import asyncio
import base64
import html
import json
import re
import socket
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lexiseg import Segmenter
from lexiseg.apps.server import Settings, create_app
from lexiseg.result import Segmentation
from tests.conftest import Judge, Painter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio's own, at import
    from lexiseg.apps import demo, results

HOSTILE = '<img src=x onerror="document.title=1">'
pytestmark = [
    pytest.mark.usefixtures("gradio_collected"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture
def page(painter: Painter, judge: Judge, tmp_path: Path) -> Iterator[demo.Page]:
    app = create_app({"painter": Segmenter(painter), "judge": Segmenter(judge)}, Settings())
    app.state.service.worker.start()
    yield demo.Page(app.state.service, tmp_path)
    app.state.service.worker.stop(10.0)


def at(legend: str, place: str, x: int, y: int) -> tuple[str | None, float]:
    """Name and confidence that the page's script finds at a pixel of the map in a legend."""
    found = re.search(rf'data-map-of="{place}" data-map="([^"]*)"', legend)
    assert found
    record = json.loads(html.unescape(found[1]))
    raw = np.frombuffer(zlib.decompress(base64.b64decode(record["values"])), dtype=np.uint8)
    low, high, hundredths = raw.reshape(3, record["rows"], record["columns"])
    index = int(low[y, x]) + 256 * int(high[y, x])
    name = record["names"][index] if index < len(record["names"]) else None
    return name, int(hundredths[y, x]) / 100


def test_words_give_a_mask_a_legend_and_files(page: demo.Page, flag_file: Path) -> None:
    answer = page.run(str(flag_file), demo.WORDS, "red, green, blue", "painter", demo.NO_MODEL)
    mask, second, legend, files, message = answer
    assert mask.size == (30, 20)
    assert not second["visible"]
    assert legend.count("<li>") == 3
    assert "33.3%" in legend
    assert {Path(file).suffix for file in files} == {".png", ".jpg", ".json"}
    assert message == ""
    assert at(legend, "result", 15, 3) == ("green", 1.0)


def test_a_sentence_gives_one_mask(page: demo.Page, flag_file: Path) -> None:
    _, _, legend, *_ = page.run(str(flag_file), demo.SENTENCE, "red", "judge", demo.NO_MODEL)
    assert at(legend, "result", 2, 2) == ("red", 1.0)
    assert at(legend, "result", 25, 2)[0] is None
    assert "<p>judge</p>" in legend


def test_which_models_read_sentences_is_told(page: demo.Page, flag_file: Path) -> None:
    told = "<p>A sentence is read by judge; taken for a label by painter.</p>"
    assert page.who_reads() == told
    answer = page.run(str(flag_file), demo.SENTENCE, "the red one", "painter", "judge")
    assert "<p>painter (sentence taken for a label)</p>" in answer[2]
    assert "<p>judge</p>" in answer[2]
    page.service.segmenters[HOSTILE] = page.service.segmenters.pop("judge")
    assert "<img" not in page.who_reads()
    del page.service.segmenters[HOSTILE]
    page.service.segmenters["graphs"] = object()
    assert "read by models of CRIS (none is here); taken " in page.who_reads()
    assert "not taken by graphs" in page.who_reads()
    answer = page.run(str(flag_file), demo.SENTENCE, "the red one", "graphs", demo.NO_MODEL)
    assert "takes labels, not expressions" in answer[-1]


def test_two_models_side_by_side(page: demo.Page, flag_file: Path) -> None:
    _, second, legend, *_ = page.run(str(flag_file), demo.WORDS, "red", "painter", "judge")
    assert second["visible"]
    assert second["value"].size == (30, 20)
    assert legend.index("painter") < legend.index("judge")
    assert at(legend, "result", 25, 2)[0] == "red"  # the only label there is
    assert at(legend, "second", 25, 2)[0] is None


def test_steps_are_shown(page: demo.Page, flag_file: Path) -> None:
    maps, message = page.explain(str(flag_file), demo.WORDS, "red, green", "painter")
    assert message == ""
    assert len(maps) >= 2
    assert {caption.rpartition(": ")[2] for _, caption in maps} == {"red", "green"}


def test_what_is_typed_is_never_markup(page: demo.Page, flag_file: Path) -> None:
    for words in (HOSTILE, f"{HOSTILE}, {HOSTILE}", f"{HOSTILE},"):
        _, _, legend, _, message = page.run(
            str(flag_file), demo.WORDS, words, "painter", demo.NO_MODEL
        )
        assert "<img" not in legend + message
        assert "&lt;img" in legend + message or "empty label" in message
    assert 'role="alert"' in results.told(ValueError(HOSTILE))
    assert "<img" not in results.told(ValueError(HOSTILE))


def test_errors_are_told(page: demo.Page, tmp_path: Path, flag_file: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    for photo, words, says in (
        (None, "red", "no photo yet"),
        (str(tmp_path / "bad.png"), "red", "not an image"),
        (str(flag_file), "", "no labels came"),
    ):
        *nothing, message = page.run(photo, demo.WORDS, words, "painter", demo.NO_MODEL)
        assert says in message
        assert nothing[2] == ""
    assert "no photo yet" in page.explain(None, demo.WORDS, "red", "painter")[1]


def test_a_large_result_is_kept_small() -> None:
    label_map = np.zeros((10, 6400), dtype=np.uint16)
    label_map[:, 3200:] = 299
    label_map[:, 6390:] = 65535
    labels = tuple(f"<{number}>" for number in range(300))
    confidence = np.full((10, 6400), 0.256, dtype=np.float32)
    legend = results.legend("m", Segmentation(labels, label_map, confidence))
    assert at(legend, "result", 319, 0) == ("<0>", 0.26)
    assert at(legend, "result", 320, 0) == ("<299>", 0.26)
    assert at(legend, "result", 639, 0)[0] is None
    assert "<0>" not in legend
    with pytest.raises(IndexError):
        at(legend, "result", 0, 1)


def test_no_address_is_fetched() -> None:
    """Whatever field of the page's own interface it is put into."""
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.settimeout(0.5)
        photo = {"path": f"http://127.0.0.1:{trap.getsockname()[1]}/a.png"}
        photo |= {"url": photo["path"], "meta": {"_type": "gradio.FileData"}}
        for data in (
            [photo, "words", "red", "painter", "no other"],
            [None, "words", photo, "", ""],
        ):
            assert "fetches nothing" in heard(data)
        with pytest.raises(TimeoutError):
            trap.accept()


def heard(data: list[Any]) -> str:
    """Why the page does not take what a client sends."""
    blocks = demo.create_demo(create_app(Segmenter(Painter())).state.service)
    run = next(f for f in blocks.fns.values() if f.name == "run")
    try:
        asyncio.run(blocks.preprocess_data(run, data, None))
    except Exception as error:
        return str(error)
    return ""
