"""The documentation as a site: it builds without network, whole, and asks no other host."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import lexiseg

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(
    find_spec("zensical") is None, reason='the site needs pip install "lexiseg[docs]"'
)


def build(place: Path) -> "subprocess.CompletedProcess[str]":
    """As `make docs` does, with every way out of this machine shut."""
    shut = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    words = [sys.executable, "-m", "zensical", "build", "--strict"]
    environment = {**os.environ, **shut, "NO_COLOR": "1"}
    return subprocess.run(
        words, cwd=place, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is written beside the sources."""
    place = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", place)
    shutil.copytree(DOCS, place / "docs")
    (place / "src").symlink_to(ROOT / "src")
    done = build(place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "site"


def in_nav(part: Any) -> list[str]:
    """The pages of a part of the order of pages."""
    if isinstance(part, str):
        return [part]
    return [
        page
        for each in (part.values() if isinstance(part, dict) else part)
        for page in in_nav(each)
    ]


def test_every_page_has_its_place_once() -> None:
    pages = in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(pages) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


class Page(HTMLParser):
    """What a page loads, its anchors, and its paragraphs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        self.loads += [str(given[name]) for name in ("src", "srcset", "poster") if name in given]
        if tag == "link":
            self.loads.append(str(given.get("href")))
        if tag == "p":
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def test_all_that_is_loaded_is_here(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # the page for wrong addresses too
    for page in pages:
        foreign = [url for url in Page(page).loads if re.match(r"(https?:)?//", url)]
        assert not foreign, page
        for url in Page(page).loads:
            file = (site if url.startswith("/") else page.parent) / url.lstrip("/")
            assert url.startswith("data:") or file.exists(), f"{page}: {url}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text()), style


def test_lists_and_tables_do_not_stay_text(site: Path) -> None:
    """GitHub needs no empty line before them, the site does."""
    for path in DOCS.rglob("*.md"):
        page = site / path.relative_to(DOCS).with_suffix(".html")
        for text in Page(page).texts:
            assert not re.search(r"^\s*([-*] |\|.*\|\s*$|```)", text, re.MULTILINE), (path, text)


def test_the_public_names_are_described(site: Path) -> None:
    described = set().union(*(Page(page).ids for page in (site / "api").glob("*.html")))
    homes = {f"lexiseg.{home}.{name}" for name, home in lexiseg._HOMES.items()}
    assert homes | {"lexiseg.segmenter.Segmenter.refer"} <= described
    for page in (site / "api").glob("*.html"):
        assert ":class:" not in page.read_text()


def test_broken_links_are_errors(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "roles.py", tmp_path / "docs")
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[a](nowhere.md), [b](index.md#no)\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "2 issues found" in done.stderr
