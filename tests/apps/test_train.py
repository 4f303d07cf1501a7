import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from lexiseg.training.recipes import RECIPES
from lexiseg.training.run import Job, Recipe, TrainConfig
from lexiseg.weights import read_weights
from tests.training.jobs import CONFIG, Line, line_job


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes that need no data and no time."""

    def line(data: Path, config: object) -> object:
        if not (data / "points").is_dir():
            raise ValueError(f"{data / 'points'} is missing; the recipe needs it")
        return line_job(config)

    def empty(data: Path, config: object) -> object:
        return line_job(config, samples=Line(0))

    for name, build in (("line", line), ("empty", empty)):
        monkeypatch.setitem(RECIPES, name, Recipe(name, f"a test: {name}", CONFIG, build))


def train(tmp_path: Path, *words: str, data: str = "data") -> Result:
    (tmp_path / "data" / "points").mkdir(parents=True, exist_ok=True)
    places = ["--data", str(tmp_path / data), "--out", str(tmp_path / "run")]
    return CliRunner().invoke(app, ["train", *words, *places])


def test_weights_come_out_and_a_second_call_goes_on(tmp_path: Path) -> None:
    done = train(tmp_path, "line", "--set", "steps=6")
    assert done.exit_code == 0, done.output
    weights = tmp_path / "run" / "weights.safetensors"
    assert done.stdout.splitlines()[-1] == f"weights: {weights}"
    assert "model.0.weight" in read_weights(weights)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["recipe"], facts["config"]["steps"]) == ("line", 6)
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert train(tmp_path, "line", "--set", "steps=6").exit_code == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == log


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path: Path) -> None:
    done = train(tmp_path, "line", "--dry-run", "--set", "optim.lr=0.5")
    assert done.exit_code == 0, done.output
    assert "lr 0.5" in done.stdout
    assert "steps: 20, of 4 samples" in done.stdout
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed() -> None:
    done = CliRunner().invoke(app, ["train", "--list"])
    assert done.exit_code == 0, done.output
    for name in RECIPES:
        assert name in done.stdout


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"line", "empty"}))
def test_recipes_are_described(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.summary
    assert f"lexiseg train {name} --data" in str(recipe.build.__doc__)
    assert replace(recipe.config, seed=3).seed == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["lines"], 2, "unknown recipe 'lines'; did you mean 'line'? there are catseg_lite"),
        (["line", "--set", "step=1"], 2, "no field 'step'"),
        (["line", "--set", "steps=0"], 2, "steps 0 came"),
        (["line", "--set", "optim.schedule=multi-step"], 1, "multi-step needs them"),
        (["catseg_lite"], 1, "is missing; the recipe needs"),
        (["empty"], 1, "0 samples came; 20 steps of batch_size 4 take 80"),
        (["empty", "--dry-run"], 1, "0 samples came"),
        (["line", "--dry-run", "--set", "optim.milestones=0.5"], 1, "multi-step needs them"),
        (["line", "--set", "optim.warmup=100"], 2, "optim.warmup 100.0 came; it is a share"),
        (["line", "--set", f"seed={2**64}"], 2, "it must be less than 2**63"),
        (["line", "--set", "accumulate=3"], 1, "must be a multiple of 3"),
        (["line", "--set", "optim.lr=1e30"], 1, "step 1: error is inf; nothing was saved"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = train(tmp_path, *words)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1


def test_a_wrong_root_is_named(tmp_path: Path) -> None:
    done = train(tmp_path, "line", data="elsewhere")
    assert done.exit_code == 2
    assert f"--data {tmp_path / 'elsewhere'}: there is no such folder" in done.stderr
    (tmp_path / "bare").mkdir()
    done = train(tmp_path, "line", data="bare")
    assert done.exit_code == 1
    assert "points is missing" in done.stderr


@pytest.mark.parametrize("words", [[], ["line"], ["line", "--data", "."]])
def test_what_is_left_out_is_asked_for(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code == 2
    assert ("give --data and --out" if words else "name a recipe: catseg_lite") in done.stderr


def test_the_folder_of_another_run_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    assert train(tmp_path, "line", "--set", "steps=2").exit_code == 0
    done = train(tmp_path, "line", "--set", "steps=2", "--set", "optim.lr=0.1")
    assert done.exit_code == 1
    assert "another configuration: optim.lr (there 0.05, now 0.1)" in done.stderr
    done = train(tmp_path, "line", "--dry-run", "--set", "steps=2", "--set", "optim.lr=0.1")
    assert done.exit_code == 1
    assert "another configuration: optim.lr (there 0.05, now 0.1)" in done.stderr
    done = train(tmp_path, "empty", "--set", "steps=2")
    assert "another configuration: recipe (there 'line', now 'empty')" in done.stderr


def test_the_data_are_kept_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(tmp_path, "line", "--set", "steps=2").exit_code == 0
    monkeypatch.chdir(tmp_path)
    words = ["train", "line", "--data", "data", "--out", "run", "--set", "steps=2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(Path("run/run.json").read_text())["data"] == str(tmp_path / "data")
    (tmp_path / "other" / "data" / "points").mkdir(parents=True)
    (tmp_path / "run").rename(tmp_path / "other" / "run")
    monkeypatch.chdir(tmp_path / "other")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "another configuration: data (there " in done.stderr


def test_data_that_changed_are_refused_by_a_dry_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = "a1"

    def build(data: Path, config: TrainConfig) -> Job:
        return line_job(config, fingerprint=mark)

    monkeypatch.setitem(RECIPES, "marked", Recipe("marked", "a test", CONFIG, build))
    assert train(tmp_path, "marked", "--set", "steps=2").exit_code == 0
    mark = "b2"
    for words in (["--dry-run"], []):
        done = train(tmp_path, "marked", "--set", "steps=2", *words)
        assert done.exit_code == 1
        assert "holds a run on other data" in done.stderr


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_launcher_that_sets_no_number_is_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "x")
    done = train(tmp_path, "line", *words)
    assert done.exit_code == 1
    assert done.stderr == "error: WORLD_SIZE=x is set; a launcher sets a number: unset it\n"


def test_without_its_extra_training_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    done = train(tmp_path, "line")
    assert done.exit_code == 1
    assert 'training needs accelerate: pip install "lexiseg[train]"' in done.stderr
