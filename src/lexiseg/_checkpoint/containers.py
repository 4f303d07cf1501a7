"""The files around a pickle: torch's zip archives, its older format, and plain pickles."""

import io
import mmap
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg._checkpoint.machine import DECODING_ERRORS, Machine
from lexiseg._checkpoint.records import StorageRef, UnsafeCheckpointError
from lexiseg._checkpoint.values import Resolver, TensorRef, flatten, is_allowed

LARGEST_PICKLE = 64 * 2**20
MOST_FILES = 100_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
WRAPPERS = ("model", "state_dict")

BytesOf = Callable[[StorageRef], bytearray]


def read_pickled(path: Path) -> dict[str, Tensor]:
    """All tensors of a file of torch or of a pickle of arrays, wrappers taken off.

    Raises:
        UnsafeCheckpointError: the file asks for code, is damaged, or is of no known format.
    """
    with path.open("rb") as file:
        start = file.read(4)
    try:
        if start == b"PK\x03\x04":
            return _read_zip(path)
        if start[:1] == b"\x80":
            return _read_stream(path)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path.name}: {error}") from error
    except (*DECODING_ERRORS, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UnsafeCheckpointError(f"{path.name} is damaged: {error}; get it again") from error
    raise UnsafeCheckpointError(
        f"{path.name} is of no known format; known are safetensors, files of torch.save, "
        "TorchScript archives and pickles of NumPy arrays"
    )


def _read_zip(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        entries = _check_entries(archive, path.stat().st_size)
        (pickled,) = [name for name in entries if re.fullmatch("[^/]+/data.pkl", name)]
        root = pickled.removesuffix("data.pkl")
        if entries[pickled].file_size > LARGEST_PICKLE:
            raise UnsafeCheckpointError(f"its index is larger than {LARGEST_PICKLE} bytes")
        byte_order = entries.get(f"{root}byteorder")
        if byte_order is not None and archive.read(byte_order) != b"little":
            raise UnsafeCheckpointError("its numbers are not little-endian; save it again on a PC")

        def bytes_of(storage: StorageRef) -> bytearray:
            entry = entries[f"{root}data/{storage.key}"]
            if entry.file_size != storage.length * storage.dtype.itemsize:
                raise ValueError(f"storage {storage.key!r} is not of its declared length")
            return bytearray(archive.read(entry))

        content = Machine(io.BytesIO(archive.read(entries[pickled])), is_allowed).run()
        return _materialise(content, bytes_of, path.stat().st_size)


def _check_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by name; they are stored as they are, so they cannot grow on reading."""
    infos = archive.infolist()
    entries = {info.filename: info for info in infos}
    if len(infos) > MOST_FILES or len(entries) < len(infos):
        raise UnsafeCheckpointError("its archive holds too many files, or one name twice")
    for info in infos:
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0] or ":" in parts[0]:
            raise UnsafeCheckpointError(f"its archive holds the path {info.filename[:100]!r}")
    stored = [info for info in infos if _is_read(info.filename)]
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in stored):
        raise UnsafeCheckpointError("its archive is compressed or encrypted, as torch never is")
    if any(not 0 <= info.header_offset < size for info in stored):
        raise ValueError("a file of its archive lies outside of it")
    if sum(info.file_size for info in stored) > size:
        raise UnsafeCheckpointError("its archive declares more bytes than the file has")
    return entries


def _is_read(name: str) -> bool:
    """Whether an entry holds weights; TorchScript archives pack their code, which is not read."""
    return "/code/" not in name and not name.endswith((".debug_pkl", "/"))


def _read_stream(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        first = Machine(stream, is_allowed).run()
        if first != LEGACY_MAGIC:
            return _materialise(first, _no_storage, len(stream))
        if Machine(stream, is_allowed).run() != LEGACY_VERSION:
            raise UnsafeCheckpointError("an unknown version of torch's older format")
        Machine(stream, is_allowed).run()  # about the machine it was written on
        machine = Machine(stream, is_allowed)
        content = machine.run()
        keys = Machine(stream, is_allowed).run()
        places = _legacy_places(stream, [machine.storages[key] for key in keys])

        def bytes_of(storage: StorageRef) -> bytearray:
            begin, length = places[storage.key]
            return bytearray(stream[begin : begin + length])

        return _materialise(content, bytes_of, len(stream))


def _legacy_places(stream: mmap.mmap, storages: list[StorageRef]) -> dict[str, tuple[int, int]]:
    """Where each storage lies: they follow one another, each after its number of elements."""
    places: dict[str, tuple[int, int]] = {}
    position = stream.tell()
    for storage in storages:
        length = storage.length * storage.dtype.itemsize
        declared = int.from_bytes(stream[position : position + 8], "little")
        if declared != storage.length or position + 8 + length > len(stream):
            raise ValueError(f"storage {storage.key!r} is not of its declared length")
        places[storage.key] = (position + 8, length)
        position += 8 + length
    return places


def _no_storage(storage: StorageRef) -> bytearray:
    raise ValueError("a plain pickle cannot hold a torch storage")


def _materialise(content: Any, bytes_of: BytesOf, file_size: int) -> dict[str, Tensor]:
    """The tensors of what was read; their sizes are checked before any memory is taken."""
    refs = flatten(unwrap(Resolver()(content)))
    if not refs:
        raise UnsafeCheckpointError("it holds no tensors")
    if sum(ref.nbytes for ref in refs.values() if isinstance(ref, TensorRef)) > 2 * file_size:
        raise UnsafeCheckpointError("its tensors take far more memory than the file has bytes")
    storages: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for key, ref in refs.items():
        if isinstance(ref, TensorRef):
            if ref.storage.key not in storages:
                storages[ref.storage.key] = _numbers(ref.storage, bytes_of)
            whole = storages[ref.storage.key]
            state[key] = whole.as_strided(ref.size, ref.stride, ref.offset).contiguous()
        else:
            state[key] = ref
    return state


def _numbers(storage: StorageRef, bytes_of: BytesOf) -> Tensor:
    if not storage.length:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytes_of(storage), dtype=storage.dtype)


def unwrap(content: Any) -> Any:
    """The state dict inside ``{"model": ...}`` and its like, however deep."""
    while isinstance(content, dict):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), dict)), None)
        if inner is None:
            break
        content = inner
    return content
