import io
import json
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from lexiseg.apps.cli import app
from lexiseg.images import ImageError
from lexiseg.jobs.video import VideoReader, VideoWriter, segment_frames, segment_video
from lexiseg.segmenter import Segmenter
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


def y4m(colours: list[tuple[int, int, int]]) -> bytes:
    """Frames as ``ffmpeg -f yuv4mpegpipe -`` writes them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=10)
        stream.height, stream.width, stream.pix_fmt = 36, 50, "yuv420p"
        for colour in colours:
            picture = av.VideoFrame.from_ndarray(frame(colour), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_frames_through_a_pipe(
    registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that cannot be wound back, and of which one does not know the end."""
    reading, writing = os.pipe()
    data = y4m([(255, 0, 0)] * 3 + [(0, 0, 255)] * 4)

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reading, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with VideoReader("-") as reader:
            assert (reader.facts.size, reader.facts.rate) == ((36, 50), 10)
            assert (reader.facts.frames, reader.facts.live) == (0, True)
            frames = list(reader)
    thread.join()
    assert [round(float(each[..., 0].mean()) / 255) for each in frames] == [1] * 3 + [0] * 4
    monkeypatch.undo()


def test_the_command_reads_a_pipe(registered_painter: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    words = ["video", "-", "--labels", "red, blue", "--model", registered_painter]
    done = CliRunner().invoke(
        app, [*words, "--out", str(out), "--frames", "2"], input=y4m([(255, 0, 0)] * 5)
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"video": "-", "frames": 2, "out": str(out)}
    with VideoReader(out) as reader:
        assert len(list(reader)) == 2
    playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n"
    session = b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"  # would wait for packets
    for data in (b"no video", playlist, session):
        wrong = CliRunner().invoke(app, [*words, "--out", str(out)], input=data)
        assert wrong.exit_code == 1
        assert "-: is no video that can be read" in wrong.stderr


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """FFmpeg's test picture in the place of a camera's; what was opened."""
    real, opened = av.open, []

    def stand_in(file: object, mode: str = "r", **options: str) -> object:
        if options.get("format") != "v4l2":
            return real(file, mode, **options)
        opened.append((str(file), options["format"]))
        # A frame comes every half second, and one of them late.
        late = "setpts='(N+(1-lt(N,2)))*0.5/TB'"
        return real(f"testsrc=size=64x48:rate=2,{late}", format="lavfi")

    monkeypatch.setattr(av, "open", stand_in)
    monkeypatch.setattr(av, "formats_available", {"video4linux2,v4l2"})
    return opened


def test_a_camera_keeps_the_times_of_its_frames(
    camera: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []

    def stop(result: object) -> None:
        seen.append(result)
        if len(seen) == 4:
            raise KeyboardInterrupt

    assert segment_video(Segmenter(Painter()), "0", "red, blue", "out.mp4", on_frame=stop) == 4
    with av.open("out.mp4") as container:
        times = [each.time for each in container.decode(video=0)]
    assert times == pytest.approx([0, 0.5, 1.5, 2.0], abs=0.01)
    count = segment_video(Segmenter(Painter()), "/dev/video7", "red", "out.mp4", frames=2)
    assert count == 2
    assert camera == [("/dev/video0", "v4l2"), ("/dev/video7", "v4l2")]


def test_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    monkeypatch.chdir(tmp_path)
    video.rename("7")
    with VideoReader("7") as reader:  # a file of that name is one
        assert not reader.facts.live
    with pytest.raises(ImageError, match=r"/dev/video987: No such file.*is a camera there"):
        VideoReader("987")
    monkeypatch.setattr(av, "formats_available", {"mp4"})
    with pytest.raises(ImageError, match=r"reads no camera on this system; use ffmpeg .* video -"):
        VideoReader("/dev/video0")


def test_ctrl_c_leaves_no_part_of_a_file(video: Path, tmp_path: Path) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_video(Segmenter(Painter()), video, "red", tmp_path / "out.mp4", on_frame=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
