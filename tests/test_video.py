import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from lexiseg.apps.cli import app
from lexiseg.images import ImageError
from lexiseg.segmenter import Segmenter
from lexiseg.video import VideoReader, VideoWriter, segment_frames, segment_video
from tests.conftest import Painter


def frame(colour: tuple[int, int, int], size: tuple[int, int] = (36, 50)) -> np.ndarray:
    return np.full((*size, 3), colour, dtype=np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six red frames, six blue ones."""
    path = tmp_path / "in.mp4"
    with VideoWriter(path, (36, 50), Fraction(12)) as writer:
        for number in range(12):
            writer.write(frame((255, 0, 0) if number < 6 else (0, 0, 255)))
    return path


def test_what_is_written_is_read(video: Path) -> None:
    with VideoReader(video) as reader:
        assert (reader.facts.size, reader.facts.rate) == ((36, 50), 12)
        frames = list(reader)
    assert len(frames) == reader.facts.frames == 12
    for number, each in enumerate(frames):
        expected = frame((255, 0, 0) if number < 6 else (0, 0, 255)).astype(int)
        assert np.abs(each.astype(int) - expected).mean() < 8


def test_sides_are_made_even(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", (37, 51), Fraction(25)) as writer:
        writer.write(frame((0, 255, 0), (37, 51)))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (36, 50)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_text_is_encoded_once_and_frames_are_by_themselves(video: Path) -> None:
    model = Painter()
    with VideoReader(video) as reader:
        results = list(segment_frames(Segmenter(model), reader, "red, blue"))
    assert [round(result.shares()["red"]) for result in results] == [1] * 6 + [0] * 6
    assert len(model.encoded) == 1


def test_smoothing_is_a_running_mean_of_the_scores() -> None:
    segmenter = Segmenter(Painter())
    frames = [frame((255, 0, 0))] * 4 + [frame((0, 0, 255))] * 4
    quick = [r.shares()["red"] for r in segment_frames(segmenter, frames, "red, blue", smooth=0.2)]
    slow = [r.shares()["red"] for r in segment_frames(segmenter, frames, "red, blue", smooth=0.8)]
    assert quick == [1] * 4 + [0] * 4  # the new has most of the weight at once
    assert slow == [1] * 7 + [0]  # 0.8 cubed is above a half, its fourth power below
    single = segmenter(frames[0], "red, blue").confidence.max()
    last = list(segment_frames(segmenter, frames, "red, blue", smooth=0.8))[-1]
    assert last.confidence.max() == pytest.approx((1 - 0.8**4) * single, abs=1e-3)
    sizes = [frame((255, 0, 0)), frame((0, 0, 255), (20, 20))]
    other = list(segment_frames(segmenter, sizes, "red, blue", smooth=0.9))
    assert other[1].shares()["blue"] == 1
    with pytest.raises(ValueError, match="from 0 to below 1"):
        segment_frames(segmenter, frames, "red", smooth=1.0)


def test_a_background_name_takes_frames() -> None:
    results = segment_frames(
        Segmenter(Painter()), [frame((0, 0, 255))], "red", background="blue", smooth=0.5
    )
    assert next(results).shares() == {"red": 0}


def test_the_command(
    video: Path, registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["video", str(video), "--labels", "red, blue", "--model", registered_painter]
    done = CliRunner().invoke(app, [*words, "--out", "new/out.mp4", "--smooth", "0.5"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["frames"] == 12
    with VideoReader(record["out"]) as reader:
        frames = list(reader)
    assert len(frames) == 12
    assert frames[0].shape[0] > 36  # the legend
    assert np.abs(frames[0][:36].astype(int) - frames[-1][:36]).mean() > 40
    for options, message in (
        (["--out", "a.gif"], "must end in .mp4"),
        (["--out", "a.mp4", "--smooth", "1"], "from 0 to below 1"),
    ):
        wrong = CliRunner().invoke(app, [*words, *options])
        assert wrong.exit_code == 2
        assert message in wrong.stderr


def test_files_that_are_no_videos(tmp_path: Path, flag_file: Path, video: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    segmenter = Segmenter(Painter())
    for name, message in (("none.mp4", "no such file"), ("text.mp4", "is no video")):
        with pytest.raises(ImageError, match=message):
            segment_video(segmenter, tmp_path / name, "red", tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="cannot write 'out.gif'"):
        segment_video(segmenter, video, "red", tmp_path / "out.gif")
    assert not (tmp_path / "out.mp4").exists()


def test_a_failure_leaves_no_file(video: Path, tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        segment_video(Segmenter(Painter()), video, "red", tmp_path / "out.mp4", on_frame=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
