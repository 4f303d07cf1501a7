import json
from dataclasses import replace
from pathlib import Path

import pytest

from lexiseg.training.folder import check_run, held, sweep, write_run
from tests.training.jobs import CONFIG


def test_what_the_weights_do_not_depend_on_may_change(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, {"recipe": "line"})
    free = replace(CONFIG, workers=3, keep=7, tensorboard=True, checkpoint_every=1)
    check_run(tmp_path, free, {"recipe": "line"})
    with pytest.raises(ValueError, match=r"recipe \(there 'line', now 'other'\), steps \(there 20"):
        check_run(tmp_path, replace(CONFIG, steps=3), {"recipe": "other"})


def test_a_run_of_a_version_with_fewer_settings_goes_on(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, {})
    path = tmp_path / "run.json"
    facts = json.loads(path.read_text())
    del facts["config"]["accumulate"], facts["config"]["optim"]["decay"]
    path.write_text(json.dumps(facts))
    check_run(tmp_path, CONFIG, {})
    with pytest.raises(ValueError, match=r"accumulate \(there 1, now 2\)"):
        check_run(tmp_path, replace(CONFIG, accumulate=2), {})


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        check_run(tmp_path, CONFIG, {})


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, {}, fingerprint="a1")
    check_run(tmp_path, CONFIG, {}, fingerprint="a1")
    check_run(tmp_path, CONFIG, {})
    with pytest.raises(ValueError, match="holds a run on other data: .*out of .*run.json to go on"):
        check_run(tmp_path, CONFIG, {}, fingerprint="b2")
    write_run(tmp_path, CONFIG, {})
    assert "fingerprint" not in json.loads((tmp_path / "run.json").read_text())
    check_run(tmp_path, CONFIG, {}, fingerprint="b2")


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with held(tmp_path / "run") as first, held(tmp_path / "run") as second:
        assert first
        assert not second
    with held(tmp_path / "run") as third:
        assert third


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    write_run(tmp_path, CONFIG, {})
    kept = tmp_path / "checkpoints" / "step-000001" / "state.pt"
    stale = [
        tmp_path / "checkpoints" / ".step-000002.partial" / "state.pt",
        tmp_path / "checkpoints" / ".step-000001.removed" / "state.pt",
        tmp_path / "checkpoints" / "step-000001" / ".0f.part",
        tmp_path / ".0f.part",
    ]
    for path in (kept, *stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {
        kept,
        tmp_path / "run.json",
    }
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
