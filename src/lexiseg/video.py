"""Video: frames in, frames tinted by their labels out, by PyAV (extra ``video``).

The text is encoded once. Scores may be smoothed over time; nothing is tracked.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lexiseg import plot
from lexiseg._extras import need
from lexiseg.contest import Contest
from lexiseg.images import ImageError
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.result import Segmentation
from lexiseg.segmenter import Segmenter

_PURPOSE = "video"
_CODECS = ("libx264", "h264", "mpeg4")  # the first that is there


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before its frames.

    Attributes:
        size: (height, width) of its frames.
        rate: frames a second.
        frames: how many it says it has; 0 where it does not say.
    """

    size: tuple[int, int]
    rate: Fraction
    frames: int


class VideoReader:
    """The frames of a video file, one after the other; entered by ``with``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens the file.

        Raises:
            ImageError: it is missing, damaged, or has no picture.
            ImportError: PyAV is not installed.
        """
        av = need("av", extra="video", purpose=_PURPOSE)
        self._path, self._error = Path(path), av.FFmpegError
        if not self._path.is_file():
            raise ImageError(f"{self._path}: no such file; give a video's file")
        try:
            self._container: Any = av.open(str(self._path))
        except self._error as error:
            raise ImageError(f"{self._path}: is no video that can be read ({error})") from error
        if not self._container.streams.video:
            self._container.close()
            raise ImageError(f"{self._path}: has no picture")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or Fraction(25)
        self.facts = VideoFacts((stream.height, stream.width), Fraction(rate), stream.frames)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """RGB frames.

        Raises:
            ImageError: the file is damaged.
        """
        try:
            for frame in self._container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
        except self._error as error:
            raise ImageError(f"{self._path}: is truncated or damaged ({error})") from error


class VideoWriter:
    """An MP4 of H.264, or of MPEG-4 where that is missing; entered by ``with``.

    The file is there when all of it is. Sides are made even, by a row or column less.
    """

    def __init__(self, path: str | os.PathLike[str], size: tuple[int, int], rate: Fraction) -> None:
        """Begins the file beside its place.

        Args:
            path: ends in .mp4, .mkv or .mov.
            size: (height, width) of the frames, at least 2 x 2.
            rate: frames a second.

        Raises:
            ValueError: the suffix or the size is another.
        """
        self._path = Path(path)
        if self._path.suffix.lower() not in {".mp4", ".mkv", ".mov"}:
            raise ValueError(f"cannot write {self._path.name!r}; allowed are .mp4, .mkv and .mov")
        if min(size) < 2:
            raise ValueError(f"frames of {size[0]} x {size[1]} came; at least 2 x 2 are needed")
        self._av = need("av", extra="video", purpose=_PURPOSE)
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._temporary = self._path.with_name(f".{self._path.stem}.part{self._path.suffix}")
        codec = next(name for name in _CODECS if name in self._av.codecs_available)
        self._container: Any = self._av.open(str(self._temporary), "w")
        self._stream = self._container.add_stream(codec, rate=rate)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """One more frame, of the size that was given."""
        height, width = self._size
        pixels = np.ascontiguousarray(frame[:height, :width])
        self._container.mux(
            self._stream.encode(self._av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        )


def segment_frames(
    segmenter: Segmenter,
    frames: Iterable[UInt8[np.ndarray, "_ _ 3"]],
    labels: LabelsLike | LabelSet,
    *,
    background: BackgroundLike | Background = None,
    smooth: float = 0.0,
) -> Iterator[Segmentation]:
    """Frames from anywhere, such as a camera, each segmented as it comes.

    Args:
        segmenter: the model.
        frames: RGB.
        labels: as for a segmenter.
        background: as for a segmenter.
        smooth: weight of what was before, from 0 (each frame by itself) to below 1: the scores of
            a frame are ``smooth`` times those of the last plus ``1 - smooth`` times its own. It
            begins anew where the size of frames changes.

    Raises:
        ValueError: ``smooth``, labels or background are not as they must be.
    """
    if not 0 <= smooth < 1:
        raise ValueError(f"smooth {smooth} came; it must be from 0 to below 1")
    return _segmented(Contest(segmenter, labels, background), frames, smooth)


def _segmented(contest: Contest, frames: Iterable[Any], smooth: float) -> Iterator[Segmentation]:
    held: np.ndarray | None = None
    for frame in frames:
        scores = contest.scores(frame)
        if smooth and held is not None and held.shape == scores.shape:
            scores = np.float32(smooth) * held + np.float32(1 - smooth) * scores
        held = scores
        label_map, confidence = contest.decide(scores)
        yield Segmentation(contest.labels.labels, label_map, confidence, image=frame)


def segment_video(
    segmenter: Segmenter,
    source: str | os.PathLike[str],
    labels: LabelsLike | LabelSet,
    out: str | os.PathLike[str],
    *,
    background: BackgroundLike | Background = None,
    smooth: float = 0.0,
    on_frame: Callable[[Segmentation], None] = lambda result: None,
) -> int:
    """A video with each frame tinted by its labels, above a legend; without sound.

    Args:
        segmenter: the model.
        source: a video's file.
        labels: as for a segmenter.
        out: the file to write, .mp4, .mkv or .mov.
        background: as for a segmenter.
        smooth: as for :func:`segment_frames`.
        on_frame: told of each frame.

    Returns:
        How many frames there were.

    Raises:
        ImageError: the video cannot be read.
        ValueError: an argument is not as it must be.
    """
    label_set = LabelSet.of(labels)
    with VideoReader(source) as reader:
        results = segment_frames(segmenter, reader, label_set, background=background, smooth=smooth)
        height, width = reader.facts.size
        strip = _legend(label_set.labels, width)
        size = (height + len(strip), width)
        palette, count = plot.colours(len(label_set)), 0
        with VideoWriter(out, size, reader.facts.rate) as writer:
            for result in results:
                assert result.image is not None  # the frame
                tinted = plot.overlay(result.image, result.label_map, palette)
                writer.write(np.concatenate([tinted, strip]))
                on_frame(result)
                count += 1
            if not count:
                raise ImageError(f"{Path(source)}: has no frames")
        return count


def _legend(labels: tuple[str, ...], width: int) -> UInt8[np.ndarray, "h W 3"]:
    """The same below every frame."""
    colours = plot.colours(len(labels))
    entries = [(label, plot.as_colour(colours[index])) for index, label in enumerate(labels)]
    return np.asarray(plot.legend(entries, width=width, size=max(12, min(width // 45, 40))))
