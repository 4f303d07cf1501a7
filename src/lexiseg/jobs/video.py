"""Video: frames in, frames tinted by their labels out, by PyAV (extra ``video``).

The text is encoded once. Scores may be smoothed over time; nothing is tracked.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lexiseg import plot
from lexiseg.jobs.contest import AnySegmenter, Contest
from lexiseg.jobs.frames import VideoFacts as VideoFacts
from lexiseg.jobs.frames import VideoReader as VideoReader
from lexiseg.jobs.frames import VideoWriter as VideoWriter
from lexiseg.palette import as_colour, colours
from lexiseg.pictures.reading import ImageError
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.result import Segmentation


def segment_frames(
    segmenter: AnySegmenter,
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
    segmenter: AnySegmenter,
    source: "str | os.PathLike[str] | VideoReader",
    labels: LabelsLike | LabelSet,
    out: str | os.PathLike[str],
    *,
    background: BackgroundLike | Background = None,
    smooth: float = 0.0,
    frames: int | None = None,
    on_frame: Callable[[Segmentation], None] = lambda result: None,
) -> int:
    """A video with each frame tinted by its labels, above a legend; without sound.

    From a camera or a pipe, a KeyboardInterrupt (Ctrl+C) ends the video where it is.

    Args:
        segmenter: the model.
        source: as for :class:`VideoReader`, or one that is open.
        labels: as for a segmenter.
        out: the file to write, .mp4, .mkv or .mov.
        background: as for a segmenter.
        smooth: as for :func:`segment_frames`.
        frames: at most so many; None: all.
        on_frame: told of each frame.

    Returns:
        How many frames there were.

    Raises:
        ImageError: the video cannot be read.
        ValueError: an argument is not as it must be.
    """
    label_set = LabelSet.of(labels)
    palette = colours(len(label_set))
    opened = nullcontext(source) if isinstance(source, VideoReader) else VideoReader(source)
    times, count = deque[float | None](), 0
    with opened as reader:
        asked = _frames(reader, frames, times)
        results = segment_frames(segmenter, asked, label_set, background=background, smooth=smooth)
        height, width = reader.facts.size
        strip = _legend(label_set.labels, width)
        with VideoWriter(out, (height + len(strip), width), reader.facts.rate) as writer:
            try:
                for result in results:
                    assert result.image is not None  # the frame
                    tinted = plot.overlay(result.image, result.label_map, palette)
                    writer.write(np.concatenate([tinted, strip]), times.popleft())
                    count += 1
                    on_frame(result)
            except KeyboardInterrupt:
                if not reader.facts.live:
                    raise
            if not count:
                raise ImageError(f"{reader.source}: has no frames")
    return count


def _frames(
    reader: VideoReader, most: int | None, times: deque[float | None]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames as they are asked for, their times put aside meanwhile."""
    for time, frame in islice(reader.timed(), most):
        times.append(time)
        yield frame


def _legend(labels: tuple[str, ...], width: int) -> UInt8[np.ndarray, "h W 3"]:
    """The same below every frame."""
    palette = colours(len(labels))
    entries = [(label, as_colour(palette[index])) for index, label in enumerate(labels)]
    return np.asarray(plot.legend(entries, width=width, size=max(12, min(width // 45, 40))))
