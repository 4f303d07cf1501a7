"""Files of weights, read without running anything in them, and written whole.

The readers themselves are in ``_checkpoint/``.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int8
from safetensors.torch import save as pack_safetensors
from torch import Tensor

from lexiseg._checkpoint.containers import WRAPPERS, read_pickled, unwrap
from lexiseg._checkpoint.packed import is_packed, read_header, read_packed, with_metadata
from lexiseg._checkpoint.records import UnsafeCheckpointError
from lexiseg.atomic import write_atomically
from lexiseg.weights.records import Weights, fetch

Source = str | Path | Mapping[str, Any] | Weights


class FileState(dict[str, Tensor]):
    """The tensors of a file by name.

    Attributes:
        metadata: what ``save_weights`` was given besides; empty for other files.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        super().__init__(tensors)
        self.metadata = dict(metadata)


def metadata_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata of the file that a state was read from; empty where it is from no file."""
    return state.metadata if isinstance(state, FileState) else {}


def read_weights(source: Source) -> dict[str, Tensor]:
    """The state dict of a file, of a record (fetched if need be), or of a mapping.

    A wrapper ``model`` or ``state_dict`` is taken off a mapping too; otherwise it is as it stands.
    """
    if isinstance(source, Mapping):
        return dict(unwrap(dict(source)))
    return read_checkpoint(fetch(source) if isinstance(source, Weights) else source)


def parts_of(source: Any) -> dict[str, Source] | None:
    """The files of a model that is put together of several, by part; None where it is one file.

    A mapping holds parts where paths, records or state dicts stand in the place of tensors.
    """
    if isinstance(source, Weights) and source.parts:
        return dict(source.parts)
    if not isinstance(source, Mapping) or not source or set(WRAPPERS) & set(source):
        return None
    kinds = (str, os.PathLike, Weights, Mapping)
    return dict(source) if all(isinstance(value, kinds) for value in source.values()) else None


def read_checkpoint(path: str | Path) -> FileState:
    """All tensors of a checkpoint by name; half precision becomes float32, int8 is dequantised.

    Known are safetensors, files of ``torch.save`` (both formats), TorchScript archives, and
    pickles of NumPy arrays as detectron2 writes them. A wrapper ``model`` or ``state_dict`` is
    taken off. No code of the file is run, whatever it asks for.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file asks for code, is damaged, or is of no known format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {str(path)!r}; check the path")
    state = read_packed(path) if is_packed(path) else read_pickled(path)
    widened = {key: _widen(value) for key, value in dequantise(state).items()}
    return FileState(widened, read_metadata(path))


def read_metadata(path: str | Path) -> dict[str, str]:
    """What ``save_weights`` was given as metadata; empty for other files."""
    path = Path(path)
    if not is_packed(path):
        return {}
    return dict(read_header(path).get("__metadata__", {}))


def save_weights(
    path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write safetensors: whole or not at all, and the same bytes for the same contents."""
    tensors = {key: state[key].detach().cpu().contiguous().clone() for key in sorted(state)}
    packed = pack_safetensors(tensors)
    if metadata:
        packed = with_metadata(packed, metadata)
    write_atomically(Path(path), packed)


def add_metadata(
    source: str | Path, target: str | Path, metadata: Mapping[str, str]
) -> dict[str, str]:
    """Copy safetensors, their tensors bit for bit, with more metadata; gives all of it.

    Raises:
        UnsafeCheckpointError: the file is damaged or holds no safetensors.
    """
    source = Path(source)
    if not is_packed(source):
        raise UnsafeCheckpointError(f"{source} is no safetensors file")
    added = {**read_metadata(source), **metadata}
    save_weights(target, read_packed(source), added)
    return added


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """A checksum of names, types, shapes and values, whatever file or device they are on.

    Equal states have equal checksums: the sign of a zero makes no difference. A running average
    loses it.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        if tensor.is_floating_point():
            tensor = tensor + 0.0  # -0.0, which equals 0.0, becomes it
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def dequantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with each int8 ``NAME`` that has a ``NAME_scale`` multiplied out to float32."""
    packed = [
        key for key, value in state.items() if value.dtype == torch.int8 and f"{key}_scale" in state
    ]
    scales = {f"{key}_scale" for key in packed}
    result = {key: value for key, value in state.items() if key not in scales}
    for key in packed:
        rows = state[f"{key}_scale"].float()
        result[key] = state[key].float().mul_(rows.reshape(-1, *[1] * (state[key].dim() - 1)))
    return result


def quantise_rows(
    tensor: Float[Tensor, "N ..."],
) -> tuple[Int8[Tensor, "N ..."], Float[Tensor, " N"]]:
    """A tensor as int8 and one scale a row; the error is at most half a scale."""
    largest = tensor.detach().float().abs().reshape(len(tensor), -1).amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    steps = tensor.detach().float() / scale.reshape(-1, *[1] * (tensor.dim() - 1))
    return steps.round().clamp(-127, 127).to(torch.int8), scale


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
