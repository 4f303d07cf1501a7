import pytest
from torch import nn

from lexiseg.training.optim import parameter_groups, schedule_of
from lexiseg.training.run import OptimConfig


def test_norms_and_biases_are_not_decayed_and_the_backbone_is_slower():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.LayerNorm(2)})
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, multipliers={"backbone": 0.25})
    found = {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}
    assert found == {
        "backbone.weight": (0.25, 0.1),
        "backbone.bias": (0.25, 0.0),
        "head.weight": (1.0, 0.0),
        "head.bias": (1.0, 0.0),
    }


def test_the_schedule_rises_and_falls():
    factors = [schedule_of(OptimConfig(warmup=0.1), 100)(step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)


def test_vectors_are_decayed_where_the_authors_do():
    model = nn.ModuleDict({"layer": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, decay_vectors=True)
    found = {name: g["weight_decay"] for g in groups for name in g["names"]}
    assert found == {"layer.weight": 0.1, "layer.bias": 0.1, "norm.weight": 0.0, "norm.bias": 0.0}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OptimConfig(schedule="constant", warmup=0.0), [1.0, 1.0, 1.0, 1.0]),
        (OptimConfig(schedule="constant", warmup=0.5), [0.2, 1.0, 1.0, 1.0]),
        (OptimConfig(schedule="cosine", warmup=0.0), [1.0, 0.6545, 0.5, 0.0245]),
        (
            OptimConfig(schedule="multi-step", warmup=0.0, milestones=(0.4, 0.9)),
            [1.0, 0.1, 0.1, 0.01],
        ),
    ],
)
def test_schedules(config, expected):
    factor = schedule_of(config, 10)
    assert [factor(step) for step in (0, 4, 5, 9)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("schedule", "milestones"), [("cosine", (0.5,)), ("multi-step", ()), ("constant", (0.1, 0.2))]
)
def test_milestones_belong_to_one_schedule(schedule, milestones):
    with pytest.raises(ValueError, match="multi-step needs them, and no other schedule has them"):
        schedule_of(OptimConfig(schedule=schedule, milestones=milestones), 10)
