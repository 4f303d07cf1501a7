"""The formats by name, the files that they make, and which suffix means which."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lexiseg.outputs.arrays import npz
from lexiseg.outputs.base import Segmented, Transform, json_bytes, summary
from lexiseg.outputs.coco import coco_polygons, coco_regions
from lexiseg.outputs.geojson import geojson
from lexiseg.outputs.pictures import confidence_png, label_png, overlay, score_png
from lexiseg.outputs.yolo import yolo

# Of each format the end of its file's name in a folder.
FORMATS = {
    "labels": "_labels.png",
    "overlay": "_overlay.jpg",
    "json": ".json",
    "coco": "_coco.json",
    "polygons": "_polygons.json",
    "geojson": ".geojson",
    "yolo": ".txt",
    "npz": ".npz",
    "confidence": "_confidence.png",
    "maps": "_map.png",
}
DEFAULT = ("labels", "overlay", "json")
ALIASES = {"png": "labels", "jpg": "overlay", "txt": "yolo"}
# Of each suffix what it can hold, the usual one first.
SUFFIXES = {
    ".png": ("labels", "overlay", "confidence"),
    ".jpg": ("overlay",),
    ".jpeg": ("overlay",),
    ".json": ("coco", "polygons", "json"),
    ".geojson": ("geojson",),
    ".txt": ("yolo",),
    ".npz": ("npz",),
}
# Pictures that are results are not photographs to segment.
PICTURE_ENDINGS = re.compile(
    r"_(labels|confidence|mask|map_\d+(_[^/\\]*)?)\.png$|_(overlay|compared)\.jpg$"
)
_MAP = "map "


def parse_formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Formats in a fixed order, each once, the table last as it names the other files.

    Args:
        formats: names, or a text of names between commas; "png", "jpg" and "txt" are the label
            map, the overlay and YOLO's polygons.

    Raises:
        ValueError: there is none, or an unknown one.
    """
    given = formats.split(",") if isinstance(formats, str) else list(formats)
    names = [ALIASES.get(name.strip().casefold(), name.strip().casefold()) for name in given]
    for name in names:
        if name not in FORMATS:
            allowed = ", ".join([*FORMATS, *ALIASES])
            raise ValueError(f"unknown format {name!r}; allowed are {allowed}")
    if not names:
        raise ValueError(f"no formats came; give some of {', '.join(FORMATS)}")
    return tuple(sorted(dict.fromkeys(names), key=lambda name: (name == "json", _order(name))))


def format_for(path: Path, formats: Sequence[str] | None) -> str:
    """The format of one file by its suffix, or the one that is asked for if it fits.

    Raises:
        ValueError: the suffix is unknown, or does not hold that format.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        allowed = ", ".join(SUFFIXES)
        raise ValueError(f"cannot save as {path.name!r}; allowed are {allowed} and a folder")
    if formats is None:
        return SUFFIXES[suffix][0]
    if len(formats) != 1 or formats[0] not in SUFFIXES[suffix]:
        raise ValueError(
            f"{path.name!r} cannot hold {', '.join(formats)}; {suffix} is for one of "
            f"{', '.join(SUFFIXES[suffix])}"
        )
    return formats[0]


def output_files(
    folder: Path, name: str, formats: Sequence[str] = DEFAULT, labels: Sequence[str] = ()
) -> dict[str, Path]:
    """Where each format goes in a folder; "maps" are a file for each label, "map 1" and so on.

    A label is only seen in a file's name by its letters and digits, behind its number.
    """
    files = {kind: folder / f"{name}{FORMATS[kind]}" for kind in formats if kind != "maps"}
    if "maps" in formats:
        digits = len(str(len(labels)))
        for number, label in enumerate(labels, start=1):
            parts = name, f"map_{number:0{digits}d}", letters(label)
            files[f"{_MAP}{number}"] = folder / f"{'_'.join(part for part in parts if part)}.png"
    return {kind: files[kind] for kind in sorted(files, key=lambda kind: kind == "json")}


def result_name(name: str | None, source: str | None, *, otherwise: str) -> str:
    """What the files of a result are called in a folder.

    Args:
        name: as the user has it; None: like the picture.
        source: path of the picture, where it has one.
        otherwise: the name where neither is there.

    Raises:
        ValueError: it is empty, or a path.
    """
    if name is None:
        name = Path(source).stem if source else otherwise
    if not name or name != Path(name).name or "\0" in name:
        raise ValueError(f"name {name!r} came; give a file name without folders")
    return name


def encode(
    result: Segmented, kind: str, files: Mapping[str, Path], transform: Transform | None = None
) -> bytes:
    """The bytes of one of the files.

    Args:
        result: what is written.
        kind: the format, or "map 1" and so on.
        files: all files that are written together; the table names them.
        transform: of GeoJSON.
    """
    if kind.startswith(_MAP):
        return score_png(result, int(kind.removeprefix(_MAP)) - 1)
    if kind == "overlay":
        return overlay(result, as_jpeg=files[kind].suffix.lower() != ".png")
    if kind == "geojson":
        return geojson(result, transform)
    if kind == "json":
        names = {each: file.name for each, file in files.items()}
        return json_bytes({**summary(result), "files": names}, indent=1)
    writers = {
        "labels": label_png,
        "confidence": confidence_png,
        "coco": coco_regions,
        "polygons": coco_polygons,
        "yolo": yolo,
        "npz": npz,
    }
    return writers[kind](result)


def _order(name: str) -> int:
    return list(FORMATS).index(name)


def letters(label: str) -> str:
    """Letters and digits of any script, at most 60 bytes of them, so that a label is no path."""
    text = re.sub(r"[\W_]+", "-", label.casefold())
    while len(os.fsencode(text)) > 60:
        text = text[:-1]
    return text.strip("-")
