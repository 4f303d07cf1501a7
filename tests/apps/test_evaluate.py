import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from tests.conftest import write_flags


@pytest.fixture
def flags(tmp_path: Path, flag: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One flag in a folder of one's own; records go to the folder around it."""
    monkeypatch.chdir(tmp_path)
    return write_flags(tmp_path / "flags", flag, [0, 1, 1])


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": "200"})


def test_one_json_object_a_model(registered_painter: str, flags: Path) -> None:
    done = run(registered_painter, flags, "--json", "--per-class")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert (row["model"], row["dataset"]) == (registered_painter, flags.name)
    assert list(row) == [
        *("model", "dataset", "split", "items", "mIoU", "pAcc", "mAcc", "fwIoU", "class_IoU")
    ]
    assert row["mIoU"] == 0.75
    assert row["class_IoU"] == {"red": 1.0, "green": 0.5}
    (file,) = Path("lexiseg_scores/flags-val").glob("painter@default-*.json")
    record = json.loads(file.read_text())
    assert record["confusion"] == [[0, 0, 200], [1, 1, 200], [1, 2, 200]]


def test_one_table_for_several_models(registered_painter: str, flags: Path) -> None:
    done = run(registered_painter, "painter.tests", flags, "--per-class")
    assert done.exit_code == 0
    rows = [re.findall(r"[\w.]+", line) for line in done.stdout.splitlines()]
    assert ["painter", "0.750", "0.667", "0.750", "0.667"] in [row[:5] for row in rows]
    assert ["painter.tests", "0.750", "0.667", "0.750", "0.667"] in [row[:5] for row in rows]
    assert ["green", "0.500", "0.500"] in rows


def test_a_wrong_last_name_is_told_before_the_first_model_is_scored(
    registered_painter: str, flags: Path
) -> None:
    done = run(registered_painter, "panter", flags)
    assert done.exit_code == 2
    assert "did you mean 'painter'" in done.stderr
    assert not list(Path("lexiseg_scores").rglob("*.json"))


def test_markdown(registered_painter: str, flags: Path) -> None:
    done = run(registered_painter, flags, "--markdown", "--boundary")
    lines = done.stdout.splitlines()
    assert lines[0] == "| model | mIoU | pAcc | mAcc | fwIoU | bIoU | s/item |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| painter | 0.750 | 0.667 | 0.750 | 0.667 | 0.702 | ")


def test_expressions_get_both_kinds_of_iou(registered_painter: str, flags: Path) -> None:
    (flags / "classes.json").unlink()
    polygon = [0, 0, 10, 0, 10, 10, 0, 10]
    rows = [{"image": "val/images/flag.png", "expression": "red", "polygon": polygon}]
    (flags / "refs.json").write_text(json.dumps(rows))
    done = run(registered_painter, flags, "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert (row["mIoU"], row["oIoU"]) == (0.5, 0.5)
    assert row["prec"] == {"0.5": 0.0, "0.6": 0.0, "0.7": 0.0, "0.8": 0.0, "0.9": 0.0}
    table = run(registered_painter, flags)
    assert "P@0.5" in table.stdout


def test_parts_are_merged_by_the_last(registered_painter: str, flags: Path) -> None:
    for name in ("a", "b"):
        for kind in ("images", "masks"):
            file = flags / "val" / kind / "flag.png"
            (file.parent / f"{name}.png").write_bytes(file.read_bytes())
    first = run(registered_painter, flags, "--shard", "1/2", "--json")
    assert (first.exit_code, first.stdout) == (0, "")
    assert "part 1 of 2 is counted; 1 of 3 items are left to other parts" in first.stderr
    second = run(registered_painter, flags, "--shard", "2/2", "--json")
    assert json.loads(second.stdout)["items"] == 3
    assert json.loads(second.stdout)["mIoU"] == 0.75


def test_a_narrow_place_cuts_no_number(registered_painter: str, flags: Path) -> None:
    """Into a pipe, and with a long name for a model."""
    import torch

    folder = Path("runs") / ("a" * 60)
    folder.mkdir(parents=True)
    torch.save({"gain": torch.tensor(10.0)}, folder / "authors=1.pth")
    words = ["evaluate", f"painter={folder}/authors=1.pth", str(flags), "--boundary"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "40"})
    assert done.exit_code == 0, done.output
    assert all(number in done.stdout for number in ("0.750", "0.667", "0.702"))
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "4"}, "RANK is '' and WORLD_SIZE '4'"),
        ({"RANK": "abc", "WORLD_SIZE": "2"}, "RANK is 'abc'"),
        ({"RANK": "3", "WORLD_SIZE": "1"}, "ranks lie in 0 to 1 - 1"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE ''"),
    ],
)
def test_half_a_launcher_is_told(
    environment: dict[str, str], message: str, registered_painter: str, flags: Path
) -> None:
    words = ["evaluate", registered_painter, str(flags)]
    done = CliRunner().invoke(app, words, env=environment)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_failing_process_does_not_keep_the_others_waiting(
    registered_painter: str, flags: Path
) -> None:
    (flags / "val" / "masks" / "flag.png").write_bytes(b"no picture")
    words = ["evaluate", registered_painter, "painter.tests", str(flags)]
    done = CliRunner().invoke(app, words, env={"RANK": "0", "WORLD_SIZE": "2"})
    assert done.exit_code == 1
    assert done.stderr.count("error:") == 1  # it ends there, so that the launcher ends all


def test_weights_from_a_file(registered_painter: str, flags: Path) -> None:
    import torch

    torch.save({"gain": torch.tensor(3.0)}, "authors.pth")
    done = run("painter=authors.pth", flags, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"] == "painter=authors.pth"
    lost = run("painter=nowhere.pth", flags)
    assert lost.exit_code == 1
    assert "nowhere.pth" in lost.stderr


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
    subprocess.run(command(photographs), check=True, capture_output=True)
    expected = confusion(photographs)
    launch = [sys.executable, "-m", *launcher, *command(photographs)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, check=True, capture_output=True, text=True, env=environment)
    assert len(done.stdout.strip().splitlines()) == 1
    assert json.loads(done.stdout)["items"] == 12
    assert confusion(photographs) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["painter"], "name one or more models, then the data set"),
        (["painter", "nowhere"], "unknown data set 'nowhere'"),
        (["painter", "ade15"], "did you mean 'ade150'?"),
        (["painter", "./nowhere"], "./nowhere does not exist"),
        (["painter", "ade150", "--data-root", "nowhere"], "lexiseg data check ade150 nowhere"),
        (["panter", "FLAGS"], "did you mean 'painter'"),
        (["painter", "FLAGS", "--split", "test"], "has the splits ['val']"),
        (["painter", "FLAGS", "--protocol", "windws"], "did you mean 'windows'"),
        (["painter", "FLAGS", "--shard", "3/2"], "--shard '3/2' came"),
        (["painter", "FLAGS", "--shard", "a"], "--shard 'a' came"),
        (["painter", "FLAGS", "--shard", "²/3"], "--shard '²/3' came"),
        (["painter", "FLAGS", "--out", "FLAGS/classes.json"], "cannot write results there"),
        (["painter", "FLAGS", "--background", "2"], "background threshold 2"),
    ],
)
def test_wrong_use_gets_one_line(
    words: list[str], message: str, registered_painter: str, flags: Path
) -> None:
    words = [word.replace("FLAGS", str(flags)) for word in words]
    done = run(*words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_mask_that_does_not_fit_ends_with_its_name(registered_painter: str, flags: Path) -> None:
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(flags / "val" / "masks" / "flag.png")
    done = run(registered_painter, flags)
    assert done.exit_code == 1
    assert "flag.png: (3, 3) (height, width), but the photograph" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
