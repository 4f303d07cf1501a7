"""``lexiseg evaluate`` in processes that are killed, and in several of a launcher."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def command(folder: Path, *words: str) -> list[str]:
    start = [sys.executable, "-m", "lexiseg", "evaluate", "maskclip_lite", str(folder / "flags")]
    return [*start, "--out", str(folder / "out"), "--json", *words]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve pictures that take a small model some time each."""
    generator = np.random.default_rng(0)
    root = tmp_path / "flags"
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    for index in range(12):
        mask = generator.integers(0, 3, (6, 8)).repeat(40, axis=0).repeat(40, axis=1)
        pixels = generator.integers(0, 256, (*mask.shape, 3)).astype(np.uint8) // 3
        pixels[..., 0] += (mask * 80).astype(np.uint8)
        Image.fromarray(pixels).save(root / "val" / "images" / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / "val" / "masks" / f"{index}.png")
    classes = {"classes": {"0": "night sky", "1": "earth", "2": "red wall"}}
    (root / "classes.json").write_text(json.dumps(classes))
    return tmp_path


def confusion(folder: Path) -> list[list[int]]:
    (record,) = (folder / "out" / "flags-val").glob("*.json")
    return list(json.loads(record.read_text())["confusion"])


def test_a_run_killed_at_five_places_gives_the_same_matrix(photographs: Path) -> None:
    subprocess.run(command(photographs), check=True, capture_output=True)
    expected = confusion(photographs)
    for record in (photographs / "out" / "flags-val").glob("*.json"):
        record.unlink()
    chance, counted = random.Random(0), 0
    for _ in range(5):
        process = subprocess.Popen(
            command(photographs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        aim = counted + 1
        while counted < aim and process.poll() is None:
            time.sleep(0.005)
            counted = sum(
                path.read_bytes().count(b"\n") for path in photographs.rglob(".*.journal")
            )
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not list((photographs / "out" / "flags-val").glob("*.json"))
    done = subprocess.run(command(photographs), check=True, capture_output=True, text=True)
    assert "goes on" in done.stderr
    assert confusion(photographs) == expected


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
]


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_of_a_launcher_give_one_matrix(
    launcher: list[str], photographs: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums round by the number of threads
    subprocess.run(command(photographs), check=True, capture_output=True, env=environment)
    expected = confusion(photographs)
    launch = [sys.executable, "-m", *launcher, *command(photographs)[1:]]
    done = subprocess.run(launch, check=True, capture_output=True, text=True, env=environment)
    assert len(done.stdout.strip().splitlines()) == 1
    assert json.loads(done.stdout)["items"] == 12
    assert confusion(photographs) == expected
