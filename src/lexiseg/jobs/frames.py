"""Frames in video files, pipes and cameras, by PyAV (extra ``video``)."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lexiseg._extras import need
from lexiseg.atomic import written_whole
from lexiseg.pictures.reading import ImageError

_PURPOSE = "video"
_CODECS = ("libx264", "h264", "mpeg4")  # the first that is there
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}  # FFmpeg's names
_TICKS = 1000  # a second, of the times of a camera's frames
_PIPE = "ffmpeg ... -f yuv4mpegpipe - | lexiseg video - ..."


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before its frames.

    Attributes:
        size: (height, width) of its frames.
        rate: frames a second.
        frames: how many it says it has; 0 where it does not say.
        live: it ends when one ends it: a camera, or what comes from a pipe.
    """

    size: tuple[int, int]
    rate: Fraction
    frames: int
    live: bool = False


class VideoReader:
    """The frames of a video file, a pipe or a camera, one after the other; entered by ``with``.

    Attributes:
        facts: what is known before them.
        source: where they come from, for messages.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Opens it.

        Args:
            source: a file; "-" for what comes on standard input, in any form that FFmpeg knows
                from its beginning, such as Y4M, Matroska or MPEG-TS; or a camera of Linux, by its
                device, such as /dev/video0, or its number.

        Raises:
            ImageError: it is missing, damaged, or has no picture.
            ImportError: PyAV is not installed.
        """
        av = need("av", extra="video", purpose=_PURPOSE)
        self.source, self._error = os.fspath(source), av.FFmpegError
        camera = _camera(self.source)
        try:
            self._container: Any = _opened(av, self.source, camera)
        except self._error as error:
            raise ImageError(f"{self.source}: is no video that can be read ({error})") from error
        if not self._container.streams.video:
            self._container.close()
            raise ImageError(f"{self.source}: has no picture")
        stream = self._container.streams.video[0]
        stream.thread_type = "SLICE" if camera else "AUTO"  # threads of frames would hold some back
        rate, size = Fraction(stream.average_rate or 25), (stream.height, stream.width)
        live = camera is not None or self.source == "-"
        self.facts = VideoFacts(size, rate, stream.frames, live)
        self._is_camera = camera is not None

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """RGB frames.

        Raises:
            ImageError: the file is damaged.
        """
        return (frame for _, frame in self.timed())

    def timed(self) -> Iterator[tuple[float | None, UInt8[np.ndarray, "H W 3"]]]:
        """RGB frames of a camera with the seconds since the first; of others, None: they are even.

        Raises:
            ImageError: the file is damaged, or the camera is gone.
        """
        first: float | None = None
        try:
            for frame in self._container.decode(video=0):
                time = frame.time if self._is_camera else None
                first = time if first is None else first
                since = None if time is None or first is None else max(0.0, time - first)
                yield since, frame.to_ndarray(format="rgb24")
        except self._error as error:
            raise ImageError(f"{self.source}: is truncated or damaged ({error})") from error


class VideoWriter:
    """An MP4 of H.264, or of MPEG-4 where that is missing; entered by ``with``.

    The file is there when all of it is. Sides are made even, by a row or column less.
    """

    def __init__(self, path: str | os.PathLike[str], size: tuple[int, int], rate: Fraction) -> None:
        """Checks what is to be written; the file is begun on entering.

        Args:
            path: ends in .mp4, .mkv or .mov.
            size: (height, width) of the frames, at least 2 x 2.
            rate: frames a second.

        Raises:
            ValueError: the suffix or the size is another.
        """
        self._path = Path(path)
        if self._path.suffix.lower() not in _FORMATS:
            raise ValueError(f"cannot write {self._path.name!r}; allowed are .mp4, .mkv and .mov")
        if min(size) < 2:
            raise ValueError(f"frames of {size[0]} x {size[1]} came; at least 2 x 2 are needed")
        self._av = need("av", extra="video", purpose=_PURPOSE)
        self._size, self._rate = (size[0] // 2 * 2, size[1] // 2 * 2), rate
        self._ticks = -1  # of the last frame that had a time

    def __enter__(self) -> "VideoWriter":
        path, form = self._path, _FORMATS[self._path.suffix.lower()]
        with ExitStack() as stack:
            temporary = stack.enter_context(written_whole(path, part=path.name))
            container = self._av.open(str(temporary), "w", format=form)
            self._container: Any = stack.enter_context(container)
            codec = next(name for name in _CODECS if name in self._av.codecs_available)
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = self._size
            self._stream.pix_fmt = "yuv420p"
            stack.push(self._finish)
            self._begun = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._begun.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the frames that the encoder still holds, unless something went wrong."""
        if kind is None:
            self._container.mux(self._stream.encode())

    def write(self, frame: UInt8[np.ndarray, "H W 3"], time: float | None = None) -> None:
        """One more frame, of the size that was given.

        Args:
            frame: its pixels.
            time: seconds since the beginning; of all frames or of none, which then are even.
        """
        height, width = self._size
        pixels = np.ascontiguousarray(frame[:height, :width])
        picture = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if time is not None:
            if self._ticks < 0:
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
            self._ticks = max(self._ticks + 1, round(time * _TICKS))
            picture.pts, picture.time_base = self._ticks, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(picture))


def _camera(source: str) -> str | None:
    """The device of a camera, where the source is one."""
    if re.fullmatch(r"[0-9]{1,3}", source) and not Path(source).exists():
        return f"/dev/video{source}"
    return source if re.fullmatch(r"/dev/video[0-9]+", source) else None


def _opened(av: Any, source: str, camera: str | None) -> Any:
    """PyAV's container of a source."""
    if source == "-":
        # A list of addresses that comes so must lead nowhere, neither to files nor to a network.
        return av.open(sys.stdin.buffer, options={"protocol_whitelist": "pipe"})
    if camera is not None:
        if not any("v4l2" in name for name in av.formats_available):
            raise ImageError(f"{source}: PyAV reads no camera on this system; use {_PIPE}")
        try:
            return av.open(camera, format="v4l2")
        except (FileNotFoundError, PermissionError) as error:
            raise ImageError(f"{camera}: {error.strerror}; is a camera there?") from error
    if not Path(source).is_file():
        raise ImageError(f"{source}: no such file; give a video's file, a camera or -")
    return av.open(source)
