import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app

pytestmark = pytest.mark.usefixtures("registered_painter")

SMALL = ("--sizes", "16", "--labels", "2", "--repeats", "1")


def bench(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words], env={"COLUMNS": "200", **environment})


def run(*words: str, **environment: str) -> Result:
    return bench("painter", *SMALL, *words, **environment)


def test_a_table() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "utilisation" in result.stdout
    assert "16x16" in result.stdout
    assert "matrix_gflops" in result.stdout
    assert "compile s" not in result.stdout  # a column without a number
    assert "sentences" not in result.stdout


def test_json() -> None:
    found = json.loads(run("--json", "--labels", "2,3").stdout)
    assert list(found) == ["machine", "rows"]
    assert [row["labels"] for row in found["rows"]] == [2, 3]
    assert found["rows"][1]["gflop"] == pytest.approx(1.5 * found["rows"][0]["gflop"])
    assert found["machine"]["device"] == "cpu"


def test_random_weights() -> None:
    """As quick as trained ones, and there where no weights can be had."""
    assert json.loads(run("--json", "--untrained").stdout)["rows"][0]["model"] == "painter"
    result = run("--untrained", "--protocol", "blinds")
    assert result.exit_code == 2
    assert "unknown protocol 'blinds'" in result.stderr


def test_one_at_a_time() -> None:
    result = run("--json", "--one-at-a-time", "--labels", "3,2", "--sizes", "16,32")
    rows = json.loads(result.stdout)["rows"]
    assert [(row["labels"], row["size"]) for row in rows] == [(3, 16), (3, 32), (2, 16)]


@pytest.mark.parametrize("words", [("--labels", "a"), ("--sizes", "0"), ("--batches", "")])
def test_wrong_numbers(words: tuple[str, str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert f"{words[0]} {words[1]!r} came; give whole numbers" in result.stderr


def test_devices() -> None:
    assert json.loads(run("--json", "--device", "cpu").stdout)["machine"]["device"] == "cpu"
    result = run("--device", "quantum")
    assert result.exit_code == 2
    assert "unknown device 'quantum'; here are auto" in result.stderr


def test_no_compiler() -> None:
    result = run("--compiled", CXX="/nowhere/c++")
    assert result.exit_code == 1
    assert "torch.compile needs a C++ compiler, and '/nowhere/c++' is not here" in result.stderr
    assert "Traceback" not in result.output


def test_plots_of_what_was_measured_before(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "2.json", tmp_path / "4.json"]
    for file in files:
        file.write_text(run("--json", "--labels", file.stem).stdout)
    folder = tmp_path / "plots"
    result = bench("--from", str(files[0]), "--from", str(files[1]), "--plot", str(folder))
    assert result.exit_code == 0, result.output
    assert "bench_seconds_labels.png" in result.stderr
    assert "bench_work_labels.png" in {file.name for file in folder.iterdir()}
    assert result.stdout.count("16x16") == 2


def test_wrong_files(tmp_path: Path) -> None:
    missing = bench("--from", str(tmp_path / "none.json"))
    assert missing.exit_code == 2
    assert "none.json" in missing.stderr
    for result in (bench(), bench("painter", "--from", "x.json")):
        assert result.exit_code == 2
        assert "give names of models, or --from FILE" in result.stderr


def test_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--plot", str(tmp_path))
    assert result.exit_code == 1
    assert 'pip install "lexiseg[plot]"' in result.stderr
    assert "painter eager" not in result.stderr
