import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lexiseg.images import ImageError
from lexiseg.training.checkpoints import best_of, checkpoints_of
from lexiseg.training.folder import held
from lexiseg.training.loop import fit
from lexiseg.training.run import Stage
from lexiseg.weights import read_weights
from tests.training.jobs import (
    CONFIG,
    Late,
    Line,
    Point,
    StopError,
    assert_same,
    job_of,
    line_job,
    line_model,
    rows,
    run,
)

ROOT = Path(__file__).parents[2]


def test_a_run_learns_and_logs_each_step(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, steps=100))
    found = rows(tmp_path)
    assert [row["step"] for row in found] == list(range(100))
    assert sum(r["error"] for r in found[-10:]) < 0.2 * sum(r["error"] for r in found[:10])


@pytest.mark.parametrize("average", [0.9, 0.0])
@pytest.mark.parametrize("stop_at", [9, 12])
def test_an_interrupted_run_goes_on_bit_for_bit(
    stop_at: int, average: float, tmp_path: Path
) -> None:
    config = replace(CONFIG, average=average)
    whole = run(tmp_path / "whole", config)
    with pytest.raises(StopError):
        run(tmp_path / "cut", config, stop_at=stop_at)
    resumed = run(tmp_path / "cut", replace(config, workers=1, keep=5))
    assert_same(whole.objective, resumed.objective)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
    states = [checkpoints_of(tmp_path / name)[-1].read() for name in ("whole", "cut")]
    groups = [state["optimizer"].pop("param_groups") for state in states]
    assert json.dumps(groups[0]) == json.dumps(groups[1])
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_parts_of_a_step_and_the_whole_give_the_same(tmp_path: Path) -> None:
    model = [line_model(dropout=0).double() for _ in range(2)]
    run(tmp_path / "whole", model=model[0])
    run(tmp_path / "parts", replace(CONFIG, accumulate=4), model=model[1])
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("more", [{}, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}])
def test_processes_that_share_a_batch_give_what_one_gives(
    more: dict[str, str], tmp_path: Path
) -> None:
    kinds = ["line", "captions", "referring"]
    for kind in kinds:
        fit(job_of(kind), CONFIG, tmp_path / "one" / kind)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    worker = str(ROOT / "tests" / "training" / "worker.py")
    done = subprocess.run(
        [*command, worker, str(tmp_path / "two"), *kinds, "line/2", "late!"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in (*kinds, "line_2"):
        one, two = rows(tmp_path / "one" / folder.split("_")[0]), rows(tmp_path / "two" / folder)
        assert len(one) == CONFIG.steps
        for row, other in zip(one, two, strict=True):
            assert other == pytest.approx(row, rel=1e-6)
        files = [tmp_path / "one" / folder.split("_")[0], tmp_path / "two" / folder]
        weights = [read_weights(file / "weights.safetensors") for file in files]
        torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)
    late = [tmp_path / "two" / "late" / f"{name}.safetensors" for name in ("whole", "weights")]
    assert late[0].read_bytes() == late[1].read_bytes()


def test_a_parameter_that_joins_in_after_the_checkpoint_does_so_bit_for_bit(tmp_path: Path) -> None:
    for name, stop_at in (("whole", None), ("cut", 6)):
        with pytest.raises(StopError) if stop_at else contextlib.nullcontext():
            run(tmp_path / name, objective=Late(7), stop_at=stop_at)
    run(tmp_path / "cut", objective=Late(7))
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_the_best_checkpoint_is_kept_and_becomes_the_weights(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2])
    config = replace(CONFIG, keep=1)
    seen: list[dict[str, torch.Tensor]] = []
    model = line_model()

    def validate() -> float:
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    fit(line_job(config, model=model, validate=validate), config, tmp_path)
    assert [c.step for c in checkpoints_of(tmp_path)] == [10, 20]
    best = best_of(tmp_path)
    assert best is not None
    assert (best.step, best.score) == (10, 0.9)
    assert [row.get("score") for row in rows(tmp_path)[4::5]] == [0.1, 0.9, 0.3, 0.2]
    weights = read_weights(tmp_path / "weights.safetensors")
    for name, value in seen[1].items():  # what was judged is what is stored
        assert torch.equal(weights[f"model.{name}"], value)
    assert model.training


@pytest.mark.parametrize("broken", [1, 2, 4])
def test_a_validation_that_fails_loses_nothing(broken: int, tmp_path: Path) -> None:
    config = replace(CONFIG, keep=1)

    def judge(model: nn.Module, fails_at: int | None = None) -> Callable[[], float]:
        calls = 0

        def validate() -> float:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise ValueError("a picture is damaged")
            return float(model[0].weight.sum().square())

        return validate

    def go(name: str, fails_at: int | None = None) -> None:
        model = line_model()
        job = line_job(config, model=model, validate=judge(model, fails_at))
        fit(job, config, tmp_path / name)

    go("whole")
    with pytest.raises(ValueError, match="a picture is damaged"):
        go("cut", broken)
    last = checkpoints_of(tmp_path / "cut")[-1]
    assert (last.step, last.score) == (5 * broken, None)
    go("cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    kept = [
        [(c.step, c.score, c.row) for c in checkpoints_of(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert kept[0] == kept[1]
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with held(tmp_path / "run"), pytest.raises(ValueError, match="another process trains in .*run"):
        run(tmp_path / "run")
    run(tmp_path / "run")


def test_a_run_keeps_its_folder_while_it_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    second = replace(CONFIG, steps=1, seed=1)
    seen = []

    def look(step: int, losses: dict[str, float]) -> None:
        with held(tmp_path) as ours:
            seen.append(ours)

    stage = Stage("second", second, lambda: line_job(second))
    fit(line_job(next=stage), CONFIG, tmp_path, on_step=look)
    assert seen == [False] * (CONFIG.steps + 1)


def test_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(tmp_path, fingerprint="a1", stop_at=7)
    with pytest.raises(ValueError, match="holds a run on other data"):
        run(tmp_path, fingerprint="b2")
    run(tmp_path, fingerprint="a1")


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-000005.removed").mkdir(parents=True)
    run(tmp_path)
    assert not list((tmp_path / "checkpoints").glob(".*"))


class Bad(Line):
    """The line, with a sample that cannot be read."""

    def __getitem__(self, index: int) -> Point:
        if index == 9:
            raise ImageError("p.png: is damaged")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_told_in_a_line(workers: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^p\.png: is damaged$"):
        run(tmp_path, replace(CONFIG, workers=workers), samples=Bad())
    assert len(rows(tmp_path)) == 2


def test_a_second_stage_goes_on_from_the_average_after_an_interruption(tmp_path: Path) -> None:
    def two_stages(stop_at: int | None = None) -> dict[str, torch.Tensor]:
        model = line_model()
        second = replace(CONFIG, steps=6, seed=1)
        stage = Stage("second", second, lambda: line_job(second, model=model))
        calls = 0

        def stop(step: int, losses: dict[str, float]) -> None:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise StopError

        out = tmp_path / ("cut" if stop_at or (tmp_path / "cut").exists() else "whole")
        return dict(read_weights(fit(line_job(model=model, next=stage), CONFIG, out, on_step=stop)))

    whole = two_stages()
    with pytest.raises(StopError):
        two_stages(stop_at=CONFIG.steps + 2)
    resumed = two_stages()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "cut" / "second" / "metrics.jsonl").is_file()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"batch_size": 2}, r"batch_size \(there 4, now 2\)"),
        ({"optim": replace(CONFIG.optim, lr=1.0)}, r"optim\.lr \(there 0\.05, now 1\.0\)"),
    ],
)
def test_a_folder_of_another_run_is_refused(
    setting: dict[str, object], said: str, tmp_path: Path
) -> None:
    run(tmp_path)
    with pytest.raises(ValueError, match=f"another configuration: {said}; choose"):
        run(tmp_path, replace(CONFIG, **setting))


def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    if torch.accelerator.is_available():
        pytest.skip("accelerators have it")
    with pytest.raises(ValueError, match="precision float16 came, which cannot be .* on this cpu"):
        run(tmp_path / "run", replace(CONFIG, precision="float16"))
    assert not (tmp_path / "run").exists()


def test_too_few_samples_and_batches_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 samples came; 20 steps of batch_size 4 take 80"):
        run(tmp_path, samples=Line(3))
    with pytest.raises(ValueError, match="batch_size 4 came with 1 processes and accumulate 3"):
        run(tmp_path, replace(CONFIG, accumulate=3))
    with pytest.raises(ValueError, match="no epochs; give steps"):
        run(tmp_path, replace(CONFIG, checkpoint_every=0))


def test_the_run_says_what_it_is(tmp_path: Path) -> None:
    fit(line_job(), CONFIG, tmp_path, about={"recipe": "line"})
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["recipe"] == "line"
    assert facts["config"]["optim"]["lr"] == 0.05
