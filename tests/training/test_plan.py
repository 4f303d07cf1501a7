from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lexiseg.training.plan import measure_activations, plan
from lexiseg.training.run import Stage
from tests.training.jobs import CONFIG, Captions, Contrast, Pointing, job_of, line_job, line_model


def test_parameters_are_counted_by_group(tmp_path: Path) -> None:
    found = plan(job_of("referring"), CONFIG, tmp_path)
    assert found.groups == (
        ("text_encoder.weight", 8, pytest.approx(0.005), 0.01),
        ("head.weight", 16, 0.05, 0.01),
        ("head.bias", 4, 0.05, 0.0),
    )
    assert (found.trained, found.frozen) == (28, 8)
    assert sum(p.numel() for p in Pointing().parameters()) == 36


def test_memory_is_what_is_known_of_it(tmp_path: Path) -> None:
    found = plan(line_job(), CONFIG, tmp_path).memory
    assert found["weights"] == found["gradients"] == found["average"] == 25 * 4
    assert found["optimiser"] == 2 * 25 * 4
    assert plan(line_job(), replace(CONFIG, average=0.0), tmp_path).memory["average"] == 0


def test_activations_grow_with_a_process_share() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1000), torch.nn.Tanh(), torch.nn.Linear(1000, 1))
    job = line_job(model=model)
    one, two, many = (measure_activations(job, CONFIG, share) for share in (1, 2, 64))
    assert one is not None
    assert one >= 4000  # what the tanh gave, which its own gradient and the next layer's need
    assert many == one + 63 * (two - one)
    assert 4000 <= two - one < 9000


def test_activations_that_cannot_be_measured_are_left_out(tmp_path: Path) -> None:
    class Pairs(Contrast):
        def forward(self, batch: object) -> dict[str, torch.Tensor]:
            if len(batch) < 2:
                raise ValueError("two samples at least")
            return super().forward(batch)

    found = plan(line_job(objective=Pairs(), samples=Captions()), CONFIG, tmp_path)
    assert "activations" not in found.memory
    assert any("without activations" in line for line in found.lines())


def test_the_plan_is_what_the_run_writes(tmp_path: Path) -> None:
    from lexiseg.training.loop import fit

    planned = plan(line_job(), CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())
    fit(line_job(), replace(CONFIG, keep=9), tmp_path)
    assert all(path.exists() for path in planned.files)


def test_lines(tmp_path: Path) -> None:
    second = replace(CONFIG, steps=7)
    model = line_model()
    stage = Stage("second", second, lambda: line_job(second, model=model))
    found = plan(line_job(model=model, next=stage, epoch=40), CONFIG, tmp_path)
    lines = "\n".join(found.lines())
    assert found.epochs == 2.0
    assert "group model.* (2 tensors): 16 parameters, lr 0.05, weight decay 0.01\n" in lines
    assert "parameters: 25 trained, 0 frozen\n" in lines
    assert "steps: 20, of 4 samples, 2.0 epochs\n" in lines
    assert f"then: 7 steps in {tmp_path / 'second'}" in lines


def test_schedules_that_make_no_sense_are_found_out(tmp_path: Path) -> None:
    config = replace(CONFIG, optim=replace(CONFIG.optim, milestones=(0.5,)))
    with pytest.raises(ValueError, match="multi-step needs them, and no other schedule has them"):
        plan(line_job(), config, tmp_path)


def test_batches_that_cannot_be_shared_out_are_found_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 4 came with 3 processes"):
        plan(line_job(), CONFIG, tmp_path, processes=3)
