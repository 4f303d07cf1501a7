import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.tools.bench import Row
from lexiseg.tools.bench.files import read_measured
from lexiseg.tools.bench.plots import Plot, draw, lines_of

MACHINE = {"device": "cpu", "cpu": "AVX2", "threads": 1, "clock": "processor", "torch": "2"}
BASE = Row("a", "eager", "labels", 384, 384, 384, 20, 1, 0.2, 0.1, 0.4, 0.3, 3)
OVER_LABELS = Plot("x", "labels", "labels", "s", lambda row: row["cpu_seconds"])


def row(**changes: Any) -> dict[str, Any]:
    return asdict(replace(BASE, **changes))


def found(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"machine": dict(MACHINE), "rows": list(rows)}


def test_lines_leave_out_what_varies_besides() -> None:
    rows = [
        row(labels=5, cpu_seconds=1.0),
        row(labels=20, cpu_seconds=2.0),
        row(labels=20, size=512, cpu_seconds=8.0),
        row(labels=20, batch=4, cpu_seconds=9.0),
        row(labels=20, engine="compiled", cpu_seconds=1.5),
        row(labels=5, engine="compiled", cpu_seconds=None, note="not compiled: why"),
    ]
    expected = {("a", "eager"): [(5, 1.0), (20, 2.0)], ("a", "compiled"): [(20, 1.5)]}
    assert lines_of(rows, OVER_LABELS) == expected
    assert lines_of(rows[1:4], OVER_LABELS) == {}  # nothing varies along the axis


def test_a_case_that_was_measured_twice_counts_once() -> None:
    rows = [row(labels=5), row(labels=20, cpu_seconds=1.0), row(labels=20, cpu_seconds=2.0)]
    assert lines_of(rows, OVER_LABELS) == {("a", "eager"): [(5, 0.3), (20, 2.0)]}


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    numbers = {"gflop": 2.0, "extra_mb": 3.0, "utilisation": 0.5}
    sides = [row(size=size, **numbers) for size in (224, 384)]
    labels = [row(labels=count, **numbers) for count in (5, 150)]
    files = draw(found(*sides, *labels, row(engine="int8", **numbers)), tmp_path)
    names = [file.name.removeprefix("bench_").removesuffix(".png") for file in files]
    assert names == [
        *("seconds_labels", "seconds_sides", "text_labels"),
        *("work_labels", "memory_labels", "utilisation_labels"),
    ]
    for file in files:
        assert file.stat().st_size < 60_000
        picture = np.asarray(Image.open(file).convert("RGB"))
        assert (picture[:4] == 255).all()  # white behind it, on a dark page too
        assert (picture != 255).any()
    alone = tmp_path / "alone"
    alone.mkdir()
    assert [file.name for file in draw(found(*sides), alone)] == ["bench_seconds_sides.png"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r'A plot needs matplotlib: pip install "lexiseg\[plot\]"'
    with pytest.raises(ImportError, match=message):
        draw(found(row()), tmp_path)


def test_files_are_read_again_together(tmp_path: Path) -> None:
    parts = [found(row()), found(row(labels=5), row(labels=8))]
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, part in zip(files, parts, strict=True):
        file.write_text(json.dumps(part))
    assert read_measured(files) == found(row(), row(labels=5), row(labels=8))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}, "rows": [{}]}', "{nonsense"])
def test_a_file_of_something_else(tmp_path: Path, text: str) -> None:
    file = tmp_path / "strange.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"strange\.json does not hold what `lexiseg bench --js"):
        read_measured([file])


def test_files_of_different_machines(tmp_path: Path) -> None:
    parts = [found(row()), found(row())]
    parts[1]["machine"]["threads"] = 2
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, part in zip(files, parts, strict=True):
        file.write_text(json.dumps(part))
    with pytest.raises(ValueError, match=r"1\.json cannot be compared .* threads 2 and 1"):
        read_measured(files)
