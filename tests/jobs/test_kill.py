"""A job that is killed at random moments ends at the same files as one that never was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.jobs.conftest import content

ROOT = Path(__file__).parents[2]


def run(place: Path, out: str, seed: int, kills: int, longest: float) -> tuple[int, int, float]:
    """How often it was killed, the exit code in the end, the seconds of the last attempt."""
    command = [sys.executable, "-m", "tests.jobs.killed", str(seed), str(kills), str(longest)]
    command += ["segment", str(place / "photos"), "--recursive", "--out", str(place / out)]
    command += ["--labels", "red, green", "--format", "png,npz,coco", "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    killed, code, seconds = done.stdout.split()
    return int(killed), int(code), float(seconds)


def check(place: Path, photos: int, seeds: int, kills: int) -> None:
    for number in range(photos):
        folder = place / "photos" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    bad = place / "photos" / "1" / "bad.png"
    bad.write_bytes((place / "photos" / "1" / "1.png").read_bytes()[:99])
    killed, code, seconds = run(place, "whole", 0, 0, 0)
    assert (killed, code) == (0, 1)
    longest = 2 * seconds / kills  # so that the kills together fall into a job's time
    expected = content(place / "whole")
    assert len(expected) == 4 * photos + 2  # the manifest, and all annotations in one file
    total = 0
    for seed in range(seeds):
        killed, code, _ = run(place, "out", seed, kills, longest)
        total += killed
        assert code == 1
        assert content(place / "out") == expected
        shutil.rmtree(place / "out")
    assert total >= seeds * kills / 4


def test_killed_a_few_times(tmp_path: Path) -> None:
    check(tmp_path, photos=12, seeds=1, kills=5)


@pytest.mark.slow
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    check(tmp_path, photos=50, seeds=4, kills=20)
