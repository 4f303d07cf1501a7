import hashlib
import json
import pickle
import warnings
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lexiseg.weights import (
    add_metadata,
    dequantise,
    metadata_of,
    quantise_rows,
    read_checkpoint,
    read_metadata,
    read_weights,
    save_weights,
    state_sha256,
)


def example() -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return {
        "body.weight": torch.randn(4, 3, generator=noise),
        "body.bias": torch.randn(4, generator=noise),
        "double": torch.randn(2, 2, generator=noise, dtype=torch.float64),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": [0.1]}},
        lambda state: {"model": OrderedDict(state), "best": np.float64(0.5), "log": Counter("ab")},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {key: nn.Parameter(value, False) for key, value in state.items()},
    ],
)
def test_files_of_torch_are_read(tmp_path, new_format, wrap):
    path = tmp_path / "weights.pth"
    torch.save(wrap(example()), path, _use_new_zipfile_serialization=new_format)
    assert_same(read_checkpoint(path), example())


@pytest.mark.parametrize("new_format", [True, False])
def test_views_of_a_shared_storage_are_read(tmp_path, new_format):
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"whole": whole, "column": whole[:, 2], "turned": whole.T, "tied": whole}
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=new_format)
    if new_format:
        assert_same(read_checkpoint(tmp_path / "w.pt"), state)
    else:
        found = read_checkpoint(tmp_path / "w.pt")
        assert torch.equal(found["turned"], whole.T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(tmp_path, dtype):
    values = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save({"a": values}, tmp_path / "a.pt")
    save_weights(tmp_path / "a.safetensors", {"a": values})
    for name in ("a.pt", "a.safetensors"):
        assert_same(read_checkpoint(tmp_path / name), {"a": values.float()})


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.register_buffer("resolution", torch.tensor(224))
        self.sizes = [1, 2]

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_archives_are_read_without_torch_jit(tmp_path, monkeypatch, traced):
    torch.manual_seed(0)
    module = Scripted().half().eval()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # TorchScript is deprecated; OpenAI's files are not going away
        made = (
            torch.jit.trace(module, torch.ones(2, 3).half()) if traced else torch.jit.script(module)
        )
        torch.jit.save(made, tmp_path / "model.pt")
    for name in ("load", "jit.load"):
        monkeypatch.setattr(f"torch.{name}", lambda *_, **__: pytest.fail("it was called"))
    expected = {
        key: value.float() if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }
    assert_same(read_checkpoint(tmp_path / "model.pt"), expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_arrays_are_read(tmp_path, protocol):
    arrays = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "half": np.ones(2, np.float16),
        "scale": np.float32(0.5),
        "count": np.array(3),
    }
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_checkpoint(tmp_path / "m.pkl")
    assert found.keys() == arrays.keys()
    for key, value in arrays.items():
        assert np.array_equal(found[key].numpy(), value), key
    assert found["half"].dtype == torch.float32


def test_saved_weights_come_back_bit_for_bit(tmp_path):
    state = example() | {"turned": torch.randn(3, 5).T}
    save_weights(tmp_path / "w.safetensors", state, {"z": "ü", "a": '{"b": 1}'})
    assert_same(read_checkpoint(tmp_path / "w.safetensors"), state)
    assert_same(load_file(tmp_path / "w.safetensors"), state)
    assert read_metadata(tmp_path / "w.safetensors") == {"a": '{"b": 1}', "z": "ü"}
    first = (tmp_path / "w.safetensors").read_bytes()
    reordered = dict(reversed(state.items()))
    save_weights(tmp_path / "w.safetensors", reordered, {"a": '{"b": 1}', "z": "ü"})
    assert (tmp_path / "w.safetensors").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.zeros(1)})
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        save_weights(path, {"a": torch.ones(1)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_without_metadata_have_none(tmp_path):
    save_weights(tmp_path / "w.safetensors", example())
    torch.save(example(), tmp_path / "w.pt")
    assert read_metadata(tmp_path / "w.safetensors") == {}
    assert read_metadata(tmp_path / "w.pt") == {}


def test_rows_in_eight_bits(tmp_path):
    weight = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    packed, scale = quantise_rows(weight)
    assert packed.dtype == torch.int8
    save_weights(tmp_path / "w.safetensors", {"w": packed, "w_scale": scale, "ids": packed[0]})
    found = read_checkpoint(tmp_path / "w.safetensors")
    assert found.keys() == {"w", "ids"}
    assert found["ids"].dtype == torch.int8
    error = (found["w"] - weight).abs().amax(dim=(1, 2))
    assert (error <= scale / 2 + 1e-6).all()
    assert not found["w"][2].any()


def test_dequantise_by_hand():
    state = {"w": torch.tensor([[2, -4]], dtype=torch.int8), "w_scale": torch.tensor([0.5])}
    assert_same(dequantise(state), {"w": torch.tensor([[1.0, -2.0]])})
    alone = {"n_scale": torch.ones(1)}
    assert_same(dequantise(alone), alone)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no checkpoint at '.*nothing\.pt'; check the path"
    ):
        read_checkpoint(tmp_path / "nothing.pt")


def test_a_mapping_is_taken_as_it_stands():
    state = example()
    assert_same(read_weights(state), state)


def test_metadata_of_json_survives(tmp_path):
    metadata = {"config": json.dumps({"dim": 3})}
    save_weights(tmp_path / "w.safetensors", example(), metadata)
    assert json.loads(read_metadata(tmp_path / "w.safetensors")["config"]) == {"dim": 3}


def test_a_state_knows_the_metadata_of_its_file(tmp_path):
    save_weights(tmp_path / "w.safetensors", example(), {"model": "painter"})
    assert metadata_of(read_checkpoint(tmp_path / "w.safetensors")) == {"model": "painter"}
    assert metadata_of(example()) == {}
    torch.save(example(), tmp_path / "w.pt")
    assert metadata_of(read_checkpoint(tmp_path / "w.pt")) == {}


def test_metadata_is_added_and_the_tensors_stay_bit_for_bit(tmp_path):
    state = example() | {"half": torch.tensor([0.1, float("nan")], dtype=torch.float16)}
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_weights(source, state, {"model": "painter", "step": "1"})
    expected = {"model": "painter", "step": "2", "licence": "MIT"}
    assert add_metadata(source, target, {"step": "2", "licence": "MIT"}) == expected
    assert read_metadata(target) == expected
    contents = [path.read_bytes() for path in (source, target)]
    tensors = [content[8 + int.from_bytes(content[:8], "little") :] for content in contents]
    assert tensors[0] == tensors[1]
    assert load_file(target)["half"].dtype == torch.float16
    torch.save(example(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt is no safetensors file"):
        add_metadata(tmp_path / "w.pt", target, {})


def test_the_checksum_of_a_state_by_hand():
    state = {"b": torch.tensor(True), "a": torch.tensor([[1.0, 2.0]])}
    content = b"a torch.float32 (1, 2)" + np.array([1, 2], "<f4").tobytes()
    content += b"b torch.bool ()\x01"
    assert state_sha256(state) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([[1.0], [2.0]])},
        {"a": torch.tensor([[1.0, 2.0]], dtype=torch.float64)},
        {"c": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([[1.0, 2.0]]), "c": torch.zeros(0)},
    ],
)
def test_the_checksum_of_a_state_tells_states_apart(other):
    same = torch.tensor([[1.0, 9.0, 2.0]])[:, ::2]  # not contiguous
    assert state_sha256({"a": same}) == state_sha256({"a": same.clone()})
    assert state_sha256(other) != state_sha256({"a": same})


def test_the_sign_of_a_zero_is_not_in_the_checksum() -> None:
    """A running average of -0.0 is 0.0, and the weights are equal."""
    before = torch.tensor([-0.0, 1.5])
    after = before.lerp(before, 0.005)
    assert torch.equal(before, after)
    assert not torch.equal(before.signbit(), after.signbit())
    assert state_sha256({"a": before}) == state_sha256({"a": after})
    assert state_sha256({"a": before}) != state_sha256({"a": before + 1})
