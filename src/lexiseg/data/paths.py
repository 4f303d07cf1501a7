"""Names of files that a data set gives: they must not lead outside, and the files must be there."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any


def inside(root: Path, name: Any, *, source: str) -> Path:
    """The file of a name that a data set gives, below its folder.

    Args:
        root: the folder.
        name: a path relative to it, with "/" between folders.
        source: where the name was found, for the message.

    Raises:
        ValueError: the name is no text, or leads outside.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{source}: a file is called {name!r}; give a path relative to {root}")
    if not _stays(name):
        raise ValueError(f"{source}: the path {name!r} leads outside of {root}, where it must stay")
    return root / name


def plain_name(name: Any, *, source: str) -> str:
    """The name of a file that has to be in one folder, not below it.

    Raises:
        ValueError: the name is no text, leads outside, or has folders.
    """
    text = isinstance(name, str) and "\0" not in name
    if not text or not _stays(name) or PureWindowsPath(name).parts != (name,):
        raise ValueError(f"{source}: {name!r} came; a name of a photograph has no folders")
    return str(name)


def _stays(name: str) -> bool:
    """Whether a name leads to nowhere outside of the folder that it starts from."""
    given = PureWindowsPath(name)  # which takes both separators and knows drives
    return not given.anchor and ".." not in given.parts


def read_listing(path: Path) -> list[str]:
    """The names of photographs in a file, one a line; what follows a blank in a line is dropped.

    Raises:
        ValueError: the file is no UTF-8 text, cannot be read, or has a name with folders.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text; it names a photograph a line") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    return [plain_name(line.split()[0], source=str(path)) for line in lines if line.strip()]


def walk(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those below it, links to folders included, relative to it.

    A folder that links lead to twice, or back to, is passed through once.
    """
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inner = Path(where).relative_to(folder)
        for file in files:
            yield inner / file


def check_all_there(files: Iterable[Path], *, source: str) -> None:
    """Every file exists.

    Raises:
        ValueError: some do not; the message counts them and names the first.
    """
    missing = [file for file in dict.fromkeys(files) if not os.path.isfile(file)]
    if missing:
        raise ValueError(
            f"{source}: {len(missing)} of its files are missing, the first {missing[0]}"
        )
