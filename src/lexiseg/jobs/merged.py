"""COCO's annotations of a whole folder in one file, as tools for labelling take them.

It is put together of the photos' own files when all of them are settled, whichever part of the job
came last, and is always the same bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from lexiseg.atomic import written_whole
from lexiseg.jobs.manifest import Entry, Manifest
from lexiseg.jobs.photos import Task, merged_files
from lexiseg.outputs.base import json_bytes

_HEAD = b'{"info": {"description": "all photos of a lexiseg job"},\n"annotations": ['


def remove_merged(folder: Path) -> None:
    """They are no longer those of all photos.

    Raises:
        ValueError: such a file lies there that no job wrote.
    """
    for path in merged_files(folder).values():
        if not path.exists():
            continue
        with path.open("rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                raise ValueError(f"{path}: no job wrote it; move it, or choose another --out")
        path.unlink()


def merge(manifest: Manifest, tasks: Sequence[Task]) -> dict[str, Path]:
    """Write the annotations of all photos, unless one of them is still to be done.

    Ids count from 1 in the order of the photos' paths, which are relative to the job's root and use
    "/". Photos that cannot be read are left out.

    Args:
        manifest: open; what other parts did is read again.
        tasks: of all parts.

    Returns:
        The files by format; none where a photo is to be done, or the job has no such format.

    Raises:
        ValueError: a photo's file is not what the job wrote.
    """
    manifest.refresh()
    done = []
    for task in sorted(tasks, key=lambda task: task.photo.key):
        entry = manifest.entries.get(task.photo.key)
        if entry is None or (entry.size, entry.mtime_ns) != (task.size, task.mtime_ns):
            return {}
        if entry.state == "done":
            done.append(entry)
        elif entry.state != "failed":
            return {}
    written = {}
    for kind, path in merged_files(manifest.folder).items():
        if kind not in manifest.settings["format"]:
            continue
        part = f"{manifest.file.stem}.{kind}"  # two parts of a job may end at once
        with written_whole(path, part=part) as temporary, temporary.open("xb") as file:
            _write(file, manifest, kind, done)
        written[kind] = path
    return written


def _write(file: IO[bytes], manifest: Manifest, kind: str, done: Sequence[Entry]) -> None:
    """One photo after the other, so that none but the shown sizes stays in memory."""
    labels = manifest.settings["labels"]
    categories = [
        {"id": number, "name": label, "supercategory": ""}
        for number, label in enumerate(labels, start=1)
    ]
    images: list[dict[str, Any]] = []
    count = 0
    file.write(_HEAD)
    for entry in done:
        path = manifest.folder / entry.outputs[kind]
        image, annotations = _read(path)
        images.append({**image, "id": len(images) + 1, "file_name": entry.photo})
        for annotation in annotations:
            count += 1
            row = {**annotation, "id": count, "image_id": len(images)}
            file.write((b",\n" if count > 1 else b"\n") + json_bytes(row).rstrip(b"\n"))
    rest = json_bytes({"images": images, "categories": categories})
    file.write(b"],\n" + rest[1:])


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A photo's entry under ``images``, and its annotations."""
    try:
        record = json.loads(path.read_bytes())
        (image,) = record["images"]
        return dict(image), [dict(each) for each in record["annotations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: is not what this job wrote ({error}); delete it and give the command again"
        ) from error
