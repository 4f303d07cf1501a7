import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg import registry
from lexiseg.apps.cli import app
from lexiseg.methods.cris import CRIS
from lexiseg.weights import save_weights
from tests.apps.conftest import in_one_line
from tests.methods import contract

Run = Callable[..., Result]


@pytest.fixture
def run(registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object, model: str | None = registered_painter) -> Result:
        words = ["refer", *(str(argument) for argument in arguments)]
        words += [] if model is None else ["--model", model]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    return invoke


def test_the_help_has_an_example(run: Run) -> None:
    result = run("--help", model=None)
    assert result.exit_code == 0
    assert "Example: lexiseg refer" in result.stdout


def test_a_table_and_the_files(flag_file: Path, run: Run) -> None:
    result = run(flag_file, "red", "zzz [bold]", "--background", "green|blue|red")
    assert result.exit_code == 0, result.output
    assert re.search(r"red\s*│\s*1\.00\s*│\s*33\.3%\s*│\s*0, 0, 10, 20", result.stdout)
    assert re.search(r"zzz \[bold\].*nothing found", result.stdout)
    folder = Path("lexiseg_out")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("flag.json", "flag_1_mask.png", "flag_2_mask.png", "flag_overlay.jpg")
    ]
    with Image.open(folder / "flag_1_mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask)[0], [255] * 10 + [0] * 20)
    assert result.stderr == ""


def test_json(flag_file: Path, run: Run) -> None:
    result = run(flag_file, "red", "sky, or 猫", "--json", "--out", "a/b")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert list(record) == ["image", "expressions", "files"]
    assert [row["expression"] for row in record["expressions"]] == ["red", "sky, or 猫"]
    assert record["expressions"][0]["polygons"] == [[0, 0, 10, 0, 10, 20, 0, 20]]
    kept = json.loads(Path(record["files"]["json"]).read_text())
    assert kept["expressions"] == record["expressions"]


def test_results_never_fall_on_what_is_there(flag_file: Path, run: Run) -> None:
    before = flag_file.read_bytes()
    Path("flag_1_mask.png").write_text("mine")
    for _ in range(2):
        result = run(flag_file, "red", "--out", ".", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["files"]["mask 1"] == "flag-2_1_mask.png"
    assert (Path("flag_1_mask.png").read_text(), flag_file.read_bytes()) == ("mine", before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "an empty expression came"),
        (["x" * 300], "has 300 characters"),
        (["do\ng"], "control characters"),
        (["red", "--background", "2"], "must lie from 0 to 1"),
        (["red", "--protocol", "windws"], "did you mean 'windows'"),
        (["red", "--out", "taken"], "cannot write results there"),
    ],
)
def test_misuse_is_one_line(run: Run, flag_file: Path, words: list[str], message: str) -> None:
    Path("taken").write_text("a file")
    in_one_line(run(flag_file, *words), message, exit_code=2)
    assert not Path("lexiseg_out").exists()


def test_expressions_are_asked_for(run: Run, flag_file: Path) -> None:
    result = run(flag_file)
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_photo_that_cannot_be_read(run: Run, content: bytes | None) -> None:
    if content is not None:
        Path("x.jpg").write_bytes(content)
    in_one_line(run("x.jpg", "red"), r"x\.jpg: (no such file|is not an image)", exit_code=1)


def test_a_sentence_too_long_for_the_model(
    run: Run, flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights("tiny.safetensors", contract.tiny_cris().state_dict())
    monkeypatch.setitem(registry._BUILDERS, "tiny", contract.tiny_cris)
    result = run(flag_file, "a b c d e f g " * 15, model="tiny=tiny.safetensors")
    in_one_line(result, "tokens long, at most 77 are allowed", exit_code=1)


def test_the_bundled_model_is_missing_and_it_says_so(
    run: Run, flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(registry._BUILDERS, "cris_lite", raising=False)
    in_one_line(run(flag_file, "red", model=None), "not bundled .*--model cris_r50=FILE", 2)


def test_a_tiny_cris(run: Run, flag_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> CRIS:
        return contract.tiny_cris()

    torch.manual_seed(0)
    save_weights("tiny.safetensors", build().state_dict())
    monkeypatch.setitem(registry._BUILDERS, "tiny", build)
    for protocol in ("default", "published"):
        words = [flag_file, "the red part", "left one", "--protocol", protocol, "--json"]
        result = run(*words, model="tiny=tiny.safetensors")
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["expressions"]) == 2
