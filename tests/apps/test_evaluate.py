import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from tests.apps.conftest import in_one_line
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


def test_an_exported_model_is_not_scored(
    registered_painter: str, flags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lexiseg.apps.evaluate.load_segmenter", lambda *_, **__: object())
    done = run(registered_painter, flags)
    in_one_line(done, "painter is an exported model, which is not scored", exit_code=2)


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
