import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.jobs import job
from lexiseg.jobs.manifest import Manifest, read_manifest
from lexiseg.segmenter import Segmenter
from tests.jobs.conftest import content

Run = Callable[..., "object"]


def test_a_job_mirrors_the_folders_and_goes_on(run: Run, photos: Path, tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 1, result.output
    assert result.stderr.count("photo_8.png: is truncated") == 1
    out = tmp_path / "out"
    done = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(done) == 9
    for record in done:
        stored = json.loads(Path(record["files"]["json"]).read_text())
        assert stored["image"] == record["image"]
        place = Path(record["image"]).relative_to("photos").parent
        assert Path(record["files"]["labels"]).parent == Path("out") / place
        with Image.open(record["files"]["labels"]) as labels, Image.open(record["image"]) as photo:
            assert labels.size == photo.size
    before = content(out)
    assert {"c/photo_5.json", "c/photo_5-2.json", "a/b/photo_1_overlay.jpg"} <= set(before)
    again = run()
    assert (again.exit_code, again.stdout) == (1, "")
    assert "10 of 10 photos are settled already; 0 to do" in again.stderr
    assert again.stderr.count("photo_8.png") == 1
    assert content(out) == before


def test_parts_make_the_whole(run: Run, photos: Path, tmp_path: Path) -> None:
    run("--workers", 0)
    whole = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    for part in ("2/3", "1/3", "3/3"):
        run("--shard", part, "--workers", 3)
    parts = content(tmp_path / "out")
    manifests = [name for name in parts if name.endswith(".jsonl")]
    assert len(manifests) == 3
    lines = b"".join(b"\n".join(parts.pop(name).splitlines()[1:]) + b"\n" for name in manifests)
    expected = whole.pop("lexiseg_manifest.jsonl").splitlines()[1:]
    assert sorted(lines.split(b"\n")[:-1]) == sorted(expected)
    assert parts == whole
    assert "10 of 10" in run().stderr  # what any part has done is done


def test_workers_change_nothing(run: Run, photos: Path, tmp_path: Path) -> None:
    found, before = [], threading.active_count()
    for workers in (0, 1, 4):
        assert "Traceback" not in run("--workers", workers, "--format", "npz,coco,maps").output
        found.append(content(tmp_path / "out"))
        shutil.rmtree(tmp_path / "out")
    assert found[0] == found[1] == found[2]
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ((), "red, blue", r"whose labels was \{.*green.*\} and is now \{.*blue"),
        (("--format", "coco"), "red, green", "whose format was .*labels.* and is now .*coco"),
        (("--background", "0.5"), "red, green", "whose background was null and is now 0.5"),
    ],
)
def test_nothing_is_mixed(
    run: Run, photos: Path, tmp_path: Path, options: tuple[str, ...], labels: str, message: str
) -> None:
    run()
    before = content(tmp_path / "out")
    result = run(*options, labels=labels)
    assert result.exit_code == 2
    assert "holds results of another job" in result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert content(tmp_path / "out") == before
    (tmp_path / "out" / "mine.txt").write_text("kept")
    anew = run(*options, "--no-resume", labels=labels)
    assert anew.exit_code == 1
    assert len(anew.stdout.splitlines()) == 9
    names = set(content(tmp_path / "out"))
    assert "mine.txt" in names
    assert ("a/photo_0_coco.json" in names) == ("coco" in options)
    assert ("a/photo_0_labels.png" in names) == ("coco" not in options)


def test_changed_weights_are_seen(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr("lexiseg.weights.state_sha256", lambda _: "others")
    result = run()
    assert result.exit_code == 2
    assert 'whose weights was "' in result.stderr


def test_a_changed_photo_is_done_again_and_a_lost_result_too(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    run()
    before = content(tmp_path / "out")
    Image.new("RGB", (5, 5), "red").save(photos / "a" / "photo_0.png")
    (tmp_path / "out" / "c" / "photo_2_labels.png").unlink()
    result = run()
    again = [Path(json.loads(line)["image"]).name for line in result.stdout.splitlines()]
    assert again == ["photo_0.png", "photo_2.png"]
    after = content(tmp_path / "out")
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert {name.split("/")[-1][:7] for name in changed} <= {"photo_0", "lexiseg"}


def test_a_full_disk_stops_no_photo_for_good(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    whole = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    write, count = job.write_atomically, iter(range(1000))

    def fail(path: Path, data: bytes, *, part: str) -> None:
        if 5 <= next(count) < 9:
            raise OSError(28, "No space left on device")
        write(path, data, part=part)

    monkeypatch.setattr(job, "write_atomically", fail)
    result = run()
    assert result.exit_code == 1
    assert result.stderr.count("No space left on device") == 4
    monkeypatch.setattr(job, "write_atomically", write)
    assert len(run().stdout.splitlines()) == 4
    assert content(tmp_path / "out") == whole


def test_a_model_that_fails_on_one_photo(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, count = Segmenter.__call__, iter(range(1000))

    def fail(self: Segmenter, *args: object, **options: object) -> object:
        if next(count) == 3:
            raise RuntimeError("out of memory\nwith much detail")
        return call(self, *args, **options)

    monkeypatch.setattr(Segmenter, "__call__", fail)
    first = run()
    assert first.stderr.count("out of memory with much detail") == 1
    assert len(first.stdout.splitlines()) == 8
    assert len(run().stdout.splitlines()) == 1


def test_a_link_that_leads_outside_is_not_written_through(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    result = run()
    assert result.exit_code == 1
    assert "is a link that leads outside of" in result.stderr
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]


def test_two_processes_at_one_part(run: Run, photos: Path, tmp_path: Path) -> None:
    run()
    settings, _ = read_manifest(tmp_path / "out" / "lexiseg_manifest.jsonl")
    assert settings is not None
    with Manifest(tmp_path / "out", settings):
        result = run()
    assert result.exit_code == 1
    assert "another process works at this job" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shard", "0/2"), "give I/N with I from 1 to N"),
        (("--shard", "3/2"), "give I/N with I from 1 to N"),
        (("--format", "gif"), "unknown format 'gif'"),
    ],
)
def test_misuse(run: Run, photos: Path, options: tuple[str, ...], message: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_names_that_disks_hardly_hold(run: Run, photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    pixels = np.zeros((4, 5, 3), np.uint8)
    for stem in ("x" * 250, "猫" * 83, "🐈 [b]; rm -rf", "..x", "line\nbreak", "y" * 250 + "z"):
        Image.fromarray(pixels).save(photos / f"{stem}.png")
    with (photos / os.fsdecode(b"bad\xff.png")).open("wb") as file:
        Image.fromarray(pixels).save(file, format="PNG")
    result = run("--format", "coco,labels,overlay")
    assert result.exit_code == 0, result.output
    names = list(content(tmp_path / "out"))
    assert len(names) == 6 * 4 + 2  # "..x" is hidden
    assert "Traceback" not in run().output
    assert len(content(tmp_path / "out")) == len(names)
    assert not [path for path in tmp_path.iterdir() if path.name not in {"photos", "out"}]


def test_large_pictures_in_a_job(run: Run, photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    for name, size in (("small", (20, 30)), ("large", (90, 200))):
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[:, : size[1] // 2, 0] = pixels[:, size[1] // 2 :, 1] = 255
        Image.fromarray(pixels).save(photos / f"{name}.png")
    refused = run("--max-megapixels", 0.01, "--tile", 64)
    assert refused.exit_code == 1
    assert "large.png: is too large (90 x 200" in refused.stderr
    result = run("--tile", 64, "--no-resume", "--workers", 0)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "large_labels.png") as labels:
        assert (np.asarray(labels) == (np.arange(200) >= 100)).mean() > 0.97
    assert run("--tile", 128).exit_code == 2
