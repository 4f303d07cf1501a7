"""Files of thirty kinds that want code run, memory wasted or readers confused."""

import pickle
from pathlib import Path

import torch

from tests._checkpoint.hostile import Command, Evaluation
from tests._checkpoint.test_hostile_files import GADGETS, HOSTILE, pack, torch_bytes, unpack

DAMAGED = [
    *("empty", "old text pickle", "instance opcode", "memo bomb", "laughs", "own tail"),
    *("truncated archive", "path upwards", "deflated bomb", "huge tensor"),
    *("tensor beyond its storage", "header bomb", "header nested", "one name twice"),
    *("tensor larger than the file", "long text declared"),
]


def arrays_of(trap: Command) -> bytes:
    """An array file of NumPy that holds an object."""
    return (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
        + b"\n"
        + pickle.dumps(trap)
    )


def corpus(canary: Path) -> dict[str, bytes]:
    """Hostile files by name; if one of them has its way, there is a canary."""
    traps = {gadget.__name__: gadget(canary) for gadget in GADGETS}
    kinds = {f"pickle of {name}": pickle.dumps(trap) for name, trap in traps.items()}
    for name, trap in traps.items():
        kinds[f"torch file with {name}"] = torch_bytes({"gain": torch.ones(()), "note": trap})
        kinds[f"older torch file with {name}"] = torch_bytes(
            {"gain": torch.ones(()), "note": trap}, new_format=False
        )
    code = f"open({str(canary)!r}, 'w').close()".encode()
    script = unpack(torch_bytes({"note": Evaluation(canary)}))
    kinds["TorchScript with code"] = pack(script | {"archive/code/__torch__.py": code})
    kinds["NumPy file with an object"] = arrays_of(traps["Command"])
    return kinds | {name: HOSTILE[name] for name in DAMAGED}
