import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from lexiseg.training.loop import NonFiniteLossError, OptimConfig, TrainConfig, fit

CONFIG = TrainConfig(
    steps=20, batch_size=4, checkpoint_every=5, average=0.9, optim=OptimConfig(lr=0.05)
)


class Line(Dataset):
    """y = 3 x - 1, sample by sample."""

    def __len__(self):
        return 400

    def __getitem__(self, index):
        x = torch.rand(1, generator=torch.Generator().manual_seed(index))
        return x, 3 * x - 1


def new_model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))


def squared_error(model):
    def objective(batch):
        x, y = (torch.stack(column) for column in zip(*batch, strict=True))
        return {"error": (model(x) - y).square().mean()}

    return objective


def run(out, config, stop_at=None):
    model = new_model()

    def stop(step, losses):
        if step == stop_at:
            raise KeyboardInterrupt

    return fit(model, squared_error(model), Line(), config, out, on_step=stop)


def test_a_run_learns_and_logs_each_step(tmp_path):
    model = new_model()
    config = replace(CONFIG, steps=100)
    fit(model, squared_error(model), Line(), config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(100))
    assert rows[-1]["error"] < 0.2 * rows[0]["error"]


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path):
    whole = run(tmp_path / "whole", CONFIG).state_dict()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", CONFIG, stop_at=12)
    resumed = run(tmp_path / "cut", CONFIG).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="another configuration"):
        run(tmp_path, replace(CONFIG, batch_size=2))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    model = new_model()
    error = squared_error(model)
    count = 0

    def broken(batch):
        nonlocal count
        count += 1
        return {"error": error(batch)["error"] * (float("nan") if count == 8 else 1)}

    with pytest.raises(NonFiniteLossError, match="step 7.*last good weights"):
        fit(model, broken, Line(), CONFIG, tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 5
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(tmp_path):
    model = new_model()
    error = squared_error(model)

    def root(batch):
        return {"error": (error(batch)["error"] * 0).sqrt()}  # 0, but its gradient is not finite

    with pytest.raises(NonFiniteLossError, match="gradient norm"):
        fit(model, root, Line(), CONFIG, tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("field", ["steps", "batch_size", "checkpoint_every"])
def test_counts_below_one_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} 0 came"):
        replace(CONFIG, **{field: 0})


def test_a_learning_rate_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"optim\.lr nan"):
        OptimConfig(lr=float("nan"))


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(tmp_path, CONFIG)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged.*start anew"):
        run(tmp_path, CONFIG)
