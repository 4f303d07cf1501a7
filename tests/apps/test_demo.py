"""The page: what it makes of results, and how it behaves in a real browser."""

import asyncio
import gc
import io
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from lexiseg import Segmenter
from lexiseg.apps.server import Settings, create_app
from lexiseg.result import Segmentation
from tests.apps.server.test_overload import wait_until_ready
from tests.conftest import Judge, Painter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio's own, at import
    from lexiseg.apps import demo, results

HOSTILE = '<img src=x onerror="document.title=1">'
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """What gradio leaves open is collected here, where its warnings are ignored."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def page(painter: Painter, judge: Judge, tmp_path: Path) -> Iterator[demo.Page]:
    app = create_app({"painter": Segmenter(painter), "judge": Segmenter(judge)}, Settings())
    app.state.service.worker.start()
    yield demo.Page(app.state.service, tmp_path)
    app.state.service.worker.stop(10.0)


def test_words_give_a_mask_a_legend_and_files(page: demo.Page, flag_file: Path) -> None:
    answer = page.run(str(flag_file), demo.WORDS, "red, green, blue", "painter", demo.NO_MODEL)
    mask, second, legend, files, kept, message = answer
    assert mask.size == (30, 20)
    assert not second["visible"]
    assert legend.count("<li>") == 3
    assert "33.3%" in legend
    assert {Path(file).suffix for file in files} == {".png", ".jpg", ".json"}
    assert message == ""
    assert kept.at(15, 3).startswith("(15, 3): green, confidence 1.0")
    assert kept.at(99, 3) == ""


def test_a_sentence_gives_one_mask(page: demo.Page, flag_file: Path) -> None:
    *_, kept, _ = page.run(str(flag_file), demo.SENTENCE, "red", "judge", demo.NO_MODEL)
    assert kept.at(2, 2) == "(2, 2): red, confidence 1.00"
    assert kept.at(25, 2) == "(25, 2): none of them"


def test_two_models_side_by_side(page: demo.Page, flag_file: Path) -> None:
    _, second, legend, *_ = page.run(str(flag_file), demo.WORDS, "red", "painter", "judge")
    assert second["visible"]
    assert second["value"].size == (30, 20)
    assert legend.index("painter") < legend.index("judge")


def test_steps_are_shown(page: demo.Page, flag_file: Path) -> None:
    maps, message = page.explain(str(flag_file), demo.WORDS, "red, green", "painter")
    assert message == ""
    assert len(maps) >= 2
    assert {caption.rpartition(": ")[2] for _, caption in maps} == {"red", "green"}


def test_what_is_typed_is_never_markup(page: demo.Page, flag_file: Path) -> None:
    for words in (HOSTILE, f"{HOSTILE}, {HOSTILE}", f"{HOSTILE},"):
        _, _, legend, _, _, message = page.run(
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
        assert nothing[4] is None
    assert "no photo yet" in page.explain(None, demo.WORDS, "red", "painter")[1]


def test_a_large_result_is_kept_small() -> None:
    label_map = np.zeros((10, 4000), dtype=np.uint8)
    label_map[:, 2000:] = 255
    kept = results.shown(Segmentation(("a",), label_map, np.ones((10, 4000), dtype=np.float32)))
    assert kept.label_map.shape == (3, results.LONGEST)
    assert kept.at(511, 0) == "(511, 0): a, confidence 1.00"
    assert kept.at(512, 0) == "(512, 0): none of them"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a page with the painter and the judge."""
    app = create_app({"painter": Segmenter(Painter()), "judge": Segmenter(Judge())})
    demo.mount_demo(app)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        wait_until_ready(address)
        yield address
        server.should_exit = server.force_exit = True
        thread.join(20)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "these tests need a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """The page in a tab, and every address that it asked for."""

    def __init__(self, browser: Any, address: str, *, width: int = 1200) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(f"{address}/demo/")
        self.page.wait_for_selector("#go")

    def upload(self, data: bytes, name: str = "flag.png") -> None:
        files = self.page.locator("input[type=file]").first
        files.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})

    def photo_is_there(self) -> None:
        self.page.wait_for_selector("[data-testid=image] img, .image-frame img")

    def say(self, words: str) -> None:
        self.page.locator("#words textarea, #words input").first.fill(words)
        self.page.locator("#go").click()

    def legend(self, text: str) -> str:
        """The legend, once it has a text."""
        box = self.page.locator("#legend")
        box.get_by_text(text, exact=False).first.wait_for(timeout=20_000)
        return str(box.inner_text())

    def mask(self) -> str:
        return str(self.page.locator("#result img").first.get_attribute("src"))


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    tab.page.close()


def flag_png(flag: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(flag).resize((300, 200), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_the_mask_changes_with_the_words(tab: Tab, address: str, flag: np.ndarray) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say("red, green, blue")
    assert "33.0%" in tab.legend("green")
    before = tab.mask()
    tab.say("red, lime")
    tab.legend("lime")
    assert tab.mask() != before
    tab.page.locator("#result img").first.click(position={"x": 5, "y": 5})
    pointed = tab.page.get_by_label("Under the pointer")
    tab.page.wait_for_function(
        "box => box.value.includes('red, confidence')", arg=pointed.element_handle()
    )
    assert [url for url in tab.asked if not url.startswith((address, "data:", "blob:"))] == []
    assert not tab.faults


@pytest.mark.slow
def test_a_bad_file_is_told(tab: Tab) -> None:
    tab.upload(b"this is no picture", "bad.png")
    tab.page.wait_for_timeout(1500)
    tab.say("red")
    tab.page.locator("#told").get_by_text("is not an image that can be read").wait_for()
    tab.say("red")
    assert tab.page.locator("#result img").count() == 0


@pytest.mark.slow
def test_hostile_words_are_text(tab: Tab, flag: np.ndarray) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say(f"red, {HOSTILE}")
    assert HOSTILE in tab.legend("<img")
    tab.say(f"{HOSTILE}, {HOSTILE}")
    tab.page.locator("#told").get_by_text("came twice").wait_for()
    tab.say(f"red, {HOSTILE}")
    tab.page.get_by_text("What the model saw").click()
    tab.page.locator("#look").click()
    tab.page.get_by_text(f": {HOSTILE}").first.wait_for(timeout=20_000)
    assert tab.page.title() == "lexiseg"
    assert tab.page.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_a_phone_needs_no_scrolling_sideways(browser: Any, address: str, flag: np.ndarray) -> None:
    tab = Tab(browser, address, width=390)
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say("red, green, " + "averylongword" * 15)
    tab.legend("green")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.page.close()


@pytest.mark.slow
def test_keys_are_enough(tab: Tab, flag: np.ndarray) -> None:
    """Of a file only the choosing, which the system's own window does, is done for the keys."""
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    reached = []
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        reached.append(tab.page.evaluate("document.activeElement.closest('[id]')?.id ?? ''"))
        if tab.page.evaluate("document.activeElement.matches('#words textarea, #words input')"):
            tab.page.keyboard.type("red, blue")
        if reached[-1] == "go":
            tab.page.keyboard.press("Enter")
            break
    assert reached[-1] == "go", reached
    tab.legend("blue")
