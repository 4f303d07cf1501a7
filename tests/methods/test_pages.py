"""The tables "from the figure to the code": every file is there, and holds what is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lexiseg"
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
PATH = re.compile(r"(?:\w+/)*(?:\w+\.py|\w+/)")


def rows(page: Path) -> list[tuple[list[str], list[str]]]:
    """Files, and names beside them, of each row whose second cell holds files."""
    found = []
    for line in page.read_text().splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.strip("| ").split(" | ")]
        files = cells[1] if line.startswith("|") and len(cells) > 2 else []
        if files and all(PATH.fullmatch(name) for name in files):
            found.append((files, cells[2]))
    return found


def text_of(name: str, folder: Path) -> str:
    """The source in a file or a folder; a bare name is beside the file before it."""
    path = SOURCE / name if "/" in name.rstrip("/") else folder / name
    assert path.exists(), f"{name} is not there"
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    return "\n".join(file.read_text() for file in files)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_figure_is_in_the_code(page: Path) -> None:
    assert len(rows(page)) > 2
    for files, names in rows(page):
        folder = (SOURCE / files[0]).parent
        source = "\n".join(text_of(name, folder) for name in files)
        for name in names:
            for part in name.partition("(")[0].split("."):
                stands = rf"^\s*(class|def) {part}\b|^\s*(self\.)?{part}\b.* = "
                assert re.search(stands, source, re.MULTILINE), f"{part} is not in {files}"
