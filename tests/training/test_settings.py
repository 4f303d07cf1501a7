import pytest

from lexiseg.training.loop import TrainConfig
from lexiseg.training.settings import change

CONFIG = TrainConfig(steps=100)


def test_fields_and_fields_of_fields_are_changed():
    changed = change(CONFIG, ["steps=7", "optim.lr=1e-4", "bfloat16=true"])
    assert (changed.steps, changed.optim.lr, changed.bfloat16) == (7, 1e-4, True)
    assert changed.optim.clip_norm == CONFIG.optim.clip_norm
    assert CONFIG.steps == 100


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "KEY=VALUE"),
        ("step=1", "no field 'step'; there are steps"),
        ("steps=many", "'many' is no int"),
        ("bfloat16=1", "true or false"),
        ("optim=3", "'optim' is not one value"),
        ("steps.x=3", "'steps' is not one value"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(setting, message):
    with pytest.raises(ValueError, match=message):
        change(CONFIG, [setting])
