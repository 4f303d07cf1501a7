from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from lexiseg import hub
from lexiseg.apps.weights import export_weights, push_to_hub
from lexiseg.training.checkpoints import write_checkpoint
from lexiseg.training.folder import write_run
from lexiseg.training.run import TrainConfig
from lexiseg.weights import read_metadata, save_weights
from tests.apps.conftest import in_one_line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run that has one checkpoint."""

    def save(path: Path) -> None:
        save_weights(path, {"gain": torch.tensor(2.0)}, {"model": "painter"})

    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), TrainConfig(steps=1), {"recipe": "paint", "data": "photos"})
    write_checkpoint(Path("run"), step=1, row={}, state={}, save=save)
    return tmp_path


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(export_weights)
    app.command()(push_to_hub)
    return CliRunner().invoke(app, words)


def test_export_says_what_it_wrote(folder: Path) -> None:
    words = ("run", "mine.safetensors", "--checkpoint", "last", "--licence", "mit")
    result = run("export-weights", *words)
    assert result.exit_code == 0, result.output
    assert result.stdout == "weights: mine.safetensors\ncard: mine.md\n"
    assert read_metadata("mine.safetensors")["licence"] == "mit"
    assert "license: mit" in Path("mine.md").read_text()


def test_export_complains_in_one_line(folder: Path) -> None:
    in_one_line(run("export-weights", "runs", "a.safetensors"), "runs holds no run", 2)
    in_one_line(run("export-weights", "run", "a.safetensors"), "run is not finished", 2)
    Path("file").write_text("")
    words = ("run", "file/a.safetensors", "--checkpoint", "last")
    in_one_line(run("export-weights", *words), r"file/a\.safetensors: (Not a dir|File exists)", 1)


def test_push_prints_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def push(path: Path, repository: str, *, private: bool) -> str:
        calls.append((path, repository, private))
        return "https://example.org/commit"

    monkeypatch.setattr(hub, "push_to_hub", push)
    result = run("push-to-hub", "mine.safetensors", "someone/painter", "--private")
    assert (result.exit_code, result.stdout) == (0, "https://example.org/commit\n")
    assert calls == [(Path("mine.safetensors"), "someone/painter", True)]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [(ConnectionError("no\nroute"), 1), (ImportError("pip install"), 1), (ValueError("no"), 2)],
)
def test_push_complains_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int
) -> None:
    def push(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(hub, "push_to_hub", push)
    in_one_line(run("push-to-hub", "a.safetensors", "a/b"), "(no|pip)", exit_code)
