"""Which photographs a job has, and what the results of each are called."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.data.paths import walk
from lexiseg.jobs.manifest import Entry
from lexiseg.outputs import FORMATS, PICTURE_ENDINGS, output_files

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_LONGEST_NAME = 180  # bytes, so that an ending of a format still fits into 255


@dataclass(frozen=True)
class Photo:
    """A photograph of a job.

    Attributes:
        path: where it is.
        key: its path relative to the job's root, with "/", by which the manifest knows it.
        place: the folder of its results, relative to the output folder.
    """

    path: Path
    key: str
    place: Path


@dataclass(frozen=True)
class Task:
    """A photo, its file's size and date, and the files of its results by format."""

    photo: Photo
    size: int
    mtime_ns: int
    files: Mapping[str, Path]

    def entry(self, state: str, folder: Path, reason: str | None = None) -> Entry:
        """A line of the manifest."""
        outputs = {kind: path.relative_to(folder).as_posix() for kind, path in self.files.items()}
        if state == "failed":
            outputs = {}
        return Entry(self.photo.key, self.size, self.mtime_ns, state, outputs, reason)


def root_of(given: Sequence[Path]) -> Path:
    """The folder that all arguments share: the one folder, or what is around all."""
    absolute = [Path(os.path.abspath(path)) for path in given]
    folders = [path if path.is_dir() else path.parent for path in absolute]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:  # two drives of Windows
        raise ValueError("the photos are on several drives; make a job of each") from error


def list_photos(
    given: Sequence[Path], *, recursive: bool, out: Path
) -> tuple[list[Photo], list[str]]:
    """Each picture once, folders replaced by what is in them, in the order of their names.

    Hidden files, pictures that are results, and what lies in the output folder (where that is not
    the folder of the photos itself) are left out.

    Args:
        given: pictures and folders.
        recursive: folders below those too; their results go into folders of the same names.
        out: the output folder.

    Returns:
        The pictures, and what is wrong with folders that gave none.
    """
    root, results = root_of(given), os.path.realpath(out)
    once: dict[str, Photo] = {}
    problems = []
    inner: list[Path | None]
    for argument in given:
        try:
            inner = [*_pictures(argument, recursive)] if argument.is_dir() else [None]
        except OSError as error:
            problems.append(f"{argument}: {error.strerror or error}")
            continue
        if not inner:
            more = "" if recursive else "; --recursive looks into the folders below"
            problems.append(f"{argument}: has no pictures ({', '.join(sorted(SUFFIXES))}){more}")
        for name in inner:
            path = argument if name is None else argument / name
            real = os.path.realpath(path)
            in_results = real.startswith(results + os.sep)
            if name is not None and in_results and results != os.path.realpath(argument):
                continue
            key = Path(os.path.relpath(os.path.abspath(path), root)).as_posix()
            once.setdefault(real, Photo(path, key, Path() if name is None else name.parent))
    return list(once.values()), problems


def _pictures(folder: Path, recursive: bool) -> list[Path]:
    names = walk(folder) if recursive else (path.relative_to(folder) for path in folder.iterdir())
    return sorted(
        name
        for name in names
        if name.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
        and not PICTURE_ENDINGS.search(name.name)
        and (folder / name).is_file()
    )


def assign(
    photos: Sequence[Photo],
    out: Path,
    formats: Sequence[str],
    labels: Sequence[str],
    entries: Mapping[str, Entry],
) -> list[Task]:
    """Files for the results of each photo, no two alike, that fall on nothing else.

    A photo that the manifest knows keeps its files. Others get the photo's own name without its
    ending, and a number where that is taken.
    """
    held = {key: entry for key, entry in entries.items() if entry.outputs}
    taken = {_place(out / file) for entry in held.values() for file in entry.outputs.values()}
    taken |= {_place(photo.path) for photo in photos}
    taken |= {_place(path) for path in merged_files(out).values()}
    tasks = []
    for photo in photos:
        size, mtime_ns = _stamp(photo.path)
        if photo.key in held:
            files = {kind: out / file for kind, file in held[photo.key].outputs.items()}
        else:
            number, name = 1, fitting(photo.path.stem)
            files = output_files(out / photo.place, name, formats, labels)
            while any(_place(path) in taken or path.exists() for path in files.values()):
                number += 1
                files = output_files(out / photo.place, f"{name}-{number}", formats, labels)
            taken |= {_place(path) for path in files.values()}
        tasks.append(Task(photo, size, mtime_ns, files))
    return tasks


def merged_files(out: Path) -> dict[str, Path]:
    """Where the annotations of all photos together go, by format."""
    return {kind: out / f"lexiseg{FORMATS[kind]}" for kind in ("coco", "polygons")}


def is_settled(task: Task, entry: Entry | None) -> bool:
    """Whether nothing is left to do: this very file is done and its results are there, or failed.

    A file that was changed since is done again.
    """
    if entry is None or (entry.size, entry.mtime_ns) != (task.size, task.mtime_ns):
        return False
    if entry.state == "done":
        return all(path.is_file() for path in task.files.values())
    return entry.state == "failed"


def _stamp(path: Path) -> tuple[int, int]:
    """Size and date; zeros for a file that is not there, which reading it will tell."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def fitting(stem: str) -> str:
    """The name, or its beginning and a digest where results could not be called so."""
    if len(os.fsencode(stem)) <= _LONGEST_NAME:
        return stem
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:12]
    while len(os.fsencode(stem)) > _LONGEST_NAME - 13:
        stem = stem[:-1]
    return f"{stem}-{digest}"


def _place(path: Path) -> str:
    """What two paths share if they are one file, on a disk that ignores case too."""
    return os.path.realpath(path).casefold()
