"""What a pickle is read into: inert records, of which nothing is looked up or called."""

from dataclasses import dataclass, field
from typing import Any

import torch

STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class UnsafeCheckpointError(ValueError):
    """A checkpoint asks for code, is damaged, or is of no known format."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name in a file, such as ``torch._utils._rebuild_tensor_v2``; nothing is looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Made:
    """What a call in the file would have made."""

    maker: Global
    args: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A run of numbers kept outside the pickle."""

    key: str
    dtype: torch.dtype
    length: int
