import pytest
import torch
from torch import nn

from lexiseg.weights import Uninitialised, load_state, rename_keys


def test_loading_is_strict_and_all_or_nothing():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    state["0.bais"] = state.pop("0.bias")
    state["1.weight"] = torch.zeros(1, 4)
    state |= {f"extra.{i:02}": torch.zeros(1) for i in range(20)}
    with pytest.raises(ValueError, match="the weights do not fit Sequential") as caught:
        load_state(module, state)
    message = str(caught.value)
    assert "1 missing: 0.bias\n" in message
    assert "21 unexpected: 0.bais, extra.00, " in message
    assert "extra.08 and 11 more\n" in message
    assert "1 of another shape: 1.weight has (1, 4) for (1, 3)\n" in message
    assert message.endswith("unchanged")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_whole_numbers_are_no_weights():
    """Such as int8 whose scales got lost: a cast would load them without a word."""
    module = torch.nn.Linear(2, 1)
    state = {**module.state_dict(), "weight": torch.tensor([[100, -3]], dtype=torch.int8)}
    with pytest.raises(ValueError, match=r"1 of another type: weight has torch\.int8 for torch"):
        load_state(module, state)
    load_state(module, {key: value.double() for key, value in module.state_dict().items()})
    norm = torch.nn.BatchNorm1d(2)  # counts its batches; some files hold the count as a fraction
    load_state(norm, {key: value.float() + 1 for key, value in norm.state_dict().items()})
    assert norm.num_batches_tracked == 1


def test_loading_renames_first():
    module = nn.Linear(2, 2)
    state = {f"module.{key}": value + 1 for key, value in module.state_dict().items()}
    load_state(module, state, lambda s: {k.removeprefix("module."): v for k, v in s.items()})
    assert torch.equal(module.weight, state["module.weight"])


def test_tensors_that_are_taken_are_not_copied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = {key: torch.rand(value.shape) for key, value in module.state_dict().items()}
    row = torch.rand(4, 3)
    state["0.bias"], state["1.bias"] = row[0], row[1]  # parts of a larger one
    state["1.weight"] = state["0.weight"].T  # the memory of another
    state["2.bias"] = state["2.bias"].double()
    load_state(module, state, take=True)
    loaded = module.state_dict()
    assert all(torch.equal(loaded[key], state[key].to(loaded[key])) for key in state)
    assert loaded["0.weight"].data_ptr() == state["0.weight"].data_ptr()
    assert loaded["2.bias"].dtype == torch.float32
    assert loaded["2.num_batches_tracked"].dtype == torch.int64
    assert len({value.untyped_storage().data_ptr() for value in loaded.values()}) == len(loaded)
    assert all(value.is_contiguous() for value in loaded.values())
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in loaded.values())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_modules_may_be_built_without_values():
    value = torch.full((2, 2), 7.0)
    with Uninitialised():
        assert nn.init.normal_(value) is value
        assert nn.init.kaiming_uniform_(tensor=value) is value
        assert nn.Linear(2, 3).weight.shape == (3, 2)
        assert torch.full((1,), 3.0) == 3
    assert (value == 7).all()
    assert (nn.init.constant_(value, 1) == 1).all()


def test_names_change_both_ways():
    table = [("enc.{}.ln.", "blocks.{}.norm."), ("proj", "projection")]
    state = {key: torch.zeros(1) for key in ("enc.12.ln.weight", "proj", "other", "xproj")}
    renamed = rename_keys(state, table)
    assert set(renamed) == {"blocks.12.norm.weight", "projection", "other", "xproj"}
    assert set(rename_keys(renamed, table, reverse=True)) == set(state)
    with pytest.raises(ValueError, match="two keys become 'projection'"):
        rename_keys({"proj": torch.zeros(1), "projection": torch.zeros(1)}, table)
