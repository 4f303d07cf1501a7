"""Photos on the command line, and where their results go."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

DEFAULT_FOLDER = Path("lexiseg_out")
DEFAULT_FORMATS = ("labels", "overlay", "json")


def once(photos: Sequence[Path]) -> list[Path]:
    """Each file once, by whatever links it is named."""
    found: dict[str, Path] = {}
    for photo in photos:
        found.setdefault(os.path.realpath(photo), photo)
    return list(found.values())


def output_names(
    files: list[Path],
    folder: Path,
    *,
    masks: int = 0,
    formats: Sequence[str] = DEFAULT_FORMATS,
    labels: Sequence[str] = (),
) -> dict[Path, str]:
    """A name for the results of each photo, no two alike, that never falls on a photo.

    The name is the photo's own without its ending; where photos share it, or where files lie that
    are no earlier results of this photo, a number follows.

    Args:
        files: the photos.
        folder: where the results go.
        masks: of how many expressions they are; 0 for those of labels.
        formats: of the results of labels, the table among them.
        labels: of which "maps" are files.
    """
    from lexiseg.jobs.photos import fitting
    from lexiseg.outputs import output_files
    from lexiseg.referral import referral_files

    def results(name: str) -> dict[str, Path]:
        if masks:
            return referral_files(folder, name, masks)
        return output_files(folder, name, formats, labels)

    photos = {_place(file) for file in files}
    taken: set[str] = set()
    names = {}
    for file in files:
        stem = fitting(file.stem)
        number, name = 1, stem
        while (
            taken & (places := {_place(path) for path in results(name).values()})
            or photos & places
            or not _is_free(file, results(name))
        ):
            number += 1
            name = f"{stem}-{number}"
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
