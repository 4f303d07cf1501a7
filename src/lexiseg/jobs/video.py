"""Video: frames in, frames tinted by their labels out, by PyAV (extra ``video``).

The text is encoded once. Scores may be smoothed over time; nothing is tracked.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lexiseg import plot
from lexiseg.images import ImageError
from lexiseg.jobs.contest import AnySegmenter, Contest
from lexiseg.jobs.frames import VideoFacts as VideoFacts
from lexiseg.jobs.frames import VideoReader as VideoReader
from lexiseg.jobs.frames import VideoWriter as VideoWriter
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
    if not isinstance(source, VideoReader):
        with VideoReader(source) as reader:
            return segment_video(
                segmenter,
                reader,
                labels,
                out,
                background=background,
                smooth=smooth,
                frames=frames,
                on_frame=on_frame,
            )
    label_set, facts, times = LabelSet.of(labels), source.facts, deque[float | None]()

    def pictures() -> Iterator[np.ndarray]:
        for time, frame in islice(source.timed(), frames):
            times.append(time)
            yield frame

    results = segment_frames(segmenter, pictures(), label_set, background=background, smooth=smooth)
    strip = _legend(label_set.labels, facts.size[1])
    palette, count = plot.colours(len(label_set)), 0
    with VideoWriter(out, (facts.size[0] + len(strip), facts.size[1]), facts.rate) as writer:
        try:
            for result in results:
                assert result.image is not None  # the frame
                tinted = plot.overlay(result.image, result.label_map, palette)
                writer.write(np.concatenate([tinted, strip]), times.popleft())
                count += 1
                on_frame(result)
        except KeyboardInterrupt:
            if not facts.live:
                raise
        if not count:
            raise ImageError(f"{source.source}: has no frames")
    return count


def _legend(labels: tuple[str, ...], width: int) -> UInt8[np.ndarray, "h W 3"]:
    """The same below every frame."""
    colours = plot.colours(len(labels))
    entries = [(label, plot.as_colour(colours[index])) for index, label in enumerate(labels)]
    return np.asarray(plot.legend(entries, width=width, size=max(12, min(width // 45, 40))))
