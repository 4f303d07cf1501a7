"""The page in a real browser: by pointer, by keys, on a phone; all slow."""

import json
import shutil
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from lexiseg import Segmenter
from lexiseg.apps.server import Settings, create_app
from tests.apps.browser import Tab, flag_png, press_until, served
from tests.conftest import Judge, Painter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gradio's own, at import
    from lexiseg.apps import demo

HOSTILE = '<img src=x onerror="document.title=1">'
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("gradio_collected"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a page with the painter and the judge."""
    app = create_app({"painter": Segmenter(Painter()), "judge": Segmenter(Judge())})
    yield from served(demo.mount_demo(app))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "these tests need a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    tab.page.close()
    assert not tab.faults
    assert [url for url in tab.asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_mask_changes_with_the_words(tab: Tab, flag: np.ndarray) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say("red, green, blue")
    assert "33.0%" in tab.legend("green")
    before = tab.mask()
    tab.say("red, lime")
    tab.legend("lime")
    assert tab.mask() != before


def test_the_moving_pointer_tells_label_and_confidence(tab: Tab, flag: np.ndarray) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.choose("Compare with", "judge")
    tab.say("red, blue, green")
    tab.legend("green")
    asked = len(tab.asked)
    for x, name in ((0.1, "red"), (0.5, "green"), (0.9, "blue")):
        tab.move_to("#result", x, 0.5)
        said = tab.pointed(name)
        column, row = (int(number) for number in said[1 : said.index(")")].split(","))
        assert abs(column - 300 * x) <= 3
        assert abs(row - 100) <= 3
        assert "confidence 1.00" in said
    assert len(tab.asked) == asked  # nothing is sent for it
    tab.say("red, blue")
    tab.page.wait_for_function(
        "!document.querySelector('#legend').textContent.includes('green')"
    )  # the pointer rests, what is below it changes
    assert "blue" in tab.pointed("blue")
    tab.move_to("#second", 0.5, 0.5)
    assert tab.pointed("none of them").startswith("(1")


def test_a_bad_file_is_told(tab: Tab) -> None:
    tab.upload(b"this is no picture", "bad.png")
    tab.page.wait_for_timeout(1500)
    tab.say("red")
    tab.page.locator("#told").get_by_text("is not an image that can be read").wait_for()
    tab.say("red")
    assert tab.page.locator("#result img").count() == 0


def test_hostile_words_are_text(tab: Tab, flag: np.ndarray) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say(f"red, {HOSTILE}")
    assert HOSTILE in tab.legend("<img")
    tab.say(f"{HOSTILE}, {HOSTILE}")
    tab.page.locator("#told").get_by_text("came twice").wait_for()
    tab.say(HOSTILE)
    tab.legend("100.0%")
    tab.move_to("#result", 0.5, 0.5)
    assert HOSTILE in tab.pointed("<img")
    tab.page.get_by_text("What the model saw").click()
    tab.page.locator("#look").click()
    tab.page.get_by_text(f": {HOSTILE}").first.wait_for(timeout=20_000)
    assert tab.page.title() == "lexiseg"
    assert tab.page.locator("img[src=x]").count() == 0


def test_a_sentence_is_for_models_that_read_it(tab: Tab, flag: np.ndarray) -> None:
    assert "is read by judge" in tab.page.locator("#readers").inner_text()
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.page.get_by_label("a sentence").check()
    tab.choose("Model", "judge")
    tab.say("red")
    assert "painter" not in tab.legend("red 3")
    tab.move_to("#result", 0.8, 0.5)
    tab.pointed("none of them")
    tab.choose("Model", "painter")
    tab.page.locator("#go").click()
    tab.legend("painter (sentence taken for a label)")


def test_what_is_downloaded_is_the_result(tab: Tab, flag: np.ndarray, tmp_path: Path) -> None:
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.say("red, green, blue")
    tab.legend("blue")
    for ending in ("_labels.png", "_overlay.jpg", "_coco.json", "_confidence.png"):
        link = tab.page.locator(f"#files a[download$='{ending}']").first
        with tab.page.expect_download() as download:
            link.click()
        download.value.save_as(tmp_path / ending)
    labels = np.array(Image.open(tmp_path / "_labels.png"))
    assert labels.shape == (200, 300)
    assert [labels[100, column] for column in (50, 150, 250)] == [0, 1, 2]
    record = json.loads((tmp_path / "_coco.json").read_text())
    masks = [coco_mask.decode(each["segmentation"]) for each in record["annotations"]]
    assert np.array_equal(sum((n + 1) * mask for n, mask in enumerate(masks)), labels + 1)
    with Image.open(tmp_path / "_overlay.jpg") as overlay:
        assert overlay.format == "JPEG"
    assert np.array(Image.open(tmp_path / "_confidence.png")).max() > 60_000


def test_a_phone_needs_no_scrolling_sideways(browser: Any, address: str, flag: np.ndarray) -> None:
    tab = Tab(browser, address, width=390, has_touch=True, is_mobile=True)
    tab.upload(flag_png(flag))
    tab.photo_is_there()
    tab.choose("Compare with", "judge")
    tab.say("red, green, " + "averylongword" * 15)
    tab.legend("green")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    for mask in ("#result", "#second"):
        tab.page.wait_for_function(
            "mask => document.querySelector(`${mask} img`)?.naturalWidth > 0", arg=mask
        )
        box = tab.page.locator(f"{mask} img").first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert 250 <= box["width"] <= 390 - box["x"]
    box = tab.page.locator("#go").bounding_box()
    assert box is not None
    assert box["height"] >= 40  # a finger's width
    tab.page.locator("#result img").first.scroll_into_view_if_needed()
    tab.page.locator("#result img").first.tap(position={"x": 10, "y": 60})
    tab.pointed("red, confidence")
    tab.page.close()
    assert not tab.faults


def test_keys_are_enough(tab: Tab, flag: np.ndarray) -> None:
    """From the file to the confidence at a place; of the pointer nothing."""
    keys = tab.page.keyboard
    press_until(tab, "button:has(input[type=file]), [aria-label*='upload' i], button.upload")
    choosers: list[Any] = []
    tab.page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(20):  # the button is seen before it listens
        keys.press("Enter")
        tab.page.wait_for_timeout(500)
        if choosers:
            break
    file = {"name": "flag.png", "mimeType": "image/png", "buffer": flag_png(flag)}
    choosers[0].set_files(file)
    tab.photo_is_there()
    press_until(tab, "#kind input[value='a sentence']")
    keys.press("Space")
    tab.page.wait_for_selector("#kind input[value='a sentence']:checked")
    keys.press("Shift+Tab")
    keys.press("Space")
    tab.page.wait_for_selector("#kind input[value='words']:checked")
    press_until(tab, "#words textarea, #words input")
    keys.type("red, blue, green")
    press_until(tab, "input[aria-label='Model']")
    keys.press("ArrowDown")
    keys.press("Enter")
    press_until(tab, "#go")
    keys.press("Enter")
    assert "judge" in tab.legend("blue") or "painter" in tab.legend("blue")
    press_until(tab, "#result")
    for _ in range(30):
        keys.press("ArrowRight")
    tab.pointed("blue, confidence")
    for _ in range(6):
        keys.press("Shift+ArrowLeft")
    tab.pointed("red, confidence")
    press_until(tab, "#files a")
    press_until(tab, "#saw button")
    keys.press("Enter")
    press_until(tab, "#look")
    keys.press("Enter")
    tab.page.get_by_text(": blue").first.wait_for(timeout=20_000)


def test_the_icon_needs_no_key(browser: Any) -> None:
    """The browser asks for it without the password of the page."""
    app = create_app(Segmenter(Painter()), Settings(api_key="0123456789abcdef"))
    for address in served(demo.mount_demo(app)):
        key = {"username": "me", "password": "0123456789abcdef"}
        tab = Tab(browser, address, http_credentials=key)
        tab.page.close()
        with urllib.request.urlopen(f"{address}/favicon.ico", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "image/svg+xml"
        assert not tab.faults


def test_the_steps_of_a_bundled_model(browser: Any) -> None:
    """Correlation maps and pseudo prompts of escnet_lite, beside catseg_lite's mask."""
    models = {n: Segmenter.from_pretrained(n) for n in ("escnet_lite", "catseg_lite")}
    for address in served(demo.mount_demo(create_app(models))):
        tab = Tab(browser, address)
        tab.upload((PHOTOS / "truck.jpg").read_bytes(), "truck.jpg")
        tab.photo_is_there()
        tab.choose("Compare with", "catseg_lite")
        tab.say("truck, road, wall")
        legend = tab.legend("catseg_lite")
        assert legend.index("escnet_lite") < legend.index("catseg_lite")
        assert tab.page.locator("#second img").count() == 1
        tab.page.get_by_text("What the model saw").click()
        tab.page.locator("#look").click()
        tab.page.get_by_text("correlation: truck").first.wait_for(timeout=60_000)
        captions = tab.page.locator("#steps .caption-label").all_inner_texts()
        assert {caption.rpartition(": ")[2] for caption in captions} == {"truck", "road", "wall"}
        assert len({caption.rpartition(": ")[0] for caption in captions}) >= 3
        tab.page.close()
        assert not tab.faults
