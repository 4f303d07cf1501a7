import json
import sys
from pathlib import Path

import pytest

from lexiseg.training.metrics import MetricsLog, read_metrics


def test_a_run_that_goes_on_repeats_no_step(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, start=0, tensorboard=False) as log:
        for step in range(5):
            log.write(step, {"loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')  # killed while it wrote
    with MetricsLog(tmp_path, start=3, tensorboard=False) as log:
        log.write(3, {"loss": 30.0})
    assert read_metrics(path) == [
        {"step": 0, "loss": 0.0},
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 30.0},
    ]


def test_a_row_is_on_the_disk_when_it_is_written(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, start=0, tensorboard=False) as log:
        log.write(0, {"loss": 1.5})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, "loss": 1.5}


def test_what_json_does_not_know_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": NaN}\n')
    with MetricsLog(tmp_path, start=1, tensorboard=False) as log:
        log.write(1, {"loss": float("nan"), "norm": float("inf"), "lr": 0.5})
    assert path.read_text() == (
        '{"step": 0, "loss": null}\n{"step": 1, "loss": null, "norm": null, "lr": 0.5}\n'
    )


@pytest.mark.parametrize("line", [b"1", b"{}", b"[]", b'{"step": "x"}', b"\xff\xfe", b'{"step"'])
def test_a_damaged_line_is_named_unless_it_was_cut_off(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n' + line)
    assert read_metrics(path) == [{"step": 0}]
    for rest in (b"\n", b'\n{"step": 2}\n'):
        path.write_bytes(b'{"step": 0}\n' + line + rest)
        with pytest.raises(
            ValueError, match=r"metrics\.jsonl: line 2 is damaged; mend it, or move"
        ):
            MetricsLog(tmp_path, start=1, tensorboard=False)


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'tensorboard=true needs .*"lexiseg\[train\]"'):
        MetricsLog(tmp_path, start=0, tensorboard=True)


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, start=0, tensorboard=True) as log:
        for step in range(3):
            log.write(step, {"loss": float(step)})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(0, 0.0), (1, 1.0), (2, 2.0)]
