import json
import re
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from lexiseg.apps.convert import convert
from lexiseg.weights import read_metadata


@pytest.fixture(autouse=True)
def folder(registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of the tiny model, and one of something else."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"gain": torch.tensor(3.0)}}, "a.pth")
    torch.save({"gain": torch.zeros(2), "more": torch.zeros(1)}, "b.pth")
    return tmp_path


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(convert)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_counts_and_the_file() -> None:
    result = run("a.pth", "out.safetensors")
    assert result.exit_code == 0, result.output
    assert result.stdout == "model: painter\nloaded: 1 of 1 keys\nweights: out.safetensors\n"
    assert read_metadata("out.safetensors")["model"] == "painter"


def test_every_key() -> None:
    result = run("a.pth", "out.safetensors", "--keys")
    assert re.search(r"weights\s*│\s*gain\s*│\s*gain", result.stdout)


def test_json() -> None:
    report = json.loads(run("a.pth", "out.safetensors", "--json").stdout)
    assert report["loaded"] == [{"part": "weights", "key": "gain", "places": ["gain"]}]
    assert (report["fits"], report["file"]) == (True, "out.safetensors")


def test_keys_that_do_not_fit() -> None:
    result = run("b.pth", "out.safetensors", "--model", "painter")
    assert result.exit_code == 1
    assert "unexpected: more\nmisshaped: gain: (2,) for ()" in result.stdout
    assert result.stderr == "error: the keys do not fit painter; nothing was written\n"
    assert not Path("out.safetensors").exists()
    report = json.loads(run("b.pth", "out.safetensors", "--model", "painter", "--json").stdout)
    assert (report["fits"], report["file"]) == (False, None)


@pytest.mark.parametrize(
    ("words", "message", "exit_code"),
    [
        (("c.pth", "out.safetensors"), "no checkpoint at 'c.pth'", 1),
        (("a.pth", "out.pth"), "ends in .safetensors", 2),
        (("a.pth", "b.pth", "out.safetensors"), "2 files came", 2),
        (("clip=a.pth", "sam=", "out.safetensors"), "PART=FILE for each", 2),
        (("clip=a.pth", "out.safetensors"), "without a model", 2),
        (("a.pth", "out.safetensors", "--model", "paintr"), "did you mean 'painter'", 2),
        (("b.pth", "out.safetensors"), "fits no model as it is", 2),
    ],
)
def test_complaints(words: tuple[str, ...], message: str, exit_code: int) -> None:
    result = run(*words)
    assert result.exit_code == exit_code, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
