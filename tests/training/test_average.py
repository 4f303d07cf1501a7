import pytest
import torch
from torch import nn

from lexiseg.training.average import WeightAverage, moving_parts


def model() -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 1))
    parts[2].requires_grad_(False)
    return parts


def set_weight(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        module[0].weight.fill_(value)


def test_what_is_frozen_is_left_out() -> None:
    names = set(moving_parts(model()))
    assert {"0.weight", "1.running_mean", "1.num_batches_tracked"} <= names
    assert not any(name.startswith("2.") for name in names)


def test_the_average_rises_as_the_formula_says() -> None:
    module = model()
    set_weight(module, 0.0)
    average = WeightAverage(module, 0.5)
    set_weight(module, 1.0)
    average.update(0)  # decay 1 / 10
    assert average.values["0.weight"].item() == pytest.approx(0.9)
    set_weight(module, 2.0)
    average.update(98)  # decay 0.5, below 99 / 108
    assert average.values["0.weight"].item() == pytest.approx(1.45)


def test_the_average_is_in_the_module_for_a_while() -> None:
    module = model()
    average = WeightAverage(module, 0.5)
    before = module[0].weight.clone()
    set_weight(module, 7.0)

    def look() -> None:
        with average.in_module():
            assert torch.equal(module[0].weight, before)
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert module[0].weight.item() == 7.0
    average.take()
    set_weight(module, 1.0)
    average.copy_to_module()
    assert module[0].weight.item() == 7.0


def test_no_average_follows_nothing() -> None:
    module = model()
    average = WeightAverage(module, 0.0)
    set_weight(module, 7.0)
    average.copy_to_module()
    assert module[0].weight.item() == 7.0
    assert average.values == {}
