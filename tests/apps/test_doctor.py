import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from lexiseg.apps.doctor import doctor


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "300"})


@pytest.mark.usefixtures("registered_painter")
def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path))
    result = run()
    assert result.exit_code == 0, result.output
    assert "devices: cpu" in result.stdout
    assert "painter.tests" in result.stdout
    assert "bundled" in result.stdout
    assert "escnet_vitb16: give its weights: --model escnet_vitb16=FILE" in result.stdout


@pytest.mark.usefixtures("registered_painter")
def test_json() -> None:
    result = run("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == ["system", "packages", "extras", "models"]
    assert report["packages"]["torch"]
