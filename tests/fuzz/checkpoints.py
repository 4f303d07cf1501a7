"""Fuzzing of the readers of weights, with their own branches as the guide.

``python tests/fuzz/checkpoints.py -max_total_time=60``; needs ``pip install atheris``. Ends with an
error where a file brings about anything but tensors or an ``UnsafeCheckpointError``, or opens,
starts or imports something.
"""

import contextlib
import io
import pickle
import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import numpy as np
from damage import damaged

with atheris.instrument_imports(include=["lexiseg._checkpoint"]):
    from lexiseg._checkpoint import containers, machine, packed, plain, records, values  # noqa: F401

import torch

from lexiseg.weights import UnsafeCheckpointError, read_checkpoint, save_weights

FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.spawn", "socket.connect", "pty.spawn")
FILE = Path(tempfile.mkdtemp()) / "weights"


def test_one_input(data: bytes) -> None:
    """Reads weights and, from the same bytes, the plain data of a data set."""
    if len(data) > 1 and data[0] < 200:
        data = damaged(data, GOOD)
    FILE.write_bytes(data)
    try:
        state = read_checkpoint(FILE)
    except UnsafeCheckpointError:
        pass
    else:
        assert all(isinstance(value, torch.Tensor) for value in state.values())
    with contextlib.suppress(UnsafeCheckpointError):
        plain.read_plain(data, "x", most_opcodes=10_000)


def seeds() -> list[bytes]:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor([1, 2])}
    made = []
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"model": state, "step": 1}, buffer, _use_new_zipfile_serialization=new)
        made.append(buffer.getvalue())
    arrays = {key: np.asarray(value) for key, value in state.items()}
    made += [pickle.dumps(arrays, protocol) for protocol in (2, 4)]
    made.append(pickle.dumps([{"sent": "a dog", "n": (1, None, 2.5)}], 2))
    save_weights(FILE, state, {"model": "x"})
    return [*made, FILE.read_bytes()]


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Python tells of all that is started or connected to."""
    if event.startswith(FORBIDDEN):
        raise SystemExit(f"{event} {arguments!r}")


GOOD = seeds()

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.addaudithook(watch)
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
