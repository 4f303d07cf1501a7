"""The same job on a Ray cluster of this machine."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexiseg.apps.cli import app
from tests.jobs.conftest import content

pytest.importorskip("ray", reason="the extra ray is not installed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_makes_the_same_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bundled model, as workers are processes that know nothing of the tests' models."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.chdir(tmp_path)
    words = ["segment", str(photos), "--recursive", "--out", "out", "--labels", "red, green"]
    words += ["--model", "maskclip_lite", "--json"]
    local = CliRunner().invoke(app, words)
    assert local.exit_code == 1, local.output
    expected = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    spread = CliRunner().invoke(app, [*words, "--engine", "ray", "--workers", "2"])
    assert spread.exit_code == 1, spread.output
    assert spread.stderr.count("photo_8.png: is truncated") == 1
    assert content(tmp_path / "out") == expected


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    """Ray starts another, which does its photos again."""
    (tmp_path / "photos").mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    command = [sys.executable, "-m", "lexiseg", "segment", "photos", "--labels", "red, green"]
    command += ["--model", "maskclip_lite", "--format", "png", "--json"]
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    spread = [*command, "--out", "spread", "--engine", "ray", "--workers", "2"]
    with subprocess.Popen(spread, cwd=tmp_path, env=environment, **quiet) as job:
        while len(list(tmp_path.glob("spread/*_labels.png"))) < 4 and job.poll() is None:
            time.sleep(0.2)
        workers = [
            process
            for process in psutil.Process(job.pid).children(recursive=True)
            if "RayWorker" in "".join(process.cmdline())
        ]
        workers[0].kill()
        assert job.wait() == 0
    subprocess.run([*command, "--out", "local"], cwd=tmp_path, env=environment, check=True, **quiet)
    assert content(tmp_path / "spread") == content(tmp_path / "local")
