"""A disk that fills up under every writer: an error, no half file, nothing lost that was there.

The limit of a file's size stands for the disk: a write goes through up to it, and no further.
test_tiny_disk.py does the same on a file system that is full, which needs the right to mount one.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lexiseg import Segmenter
from lexiseg.apps.cli import app
from lexiseg.evaluation.journal import Journal
from lexiseg.id_maps import write_ids
from lexiseg.jobs.video import VideoWriter
from lexiseg.methods.freeda.bank import BankKind, Record, write_bank
from lexiseg.outputs import FORMATS
from lexiseg.tools.conversion import convert
from lexiseg.training.checkpoints import checkpoints_of, write_checkpoint
from lexiseg.weights import Weights, cached_path, fetch, save_weights
from tests.conftest import Judge, Painter
from tests.trust.conftest import noise

Room = Callable[[int], AbstractContextManager[None]]
Write = Callable[[Path], object]
KIND = BankKind("text", "image", "mean")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sharp(seed: int, height: int, width: int) -> np.ndarray:
    """A picture that no format makes small."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def result(scores: bool = True) -> Any:
    return Segmenter(Painter(), device="cpu")(noise(3, 60, 80), ["red", "green"], scores=scores)


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    return {"a": torch.rand(5000, generator=torch.Generator().manual_seed(seed))}


def write_video(out: Path) -> None:
    with VideoWriter(out / "v.mp4", (120, 160), Fraction(10)) as writer:
        for seed in range(3):
            writer.write(sharp(seed, 120, 160))


def write_training(out: Path) -> None:
    write_checkpoint(
        out,
        step=1,
        row={"loss": 1.0},
        state={"step": 1, **state()},
        save=lambda path: save_weights(path, state()),
    )


def write_rows(out: Path) -> None:
    vectors = torch.rand(300, 8, generator=torch.Generator().manual_seed(0))
    write_bank(out / "bank", vectors, vectors, [Record("dog")] * 300, KIND)


def write_converted(out: Path) -> None:
    convert(out.parent / "p.pth", out / "w.safetensors", model="painter")


WRITERS: dict[str, Write] = {
    "results": lambda out: result().save(out, "photo", formats=FORMATS),
    "one file": lambda out: result().save(out / "photo.npz"),
    "masks of expressions": lambda out: (
        Segmenter(Judge(), device="cpu")
        .refer(noise(3, 60, 80), ["red", "green"])
        .save(out, "photo")
    ),
    "what a model saw": lambda out: (
        Segmenter(Painter(), device="cpu").explain(noise(3, 60, 80), ["red"]).save(out)
    ),
    "weights": lambda out: save_weights(out / "w.safetensors", state(), {"model": "x"}),
    "converted weights": write_converted,
    "checkpoint": write_training,
    "superpixels": lambda out: write_ids(
        out / "i.npz", sharp(0, 60, 80)[:, :, 0].astype(np.uint16) * 3
    ),
    "bank": write_rows,
    "video": write_video,
}


def visible(folder: Path) -> dict[str, bytes]:
    """Files that a user sees, with their bytes; what begins with a dot is no result."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


def check_writer(write: Write, whole: Path, out: Path, room: Room, size: int) -> None:
    """Fails with an OSError, and of the files that are there each is whole."""
    before = visible(out)
    with room(size), pytest.raises(OSError, match=r"\S"):
        write(out)
    expected = visible(whole)
    for name, content in visible(out).items():
        old_or_new = content in (before.get(name), expected.get(name)) or name.startswith("bank/")
        assert old_or_new, f"{name} is half written"
    assert before.keys() <= visible(out).keys()
    assert not leftovers(out)


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer(name: str, registered_painter: str, tmp_path: Path) -> None:
    write, whole = WRITERS[name], tmp_path / "whole"
    whole.mkdir()
    torch.save({"gain": torch.ones(())}, tmp_path / "p.pth")
    write(whole)
    largest = max(len(content) for content in visible(whole).values())
    for number, size in enumerate((0, 1, largest // 2, largest * 9 // 10)):
        empty = tmp_path / str(number)
        empty.mkdir()
        check_writer(write, whole, empty, files_of_at_most, size)
        write(empty)  # with room again it goes through
        assert visible(empty).keys() == visible(whole).keys()
        check_writer(write, whole, empty, files_of_at_most, size)


def test_a_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    write_training(tmp_path)
    with files_of_at_most(1000), pytest.raises(OSError, match="the one before, is good"):
        write_checkpoint(
            tmp_path,
            step=2,
            row={},
            state={"step": 2, **state()},
            save=lambda path: save_weights(path, state()),
        )
    (kept,) = checkpoints_of(tmp_path)
    assert torch.equal(kept.read()["a"], state()["a"])


def test_a_download_is_not_kept_by_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    record = Weights("https://example.org/w.pth", None, "", "", "")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(b"x" * 5000))
    with files_of_at_most(1000), pytest.raises(OSError, match=r"\S"):
        fetch(record, cache=tmp_path)
    assert record.url
    assert not cached_path(record.url, None, cache=tmp_path).exists()
    assert not leftovers(tmp_path)
    assert len(fetch(record, cache=tmp_path).read_bytes()) == 5000


def test_a_journal_keeps_what_it_had(tmp_path: Path) -> None:
    with Journal(tmp_path, "x") as journal:
        journal.write(0, [[1, 2], [3, 4]])
    journal = Journal(tmp_path, "x")
    with files_of_at_most(2), pytest.raises(OSError, match="large"), journal:
        journal.write(1, [[5], [6]])
    assert Journal(tmp_path, "x").read_all() == {0: [[1, 2], [3, 4]]}


COMMANDS = {
    "segment": "segment PHOTOS/0.png --labels red --model painter --out OUT",
    "job": "segment PHOTOS --labels red --model painter --out OUT",
    "refer": "refer PHOTOS/0.png red --model painter --out OUT",
    "compare": "compare PHOTOS/0.png --labels red --models painter,painter.tests --out OUT",
    "evaluate": "evaluate painter FLAGS --out OUT",
    "video": "video VIDEO --labels red --model painter --out OUT/v.mp4",
    "convert": "convert PTH OUT/w.safetensors --model painter",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_it_and_goes_through_later(
    name: str,
    registered_painter: str,
    flags: Path,
    tmp_path: Path,
) -> None:
    photos, whole, out = tmp_path / "photos", tmp_path / "whole", tmp_path / "out"
    for folder in (photos, whole, out):
        folder.mkdir()
    for seed in range(3):
        Image.fromarray(noise(seed, 60, 80)).save(photos / f"{seed}.png")
    write_video(tmp_path)
    torch.save({"gain": torch.ones(())}, tmp_path / "p.pth")
    places = {"PHOTOS": photos, "FLAGS": flags, "VIDEO": tmp_path / "v.mp4"}
    places["PTH"] = tmp_path / "p.pth"

    def words(folder: Path) -> list[str]:
        text = COMMANDS[name].replace("OUT", str(folder))
        for key, value in places.items():
            text = text.replace(key, str(value))
        return text.split()

    done = CliRunner().invoke(app, words(whole))
    assert done.exit_code == 0, done.output
    largest = max(len(content) for content in visible(whole).values())
    for size in (0, largest // 2):
        with files_of_at_most(size):
            failed = CliRunner().invoke(app, words(out))
        error = failed.exception
        assert isinstance(error, (SystemExit, OSError)), repr(error)  # main() tells an OSError
        assert failed.exit_code
        assert "Traceback" not in failed.output
        if isinstance(error, SystemExit):
            assert "large" in failed.stderr or "written" in failed.stderr, failed.stderr
        seen = {name: data for name, data in visible(out).items() if "manifest" not in name}
        reference = visible(whole)
        assert all(len(data) == len(reference[name]) for name, data in seen.items())
    done = CliRunner().invoke(app, words(out))
    assert done.exit_code == 0, done.output
    # A result that has no table is nobody's: the next one stands beside it, under a number.
    assert {name.replace("-2", "", 1) for name in visible(out)} == visible(whole).keys()
