"""Single steps: rates, validation, and what is not finite."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lexiseg.training.average import WeightAverage
from lexiseg.training.checkpoints import checkpoints_of
from lexiseg.training.loop import fit
from lexiseg.training.run import Batch, OptimConfig
from lexiseg.training.steps import NonFiniteLossError
from tests.training.jobs import (
    CONFIG,
    Pointing,
    SquaredLoss,
    assert_same,
    job_of,
    line_job,
    line_model,
    rows,
    run,
)


def test_every_group_has_its_rate_and_schedule(tmp_path: Path) -> None:
    job = job_of("referring")
    before = [p.detach().clone() for p in job.objective.image_encoder.parameters()]
    fit(job, CONFIG, tmp_path)
    state = checkpoints_of(tmp_path)[-1].read()
    found = {
        name: group["lr"]
        for group in state["optimizer"]["param_groups"]
        for name in group["params"]
    }
    # At the last step: a tenth after the milestone, the others at the end of a cosine.
    slow = [name for name in found if name.startswith("text_encoder")]
    assert job.groups[0]["names"] == slow
    assert found["text_encoder.weight"] == pytest.approx(0.05 * 0.1 * 0.1)
    assert found["head.weight"] == found["head.bias"]
    assert found["head.weight"] == pytest.approx(rows(tmp_path)[-1]["lr"], rel=1)
    after = list(job.objective.image_encoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(name.startswith("image_encoder") for name in state["model"])
    assert isinstance(job.objective, Pointing)


def test_validation_changes_nothing(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    judged = run(tmp_path / "judged", validate=lambda: 1.0)
    assert_same(plain.objective, judged.objective)


def test_once_an_epoch(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_every=0, keep=9)
    run(tmp_path, config, epoch=26)  # 6.5 batches
    assert [c.step for c in checkpoints_of(tmp_path)] == [7, 14, 20]


class Broken(SquaredLoss):
    """As the squared error, until the eighth call."""

    calls = 0

    def forward(self, batch: object) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"error": super().forward(batch)["error"] * (torch.nan if self.calls == 8 else 1)}


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="step 7: error is nan; .*step-000005 holds the"):
        run(tmp_path, objective=Broken(line_model()))
    (saved,) = checkpoints_of(tmp_path)
    assert saved.step == 5
    assert all(torch.isfinite(value).all() for value in saved.read()["model"].values())
    assert len(rows(tmp_path)) == 7


class Root(SquaredLoss):
    """A loss of 0 whose gradient is not finite."""

    def forward(self, batch: object) -> dict[str, torch.Tensor]:
        return {"error": (super().forward(batch)["error"] * 0).sqrt()}


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(
    tmp_path: Path,
) -> None:
    objective = Root(line_model())
    with pytest.raises(NonFiniteLossError, match="norm of the gradient is nan; nothing was saved"):
        run(tmp_path, objective=objective)
    assert all(torch.isfinite(p).all() for p in objective.parameters())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_every=1, optim=OptimConfig(lr=3e37, weight_decay=100.0))
    with pytest.raises(NonFiniteLossError, match=r"step 0: the weight model\..* is not finite"):
        run(tmp_path, config)
    assert checkpoints_of(tmp_path) == []


class Norm(nn.Module):
    """A model whose running variance is lost at a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.step == 3:
            self.layers[1].running_var.fill_(torch.inf)
        losses = self.layers(torch.stack([p.x for p in batch])).square()
        return {"error": losses.mean()}


def test_buffers_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"weight layers\.1\.running_var is not finite"):
        run(tmp_path, objective=Norm())
    assert checkpoints_of(tmp_path) == []


def test_an_average_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    class Spoiling(SquaredLoss):
        """Has an infinite weight, which it mends before anybody looks."""

        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            with torch.no_grad():
                self.model[0].bias.fill_(0)
            return super().forward(batch)

    objective = Spoiling(line_model())

    def spoil(step: int, losses: dict[str, float]) -> None:
        if step == 2:
            update = WeightAverage.update
            with torch.no_grad():
                objective.model[0].bias.fill_(torch.inf)
            update(averages[0], step)

    averages: list[WeightAverage] = []
    original = WeightAverage.__init__

    def remember(self: WeightAverage, module: nn.Module, decay: float) -> None:
        original(self, module, decay)
        averages.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightAverage, "__init__", remember)
        with pytest.raises(
            NonFiniteLossError, match=r"the average of model\.0\.bias is not finite"
        ):
            fit(line_job(objective=objective), CONFIG, tmp_path, on_step=spoil)
    assert checkpoints_of(tmp_path) == []


def test_half_precision_is_that_of_the_forward_pass(tmp_path: Path) -> None:
    seen = []

    class Watched(SquaredLoss):
        def forward(self, batch: object) -> dict[str, torch.Tensor]:
            losses = super().forward(batch)
            seen.append(self.model[0](torch.ones(1, 1)).dtype)
            return losses

    job = run(tmp_path, replace(CONFIG, precision="bfloat16"), objective=Watched(line_model()))
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in job.objective.parameters()} == {torch.float32}
    run(tmp_path / "after", CONFIG, objective=Watched(line_model()))
    assert seen[-1] == torch.float32
