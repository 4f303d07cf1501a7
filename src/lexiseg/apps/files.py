"""Photos on the command line, and where their results go."""

import json
import os
from pathlib import Path

from lexiseg.apps.terminal import complain, reason

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
OUTPUT_ENDINGS = ("_labels.png", "_overlay.jpg", "_mask.png")


def expand(photos: list[Path]) -> tuple[list[Path], bool]:
    """Each picture once, folders replaced by what is in them; and whether anything failed."""
    files: list[Path] = []
    failed = False
    for photo in photos:
        try:
            found = _pictures(photo) if photo.is_dir() else [photo]
        except OSError as error:
            complain(reason(photo, error))
            failed = True
            continue
        if not found:
            complain(f"{photo}: has no pictures ({', '.join(sorted(SUFFIXES))})")
            failed = True
        files += found
    once: dict[str, Path] = {}
    for file in files:
        once.setdefault(os.path.realpath(file), file)
    return list(once.values()), failed


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, without its sub-folders and without earlier results."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not path.name.endswith(OUTPUT_ENDINGS)
        and path.is_file()
    )


def output_names(files: list[Path], folder: Path, *, masks: int = 0) -> dict[Path, str]:
    """A name for the results of each photo, no two alike, that never falls on a photo.

    The name is the photo's own without its ending; where photos share it, or where files lie that
    are no earlier results of this photo, a number follows.

    Args:
        files: the photos.
        folder: where the results go.
        masks: of how many expressions they are; 0 for those of labels.
    """
    from lexiseg.referral import referral_files
    from lexiseg.result import output_files

    def results(name: str) -> dict[str, Path]:
        return referral_files(folder, name, masks) if masks else output_files(folder, name)

    photos = {_place(file) for file in files}
    taken: set[str] = set()
    names = {}
    for file in files:
        number, name = 1, file.stem
        while (
            taken & (places := {_place(path) for path in results(name).values()})
            or photos & places
            or not _is_free(file, results(name))
        ):
            number += 1
            name = f"{file.stem}-{number}"
        taken |= places
        names[file] = name
    return names


def _is_free(photo: Path, files: dict[str, Path]) -> bool:
    """Whether nothing lies there but an earlier result of this photo."""
    if not any(path.exists() for path in files.values()):
        return True
    try:
        record = json.loads(files["json"].read_text(encoding="utf-8"))
        return os.path.realpath(record["image"]) == os.path.realpath(photo)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _place(path: Path) -> str:
    """What two paths share if they are one file, on a disk that ignores case too."""
    return os.path.realpath(path).casefold()
