import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg import registry
from lexiseg.apps.cli import app
from tests.conftest import Judge, Painter


@pytest.fixture
def run(
    registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """The command in an empty folder, with the tiny model twice, once of another gain."""
    monkeypatch.chdir(tmp_path)
    from lexiseg import methods

    (record,) = methods.WEIGHTS.values()
    monkeypatch.setitem(registry._BUILDERS, "judge", Judge)
    monkeypatch.setitem(methods.WEIGHTS, "judge.tests", record)

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(app, ["compare", *map(str, words)], env={"COLUMNS": "200"})

    return invoke


def test_all_models_in_one_table_and_picture(run: Callable[..., Result], flag_file: Path) -> None:
    result = run(flag_file, "--labels", "red, [b]zzz", "--json")
    assert result.exit_code == 0, result.output
    judge, painter = (json.loads(line) for line in result.stdout.splitlines())
    assert (judge["model"], painter["model"]) == ("judge.tests", "painter.tests")
    assert judge["agreement"] == 1
    assert sum(painter["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(judge["shares"].values()) < 0.9  # it leaves pixels without a label
    assert painter["agreement"] == pytest.approx(sum(judge["shares"].values()), abs=1e-5)
    with Image.open(painter["picture"]) as picture:
        assert picture.width > 3 * 480
        assert np.asarray(picture).std() > 10
    shown = run(flag_file, "--labels", "red, [b]zzz", "--models", "painter,judge, painter")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("│ painter") == 1
    assert "[b]zzz" in shown.stdout
    assert "flag_compared.jpg" in shown.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--models", "pianter", "--labels", "red"], 2, "did you mean 'painter'"),
        (["--models", " , ", "--labels", "red"], 2, "no models came"),
        (["--labels", "red,,"], 2, "an empty label"),
    ],
)
def test_misuse(
    run: Callable[..., Result], flag_file: Path, words: list[str], code: int, message: str
) -> None:
    result = run(flag_file, *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_photo_that_is_none(run: Callable[..., Result]) -> None:
    result = run("missing.jpg", "--labels", "red")
    assert result.exit_code == 1
    assert result.stderr.count("missing.jpg: no such file") == 2


def test_a_model_that_fails_leaves_the_others(
    run: Callable[..., Result], flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Judge, "forward", fail)
    result = run(flag_file, "--labels", "red", "--json")
    assert result.exit_code == 1
    assert "model 'judge.tests'" in result.stderr
    assert [json.loads(line)["model"] for line in result.stdout.splitlines()] == ["painter.tests"]
    assert Painter.forward is not Judge.forward


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_picture_that_cannot_be_written_leaves_the_table(
    options: list[str], run: Callable[..., Result], flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lexiseg.apps.compare.write_atomically", full)
    result = run(flag_file, "--labels", "red", *options)
    assert result.exit_code == 1
    assert "flag_compared.jpg: No space left on device" in result.stderr
    if options:
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [(row["model"], row["picture"]) for row in rows] == [
            ("judge.tests", None),
            ("painter.tests", None),
        ]
    else:
        assert "painter" in result.stdout
        assert "picture:" not in result.stdout


def test_a_model_that_lacks_a_package_is_told_and_the_others_go_on(
    run: Callable[..., Result], flag_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(self: object, prompts: object) -> None:
        raise ImportError('a search needs faiss: pip install "lexiseg[freeda]"')

    monkeypatch.setattr(Judge, "encode_texts", lacks)
    command = ["compare", str(flag_file), "--labels", "red, green", "--models", "judge,painter"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert 'pip install "lexiseg[freeda]"' in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert "painter" in result.stdout
