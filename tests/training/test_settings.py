from dataclasses import dataclass

import pytest

from lexiseg.training.run import TrainConfig
from lexiseg.training.settings import change

CONFIG = TrainConfig(steps=100)


@dataclass(frozen=True)
class Derived(TrainConfig):
    """A recipe's configuration with a field of its own."""

    clip: str = ""


def test_fields_and_fields_of_fields_are_changed():
    settings = ["steps=7", "optim.lr=1e-4", "tensorboard=true", "optim.milestones=0.5,0.75"]
    changed = change(CONFIG, settings)
    assert (changed.steps, changed.optim.lr, changed.tensorboard) == (7, 1e-4, True)
    assert changed.optim.milestones == (0.5, 0.75)
    assert changed.optim.clip_norm == CONFIG.optim.clip_norm
    assert CONFIG.steps == 100


def test_a_text_may_hold_what_parts_a_setting():
    assert change(Derived(steps=1), ["clip=a=b.pt"]).clip == "a=b.pt"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "KEY=VALUE"),
        ("step=1", "no field 'step'; there are steps"),
        ("steps=many", "'many' is no int"),
        ("tensorboard=1", "true or false"),
        ("optim=3", "'optim' is not one value"),
        ("steps.x=3", "'steps' is not one value"),
        ("optim.milestones=0.5,late", "'late' is no float"),
        ("optim.milestones=2,3", "each is between 0 and 1"),
        ("precision=half", "precision 'half' came; choose one of float32"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(setting, message):
    with pytest.raises(ValueError, match=message):
        change(CONFIG, [setting])
