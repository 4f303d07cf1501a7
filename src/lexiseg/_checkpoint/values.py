"""From a pickle's inert records to values: the short list of what weights may hold."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lexiseg._checkpoint.records import STORAGE_TYPES, Global, Made, StorageRef

MOST_ENTRIES = 200_000
MOST_DIMENSIONS = 16
ARRAY_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
DTYPES = {str(dtype).removeprefix("torch.") for dtype in STORAGE_TYPES.values()}


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A view of a storage; its bounds have been checked."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Memory that the tensor takes."""
        return math.prod(self.size) * self.storage.dtype.itemsize


class Resolver:
    """Turns what a :class:`Machine` read into dictionaries, lists, numbers and tensors.

    Tensors whose numbers lie outside the pickle stay :class:`TensorRef`. Each record is resolved
    once, however often a file points to it.
    """

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def __call__(self, value: Any) -> Any:
        """The value of a record, and of all inside it."""
        if not isinstance(value, Made | dict | list | tuple):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if id(value) in self._open:
            raise ValueError("a record holds itself")
        self._open.add(id(value))
        result = self._resolve(value)
        self._open.remove(id(value))
        self._done[id(value)] = result
        return result

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Made):
            return _handler(value.maker)(self, value)
        if isinstance(value, dict):
            return {key: self(item) for key, item in value.items()}
        return type(value)(self(item) for item in value)


def is_allowed(name: Global) -> bool:
    """Whether weights may hold this name."""
    if name.module == "torch":
        return name.name in STORAGE_TYPES or name.name in DTYPES or str(name) in HANDLERS
    return str(name) in HANDLERS or _is_scripted(name)


def flatten(value: Any) -> dict[str, Tensor | TensorRef]:
    """All tensors in nested dictionaries, their keys joined by dots; other values are left out."""
    return dict(_tensors("", value, [MOST_ENTRIES]))


def _tensors(prefix: str, value: Any, left: list[int]) -> Iterator[tuple[str, Tensor | TensorRef]]:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"more than {MOST_ENTRIES} entries")
    if isinstance(value, Tensor | TensorRef):
        yield prefix, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(f"{prefix}.{key}" if prefix else str(key), item, left)


def _is_scripted(name: Global) -> bool:
    return name.module.split(".")[0] == "__torch__"


def _handler(maker: Global) -> Callable[[Resolver, Made], Any]:
    return _state if _is_scripted(maker) else HANDLERS[str(maker)]


def _dictionary(resolve: Resolver, made: Made) -> Any:
    given = made.args[0] if made.args and isinstance(made.args[0], list | dict) else {}
    return {**dict(resolve(given)), **resolve(made.items)}


def _state(resolve: Resolver, made: Made) -> Any:
    return resolve(made.state)


def _first_argument(resolve: Resolver, made: Made) -> Any:
    return resolve(made.args[0])


def _opaque(resolve: Resolver, made: Made) -> Any:
    return None


def _tensor(resolve: Resolver, made: Made) -> TensorRef:
    storage, offset, size, stride = made.args[:4]
    numbers = (offset, *size, *stride)
    if not isinstance(storage, StorageRef) or len(size) != len(stride):
        raise ValueError("a tensor without a storage, or with a stride that is not of its size")
    if len(size) > MOST_DIMENSIONS or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError("a tensor with an impossible size")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= storage.length or count > storage.length):
        raise ValueError(f"a tensor of size {size} in a storage of {storage.length} numbers")
    return TensorRef(storage, offset, tuple(size), tuple(stride))


def _dtype(made: Any) -> np.dtype:
    """The NumPy type that a record describes; only plain little-endian numbers are taken."""
    if not isinstance(made, Made) or str(made.maker) != "numpy.dtype":
        raise ValueError("an array without a type")
    code = made.args[0]
    order = made.state[1] if made.state is not None else "<"
    if code not in ARRAY_TYPES or order not in ("<", "|", "="):
        raise ValueError(f"an array of type {order}{code}")
    return np.dtype(code)


def _raw(resolve: Resolver, value: Any) -> bytes:
    value = resolve(value)
    if isinstance(value, str):  # Python 2 wrote bytes as text
        value = value.encode("latin-1")
    if not isinstance(value, bytes | bytearray):
        raise ValueError("an array without its bytes")
    return bytes(value)


def _to_tensor(raw: bytes, dtype: np.dtype, shape: Any, order: Any) -> Tensor:
    if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError("an array with an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {tuple(shape)} in {len(raw)} bytes")
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return torch.from_numpy(np.array(array, order="C"))


def _array(resolve: Resolver, made: Made) -> Tensor:
    _version, shape, dtype, is_fortran, raw = made.state
    return _to_tensor(_raw(resolve, raw), _dtype(dtype), shape, "F" if is_fortran else "C")


def _array_of_buffer(resolve: Resolver, made: Made) -> Tensor:
    raw, dtype, shape, order = made.args
    return _to_tensor(_raw(resolve, raw), _dtype(dtype), shape, order)


def _scalar(resolve: Resolver, made: Made) -> Tensor:
    dtype, raw = made.args
    return _to_tensor(_raw(resolve, raw), _dtype(dtype), (), "C")


def _encoded(resolve: Resolver, made: Made) -> bytes:
    text, encoding = made.args
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text in the encoding {encoding!r}")
    return text.encode("latin-1")


HANDLERS: dict[str, Callable[[Resolver, Made], Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    "collections.Counter": _dictionary,
    "argparse.Namespace": _opaque,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first_argument,
    "torch.Size": _first_argument,
    "torch.device": _opaque,
    "torch.jit._pickle.build_intlist": _opaque,
    "torch.jit._pickle.build_doublelist": _opaque,
    "torch.jit._pickle.build_boollist": _opaque,
    "torch.jit._pickle.build_tensorlist": _opaque,
    "torch.jit._pickle.restore_type_tag": _first_argument,
    "numpy.ndarray": _opaque,
    "numpy.dtype": _opaque,
    "_codecs.encode": _encoded,
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_of_buffer for core in ("core", "_core")},
}
