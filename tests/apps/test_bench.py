import json

import pytest
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app

pytestmark = pytest.mark.usefixtures("registered_painter")


def run(*words: str) -> Result:
    small = ["--sizes", "16", "--labels", "2", "--repeats", "1"]
    return CliRunner().invoke(app, ["bench", "painter", *small, *words], env={"COLUMNS": "200"})


def test_a_table() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "utilisation" in result.stdout
    assert "16x16" in result.stdout
    assert "matrix_gflops" in result.stdout


def test_json() -> None:
    found = json.loads(run("--json", "--labels", "2,3").stdout)
    assert list(found) == ["machine", "rows"]
    assert [row["labels"] for row in found["rows"]] == [2, 3]
    assert found["rows"][1]["gflop"] == pytest.approx(1.5 * found["rows"][0]["gflop"])


def test_random_weights() -> None:
    """As quick as trained ones, and there where no weights can be had."""
    assert json.loads(run("--json", "--untrained").stdout)["rows"][0]["model"] == "painter"
    result = run("--untrained", "--protocol", "blinds")
    assert result.exit_code == 2
    assert "unknown protocol 'blinds'" in result.stderr


@pytest.mark.parametrize("words", [("--labels", "a"), ("--sizes", "0"), ("--batches", "")])
def test_wrong_numbers(words: tuple[str, str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert f"{words[0]} {words[1]!r} came; give whole numbers" in result.stderr
