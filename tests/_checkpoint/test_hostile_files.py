"""Files that want code run, memory wasted or readers confused: refused, whatever their format."""

import io
import json
import pickle
import random
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.weights import UnsafeCheckpointError, read_checkpoint, save_weights
from tests._checkpoint.hostile import Command, Evaluation

PATIENCE_SECONDS = 5
MOST_GROWTH = 200 * 2**20


class NestedLoad(Command):
    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(Command(self.canary)),)


class StateSetter(Command):
    """A state for a tensor, which Python would hand to its __setstate__."""

    def __reduce__(self):
        return torch.Tensor, (), (1, 2, 3, 4)


GADGETS = [Command, Evaluation, NestedLoad, StateSetter]


def pack(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def torch_bytes(content: object, *, new_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=new_format)
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def opcodes(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def tensor_pickle(
    *, length: int, offset: int = 0, size: tuple = (4,), stride: tuple = (1,)
) -> bytes:
    """A torch index with one tensor "a" of any bounds over storage "0"."""

    class Stand:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Place(), offset, size, stride, False, {})

    class Place:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Place):
                return ("storage", torch.FloatStorage, "0", "cpu", length)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"a": Stand()})
    return pack({"archive/data.pkl": buffer.getvalue(), "archive/data/0": b"\0" * 16})


def laughs() -> bytes:
    inner: dict = {"x": 1}
    for _ in range(40):
        inner = {str(i): inner for i in range(10)}
    return pickle.dumps(inner, protocol=2)


def own_tail() -> bytes:
    ring: dict = {}
    ring["a"] = ring
    return pickle.dumps(ring, protocol=2)


def nested_lists() -> bytes:
    return opcodes(b"]" * 3000 + b"a" * 2999)


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
GOOD = torch_bytes({"a": torch.arange(4.0)})
HOSTILE = {
    "empty": b"",
    "text": b"not a checkpoint",
    "html": b"<html><body>quota exceeded</body></html>",
    "old text pickle": b"cos\nsystem\n(S'true'\ntR.",
    "instance opcode": opcodes(b"(S'true'\nios\nsystem\n"),
    "object opcode": opcodes(b"(cos\nsystem\nS'true'\no"),
    "extension opcode": opcodes(b"\x82\x01"),
    "text persistent id": opcodes(b"Pabc\n"),
    "memo bomb": opcodes(b"N" + b"r" + struct.pack("<I", 2**32 - 1)),
    "long text declared": opcodes(b"\x8d" + struct.pack("<Q", 2**62) + b"abc"),
    "long frame declared": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "integer of absurd length": opcodes(b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6),
    "stack underflow": opcodes(b"0"),
    "set on nothing": opcodes(b"NNNs"),
    "tuple as a key": pickle.dumps({("a", "b"): 1}, protocol=2),
    "no tensors": pickle.dumps({"a": 1}, protocol=2),
    "array of objects": pickle.dumps({"a": np.array([{}], dtype=object)}, protocol=2),
    "array of records": pickle.dumps({"a": np.zeros(1, "i4,f4")}, protocol=2),
    "big-endian array": pickle.dumps({"a": np.zeros(1, ">f4")}, protocol=2),
    "laughs": laughs(),
    "own tail": own_tail(),
    "nested lists": nested_lists(),
    "truncated archive": GOOD[:-30],
    "truncated index": pack({"archive/data.pkl": unpack(GOOD)["archive/data.pkl"][:-20]}),
    "truncated older format": torch_bytes({"a": torch.ones(9)}, new_format=False)[:-8],
    "storage missing": pack({"archive/data.pkl": unpack(GOOD)["archive/data.pkl"]}),
    "two indices": pack({"a/data.pkl": b"", "b/data.pkl": b""}),
    "path upwards": pack(unpack(GOOD) | {"../../outside": b"x"}),
    "path from the root": pack(unpack(GOOD) | {"/outside": b"x"}),
    "path of windows": pack(unpack(GOOD) | {"..\\outside": b"x"}),
    "big-endian archive": pack(unpack(GOOD) | {"archive/byteorder": b"big"}),
    "deflated bomb": pack(
        unpack(GOOD) | {"archive/data/0": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED
    ),
    "huge tensor": tensor_pickle(length=2**40, size=(2**40,)),
    "tensor beyond its storage": tensor_pickle(length=4, size=(5,)),
    "tensor behind its storage": tensor_pickle(length=4, offset=2),
    "negative offset": tensor_pickle(length=4, offset=-1),
    "negative size": tensor_pickle(length=4, size=(-4,)),
    "stride of another rank": tensor_pickle(length=4, stride=(1, 1)),
    "tensor of one number repeated": tensor_pickle(length=4, size=(2**33,), stride=(0,)),
    "tensor with too many axes": tensor_pickle(length=4, size=(1,) * 99, stride=(1,) * 99),
    "header bomb": safetensors({"a": ROW}, bytes(8), length=2**60),
    "header longer than the file": safetensors({"a": ROW}, bytes(8), length=500),
    "header not json": safetensors(b"{not json"),
    "header nested": safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "one name twice": safetensors(
        b'{"a":%(row)s,"a":%(row)s}' % {b"row": json.dumps(ROW).encode()}, bytes(8)
    ),
    "tensor larger than the file": safetensors(
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)
    ),
    "shape that is not the data's": safetensors({"a": ROW | {"shape": [3]}}, bytes(8)),
    "unknown type": safetensors({"a": ROW | {"dtype": "OBJECT"}}, bytes(8)),
}


def assert_refused(path: Path, match: str | None = None) -> None:
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with pytest.raises(UnsafeCheckpointError, match=match):
        read_checkpoint(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < MOST_GROWTH
    assert time.process_time() - begin < PATIENCE_SECONDS


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    path = tmp_path / "weights.pt"
    path.write_bytes(HOSTILE[name])
    assert_refused(path)


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("place", ["plain", "array", "new torch", "old torch", "deep"])
def test_no_code_is_run(tmp_path, gadget, place):
    canary, path = tmp_path / "canary", tmp_path / "weights.pt"
    trap = gadget(canary)
    contents = {
        "plain": lambda: pickle.dumps(trap),
        "array": lambda: pickle.dumps({"model": {"a": np.ones(1)}, "note": trap}),
        "new torch": lambda: torch_bytes({"a": torch.ones(1), "b": trap}),
        "old torch": lambda: torch_bytes({"a": torch.ones(1), "b": trap}, new_format=False),
        "deep": lambda: torch_bytes({"state_dict": {"a": torch.ones(1)}, "b": [[({}, [trap])]]}),
    }
    path.write_bytes(contents[place]())
    assert_refused(path, match="the file asks for .*; it was not run")
    assert not canary.exists()


def test_the_work_of_the_machine_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("lexiseg._checkpoint.machine.MOST_OPCODES", 1000)
    (tmp_path / "w.pt").write_bytes(opcodes(b"N0" * 600 + b"N"))
    assert_refused(tmp_path / "w.pt", match="more than 1000 opcodes")


def test_the_canary_works(tmp_path):
    pickle.loads(pickle.dumps(Command(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_code_in_a_torchscript_archive_is_not_read(tmp_path):
    files = unpack(GOOD) | {"archive/code/__torch__.py": b"import os; os.system('true')"}
    (tmp_path / "w.pt").write_bytes(pack(files))
    assert torch.equal(read_checkpoint(tmp_path / "w.pt")["a"], torch.arange(4.0))


def test_a_name_that_stands_twice_in_an_archive(tmp_path):
    buffer = io.BytesIO(GOOD)
    with (
        zipfile.ZipFile(buffer, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("archive/data.pkl", b"other")
    (tmp_path / "w.pt").write_bytes(buffer.getvalue())
    assert_refused(tmp_path / "w.pt", match="one name twice")


def test_a_whole_module_is_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    assert_refused(tmp_path / "w.pt", match=r"the file asks for torch\.nn\.modules\.linear\.Linear")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of old text opcodes
@pytest.mark.parametrize("kind", ["new", "old", "array", "safetensors"])
def test_damaged_bytes_never_give_another_error(tmp_path, kind):
    good, path = tmp_path / "good", tmp_path / "bad"
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
    if kind == "safetensors":
        save_weights(good, state, {"note": "x"})
    elif kind == "array":
        good.write_bytes(pickle.dumps({k: v.numpy() for k, v in state.items()}, protocol=2))
    else:
        good.write_bytes(torch_bytes(state, new_format=kind == "new"))
    chance = random.Random(0)
    for _ in range(200):
        content = bytearray(good.read_bytes())
        for _ in range(chance.choice([1, 1, 4])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except UnsafeCheckpointError:
            continue
