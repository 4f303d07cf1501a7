"""``lexiseg video``: a video with its labels drawn over it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.segment import DEFAULT_MODEL, BackgroundRule, Labels, read_labels
from lexiseg.apps.terminal import (
    RUN_ERRORS,
    echo_json,
    fail,
    make_folder,
    misuse,
    package,
    progress,
    reason,
)


def video(
    source: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO",
            help="A video's file; - for one that comes through a pipe; or a camera of Linux, such "
            "as 0 or /dev/video0.",
        ),
    ],
    labels: Labels,
    out: Annotated[Path, typer.Option(help="The file to write: .mp4, .mkv or .mov.")],
    model: Annotated[str, typer.Option(help="Name of a model, as for segment.")] = DEFAULT_MODEL,
    background: BackgroundRule = "off",
    smooth: Annotated[
        float,
        typer.Option(
            help="Weight of the frames before, from 0 (each by itself) to below 1 (slow change)."
        ),
    ] = 0.0,
    frames: Annotated[
        int | None, typer.Option(min=1, help="End after so many frames.  [default: all]")
    ] = None,
) -> None:
    """Write the video with each frame tinted by its labels, above a legend; sound is left out.

    Ctrl+C ends a camera's video, which is kept. Prints one JSON object.
    Exit codes: 0 done, 1 the video failed, 2 wrong use.
    """
    label_set, mode = read_labels(labels, background)
    if not 0 <= smooth < 1:
        misuse(f"--smooth {smooth} came; it must be from 0 to below 1")
    if out.suffix.lower() not in {".mp4", ".mkv", ".mov"}:
        misuse(f"--out {out} came; it must end in .mp4, .mkv or .mov")
    package("av", extra="video", purpose="video")
    segmenter = load_segmenter(model)
    make_folder(out.parent)
    from lexiseg.jobs.video import VideoReader, segment_video

    try:
        with VideoReader(source) as reader:
            expected = min(reader.facts.frames or sys.maxsize, frames or sys.maxsize)
            with progress(2 if expected == sys.maxsize else max(expected, 2), "frames") as advance:
                count = segment_video(
                    segmenter,
                    reader,
                    label_set,
                    out,
                    background=mode,
                    smooth=smooth,
                    frames=frames,
                    on_frame=lambda _: advance(),
                )
    except RUN_ERRORS as error:
        fail(reason(Path(source), error))
    echo_json({"video": source, "frames": count, "out": str(out)})
