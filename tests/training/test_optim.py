import pytest
from torch import nn

from lexiseg.training.optim import parameter_groups, warmup_cosine


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
    factors = [warmup_cosine(step, steps=100, warmup=10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
