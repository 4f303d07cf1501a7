"""The page in a tab of a real browser, and what it is asked with."""

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from tests.apps.server.test_overload import wait_until_ready


def served(app: FastAPI) -> Iterator[str]:
    """The address of an application, as long as the test goes on."""
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


class Tab:
    """The page in a tab, every address that it asked for, and what went wrong in it."""

    def __init__(self, browser: Any, address: str, *, width: int = 1200, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(f"{address}/demo/")
        self.page.wait_for_selector("#go")

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"{message.text} {message.location}")

    def upload(self, data: bytes, name: str = "flag.png") -> None:
        files = self.page.locator("input[type=file]").first
        files.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})

    def photo_is_there(self) -> None:
        self.page.wait_for_selector("[data-testid=image] img, .image-frame img")

    def say(self, words: str) -> None:
        self.page.locator("#words textarea, #words input").first.fill(words)
        self.page.locator("#go").click()

    def choose(self, field: str, model: str) -> None:
        self.page.get_by_label(field).click()
        self.page.get_by_role("option", name=model, exact=True).click()

    def legend(self, text: str) -> str:
        """The legend, once it has a text."""
        box = self.page.locator("#legend")
        box.get_by_text(text, exact=False).first.wait_for(timeout=30_000)
        return str(box.inner_text())

    def mask(self) -> str:
        return str(self.page.locator("#result img").first.get_attribute("src"))

    def pointed(self, text: str) -> str:
        """What is told of the place under the pointer, once it has a text."""
        self.page.locator("#pointed").get_by_text(text, exact=False).wait_for(timeout=10_000)
        return str(self.page.locator("#pointed").inner_text())

    def move_to(self, mask: str, x: float, y: float) -> None:
        """The pointer to a place of a mask, as parts of its sides."""
        image = self.page.locator(f"{mask} img").first
        image.scroll_into_view_if_needed()
        box = image.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


def flag_png(flag: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(flag).resize((300, 200), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def press_until(tab: Tab, found: str, *, most: int = 60) -> None:
    """The Tab key, until an element has the focus that a selector finds."""
    for _ in range(most):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("found => !!document.activeElement?.matches(found)", found):
            return
    raise AssertionError(f"{most} presses of the Tab key did not reach {found}")
