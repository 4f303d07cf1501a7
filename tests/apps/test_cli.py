import json
import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from tests.apps.conftest import in_one_line

Run = Callable[..., Result]


@pytest.fixture
def run(
    registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command line in an empty folder, with the tiny model."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object, model: str = registered_painter) -> Result:
        words = [str(argument) for argument in arguments]
        if words[0] == "segment" and "--help" not in words:
            words += ["--model", model]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    return invoke


@pytest.mark.parametrize("words", [[], ["segment"], ["models"]])
def test_every_help_has_an_example(words: list[str], run: Run) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example: lexiseg" in result.stdout


def test_a_table_and_the_files(flag_file: Path, run: Run, tmp_path: Path) -> None:
    result = run("segment", flag_file, "--labels", "red, green, sea|blue, [bold]x")
    assert result.exit_code == 0, result.output
    assert re.search(r"red\s*│\s*33\.3%\s*│\s*1\.00", result.stdout)
    assert re.search(r"\[bold\]x\s*│\s*0\.0%\s*│\s*│", result.stdout)
    folder = tmp_path / "lexiseg_out"
    for ending in ("_labels.png", "_overlay.jpg", ".json"):
        assert f"flag{ending}" in result.stdout
        assert (folder / f"flag{ending}").is_file()
    with Image.open(folder / "flag_labels.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[0], [0] * 10 + [1] * 10 + [2] * 10)
    assert result.stderr == ""


def test_json_is_one_object_per_photo(flag_file: Path, run: Run, flag: np.ndarray) -> None:
    Image.fromarray(flag[:, ::-1]).save("mirror.png")
    result = run(
        "segment", flag_file, "mirror.png", "--labels", "red, 猫", "--json", "--out", "a/b"
    )
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["image"] for record in records] == [str(flag_file), "mirror.png"]
    for record in records:
        assert list(record) == ["image", "labels", "files"]
        assert [row["label"] for row in record["labels"]] == ["red", "猫"]
        assert all(
            0 <= row[key] <= 1 for row in record["labels"] for key in ("share", "confidence")
        )
        for path in record["files"].values():
            assert Path(path).is_file()


def test_what_the_model_saw_is_drawn(flag_file: Path, run: Run, tmp_path: Path) -> None:
    words = ("segment", flag_file, "--labels", "red, sea|blue", "--explain", tmp_path / "why")
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "why" / flag_file.stem
    assert json.loads(result.stdout)["files"]["explain"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "01_red_01_logits.png",
        "02_sea_01_logits.png",
    ]


def test_folders_with_bad_files(run: Run, flag_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png", ".hidden.png", "old_labels.png"):
        (folder / name).write_bytes(flag_file.read_bytes())
    (folder / "cut.png").write_bytes(flag_file.read_bytes()[:50])
    (folder / "notes.txt").write_text("not a picture")
    result = run("segment", folder, "missing.jpg", flag_file, "--labels", "red", "--json")
    assert result.exit_code == 1
    images = [Path(json.loads(line)["image"]).name for line in result.stdout.splitlines()]
    assert images == ["a.png", "b.png", "flag.png"]
    assert re.search(r"error: .*cut\.png: is (truncated|damaged)", result.stderr)
    assert "error: missing.jpg: no such file" in result.stderr
    assert "5/5" in result.stderr
    assert "Traceback" not in result.stderr


def test_results_in_the_folder_of_the_photos(run: Run, flag_file: Path, tmp_path: Path) -> None:
    before = flag_file.read_bytes()
    (tmp_path / "flag_labels.png").write_bytes(before)
    for _ in range(2):
        photos = [flag_file, tmp_path / "flag_labels.png"]
        result = run("segment", *photos, "--labels", "red", "--json", "--out", tmp_path)
        assert result.exit_code == 0, result.output
        assert all(photo.read_bytes() == before for photo in photos)
        assert result.stdout.count('"image"') == 2


def test_photos_of_one_name_get_files_of_their_own(run: Run, flag: np.ndarray) -> None:
    for name in ("x", "y"):
        Path(name).mkdir()
        Image.fromarray(flag).save(f"{name}/flag.png")
    result = run("segment", "x", "y/flag.png", "x/flag.png", "--labels", "red", "--json")
    names = [json.loads(line)["files"]["json"] for line in result.stdout.splitlines()]
    assert names == [os.path.join("lexiseg_out", f) for f in ("flag.json", "flag-2.json")]


@pytest.mark.parametrize(
    ("mode", "expected"), [("off", 1.0), ("0.99", 1 / 3), ("green|blue", 1 / 3)]
)
def test_background(run: Run, flag_file: Path, mode: str, expected: float) -> None:
    result = run("segment", flag_file, "--labels", "red, zzz", "--background", mode, "--json")
    shares = [row["share"] for row in json.loads(result.stdout)["labels"]]
    assert sum(shares) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", ""], "no labels came"),
        (["--labels", "dog,,cat"], "an empty label"),
        (["--labels", "dog, DOG"], "came twice"),
        (["--labels", "do\ng"], "control characters"),
        (["--labels", "voc21"], "did you mean 'voc20'"),
        (["--labels", "dog", "--background", "2"], "must lie from 0 to 1"),
        (["--labels", "dog", "--background", "dog"], "is a label and a background name"),
    ],
)
def test_misuse_is_one_line(run: Run, flag_file: Path, options: list[str], message: str) -> None:
    in_one_line(run("segment", flag_file, *options), message, exit_code=2)
    assert not Path("lexiseg_out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "photo.jpg", "--labels", "--json"], "--labels takes a value, but --json"),
        (["segment", "--explain", "--out=x"], "--explain takes a value, but --out=x came"),
        (["train", "line", "--data", "--out", "x"], "--data takes a value, but --out came"),
        (["prototypes", "merge", "all", "--from", "--json"], "--from takes a value"),
        (["prototypes", "build", "--out", "--lite"], "--out takes a value, but --lite came"),
    ],
)
def test_a_forgotten_value(run: Run, words: list[str], message: str) -> None:
    in_one_line(run(*words), message, exit_code=2)


def test_unknown_model(run: Run, flag_file: Path) -> None:
    result = run("segment", flag_file, "--labels", "red", model="pianter")
    in_one_line(result, "unknown model 'pianter'; did you mean 'painter'", exit_code=2)


def test_a_file_without_its_architecture(run: Run, flag_file: Path) -> None:
    result = run("segment", flag_file, "--labels", "red", model=str(flag_file))
    in_one_line(result, "does not say which model it is for; give ARCH=FILE", exit_code=2)


def test_a_model_begins_from_several_files(run: Run, flag_file: Path, tmp_path: Path) -> None:
    model = f"freeda_lite=bank={tmp_path / 'none'}"
    result = run("segment", flag_file, "--labels", "red", model=model)
    in_one_line(result, "no bank at", exit_code=2)
    bank = files("lexiseg") / "assets" / "freeda" / "scenes_bank"
    model = f"freeda_lite=bank={bank}"
    result = run("segment", flag_file, "--labels", "sky, grass", "--json", model=model)
    assert result.exit_code == 0, result.output
    assert [row["label"] for row in json.loads(result.stdout)["labels"]] == ["sky", "grass"]


def test_weights_that_cannot_be_had(
    run: Run, flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ConnectionError("cannot download https://example.org: no network")

    monkeypatch.setattr("lexiseg.weights.read_weights", fail)
    in_one_line(run("segment", flag_file, "--labels", "red"), "painter.*no network", exit_code=1)


def test_a_folder_that_cannot_be_written(run: Run, flag_file: Path) -> None:
    Path("taken").write_text("a file")
    for out in ("taken", "taken/inside", "x" * 300):
        result = run("segment", flag_file, "--labels", "red", "--out", out)
        in_one_line(result, "cannot write results there", exit_code=2)
    assert Path("taken").read_text() == "a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(run: Run, flag_file: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    result = run("segment", flag_file, "--labels", "red", "--out", "locked")
    in_one_line(result, "cannot write results there", exit_code=2)


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    Path("empty").mkdir()
    in_one_line(run("segment", "empty", "--labels", "red"), "has no pictures", exit_code=1)


def test_a_disk_that_fills_up(
    run: Run, flag_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run("segment", flag_file, "--labels", "red").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("lexiseg_out").iterdir()}

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    result = run("segment", flag_file, "--labels", "green")
    in_one_line(result, r"flag\.png: No space left on device", exit_code=1)
    assert {path.name: path.read_bytes() for path in Path("lexiseg_out").iterdir()} == before


def test_models(run: Run) -> None:
    result = run("models", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["model"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["painter.tests"] == {
        "model": "painter.tests",
        "parameters": 1,
        "licence": "MIT",
        "weights": "bundled",
        "scores": {"x": 1.0},
    }
    assert "painter.tests" in run("models").stdout
