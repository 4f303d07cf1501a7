"""What a folder of results holds, one JSON line a photo, so that a killed job goes on.

The first line has the settings. Then, of each photo, a line "begun" with the files that will hold
its results, and "done", "failed" (the photo cannot be read, now or ever) or "stopped" (something
else was wrong, and it is tried again). Each part of a job writes a file of its own; all are read
together. A line that was being written when its process died is cut off.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lexiseg.atomic import write_atomically
from lexiseg.data.paths import inside
from lexiseg.outputs.base import json_bytes

NAME = "lexiseg_manifest"
FORMAT = "lexiseg job 1"
_RANK = {"begun": 0, "stopped": 1, "failed": 2, "done": 3}


class MixedJobs(ValueError):  # noqa: N818 (it is raised for a folder, not for a fault)
    """The folder holds results of other settings."""


@dataclass(frozen=True)
class Entry:
    """A photo in the manifest.

    Attributes:
        photo: its path, relative to the job's root.
        size: of its file in bytes.
        mtime_ns: when its file was changed last.
        state: "begun", "done", "failed" or "stopped".
        outputs: its files by format, relative to the output folder.
        reason: why it failed.
    """

    photo: str
    size: int
    mtime_ns: int
    state: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None

    def line(self) -> bytes:
        """One line of JSON."""
        return json_bytes({key: value for key, value in vars(self).items() if value is not None})


class Manifest:
    """The manifest of an output folder, entered by ``with`` to write this part's lines.

    Args:
        folder: the output folder.
        settings: all that decides what results are; a folder has only one of them.
        shard: (i, n): which part this is, from 0, and of how many.

    Attributes:
        entries: of all parts, by photo.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self.folder = folder
        self.settings = json.loads(json_bytes({"manifest": FORMAT, **settings}))
        part = "" if shard[1] == 1 else f".{shard[0] + 1}-of-{shard[1]}"
        self.file = folder / f"{NAME}{part}.jsonl"
        self.entries: dict[str, Entry] = {}
        self._own: dict[str, Entry] = {}
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> "Manifest":
        """Reads what is done.

        Raises:
            MixedJobs: other settings made what is there.
            BlockingIOError: another process works at this part.
        """
        self.refresh()
        self._stream = _locked(self.file)
        if self._stream.tell() == 0:
            with contextlib.ExitStack() as stack:
                stack.push(self.__exit__)  # lets go of the file where it cannot be written
                self._write(json_bytes(self.settings))
                stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def refresh(self) -> None:
        """Read what is done, by the other parts too.

        Raises:
            MixedJobs: other settings made what is there.
        """
        for path in manifests(self.folder):
            settings, entries = read_manifest(path)
            if settings is not None:
                self._check(settings)
            last = {entry.photo: entry for entry in entries}
            for photo, entry in last.items():
                held = self.entries.get(photo)
                is_better = held is None or _RANK[entry.state] > _RANK[held.state]
                if is_better or (path == self.file and held and entry.state == held.state):
                    self.entries[photo] = entry
            if path == self.file:
                self._own = last

    def write(self, entry: Entry) -> None:
        """Add a line; it is on the disk before this returns."""
        self._write(entry.line())
        self.entries[entry.photo] = self._own[entry.photo] = entry

    def finish(self) -> None:
        """Only the last word on each photo stays, in the order of their names."""
        lines = [entry.line() for _, entry in sorted(self._own.items()) if entry.state != "begun"]
        data = json_bytes(self.settings) + b"".join(lines)
        write_atomically(self.file, data, part=self.file.name)

    def _write(self, line: bytes) -> None:
        if self._stream is None:
            raise RuntimeError("the manifest is not open; use it in a with statement")
        self._stream.write(line)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _check(self, found: Mapping[str, Any]) -> None:
        for key in dict.fromkeys([*found, *self.settings]):
            before, now = found.get(key), self.settings.get(key)
            if before != now:
                raise MixedJobs(
                    f"{self.folder}: holds results of another job, whose {key} was "
                    f"{_short(before)} and is now {_short(now)}; choose another folder with --out, "
                    "or remove those results with --no-resume"
                )


def manifests(folder: Path) -> list[Path]:
    """The files of all parts."""
    return sorted(folder.glob(f"{NAME}*.jsonl"))


def read_manifest(path: Path) -> tuple[dict[str, Any] | None, list[Entry]]:
    """Settings, or None where they have not been written yet, and the whole lines.

    Raises:
        ValueError: the file is no manifest.
    """
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    if not lines:
        return None, []
    try:
        settings, *records = (json.loads(line) for line in lines)
        if settings["manifest"] != FORMAT:
            raise ValueError(f"it says {settings['manifest']!r}")
        return settings, [Entry(**record) for record in records]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no manifest of this version's jobs ({error})") from error


def remove_results(folder: Path) -> None:
    """Delete the results that manifests name, and then the manifests.

    Raises:
        ValueError: a manifest is none, or names a file outside.
        BlockingIOError: a process works at the job.
    """
    for path in manifests(folder):
        with _locked(path):
            for file in _files_of(folder, path):
                file.unlink(missing_ok=True)
            path.unlink()


def _files_of(folder: Path, path: Path) -> Iterator[Path]:
    for entry in read_manifest(path)[1]:
        for name in entry.outputs.values():
            yield inside(folder, name, source=str(path))


def _locked(path: Path) -> IO[bytes]:
    """The file at its end, cut to whole lines; no other process of this machine writes there."""
    stream = path.open("a+b")
    try:
        try:
            import fcntl
        except ImportError:  # Windows: one has to see to it oneself
            pass
        else:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        stream.seek(whole)
    except BlockingIOError as error:
        stream.close()
        raise BlockingIOError(
            error.errno, f"{path}: another process works at this job; wait for it, or give --shard"
        ) from error
    except BaseException:
        stream.close()
        raise
    return stream


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
