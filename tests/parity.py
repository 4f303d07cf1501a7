"""Parity cases: what the authors' code gave, and how to compare with it.

The same recordings lie in two places. The full ones stand beside the repository in
``../shared/parity``; a compact copy, whose large arrays are thinned out, in ``parity_cases``
(made by ``python -m tests.make_parity_cases``). Parametrize a test over ``SOURCES``::

    @pytest.mark.parametrize("source", SOURCES)
    def test_catseg_parity_logits(source):
        case = cases("catseg", source).open("vitb384_synth_5.npz")
        ...
        case.check("logits", logits, absolute=5e-5)
"""

import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
FULL = REPOSITORY.parent / "shared" / "parity"
COMPACT = REPOSITORY / "tests" / "parity_cases"
SOURCES = ("compact", "full")
THINNING = "thinning.json"  # beside the compact arrays: how each was thinned out
PACKED = ".packed"  # ends the name of a photograph that pack_photo has gone over
PACKED_BATCH = ".packed_batch"  # or of several of one size, that pack_photos has

Run = TypeVar("Run", bound=Callable[..., Any])
_kept: list[Any] = []


@dataclass(frozen=True)
class Case(Mapping[str, np.ndarray]):
    """The arrays of one recording; ``check`` knows which part of an array was kept."""

    name: str
    arrays: Mapping[str, np.ndarray]
    thinning: Mapping[str, Any]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def tensor(self, key: str) -> Tensor:
        """An array as a tensor."""
        return torch.from_numpy(np.array(self.arrays[key]))

    def thin(self, key: str, values: np.ndarray) -> np.ndarray:
        """The part of an array of the full recording's shape that this recording holds."""
        steps = self.thinning.get(key, {}).get("steps", [])
        return values[tuple(slice(None, None, step) for step in steps)]

    def check(
        self,
        key: str,
        actual: Tensor | np.ndarray,
        *,
        relative: float = 2e-5,
        absolute: float | None = None,
    ) -> None:
        """Compare with a recording.

        Args:
            key: of the recorded array.
            actual: of the shape that the full recording has, strides of its README included.
            relative: largest difference allowed, as a part of the full array's largest magnitude.
            absolute: largest difference allowed, instead of ``relative``.
        """
        actual = actual.detach().cpu().numpy() if isinstance(actual, Tensor) else actual
        recorded = self.arrays[key]
        actual = self.thin(key, actual)
        assert actual.shape == recorded.shape, f"{self.name} {key}: shape"
        largest = self.thinning.get(key, {}).get("largest")
        if largest is None:
            largest = float(np.abs(recorded).max(initial=0))
        bound = relative * largest if absolute is None else absolute
        difference = np.abs(actual.astype(np.float64) - recorded.astype(np.float64))
        worst = float(difference.max(initial=0))
        assert worst <= bound, f"{self.name} {key}: differs by {worst:.3g}, allowed {bound:.3g}"


@dataclass(frozen=True)
class Cases:
    """The recordings of one method in one place."""

    folder: Path

    def open(self, name: str) -> Case:
        """A recording by its file's name."""
        with np.load(self.folder / name) as file:
            arrays = dict(_unpacked(key, file[key]) for key in file.files)
        thinning = self.folder / THINNING
        rules = json.loads(thinning.read_text()) if thinning.is_file() else {}
        return Case(name, arrays, rules.get(name, {}))

    def json(self, name: str) -> Any:
        """A JSON file, packed or not."""
        path = self.folder / name
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        return json.loads(gzip.decompress(path.with_name(f"{name}.gz").read_bytes()))

    def weights(self, manifest: str) -> dict[str, Tensor]:
        """The checkpoint that a manifest stands for; do not change its tensors."""
        return _weights(self.folder, json.dumps(self.json(manifest)))


def cases(method: str, source: str) -> Cases:
    """The recordings of a method; without the full ones the test is skipped, or fails in CI."""
    if source == "compact":
        return Cases(COMPACT / method)
    folder = FULL / method
    if not folder.is_dir():
        reason = f"the full parity cases, ../shared/parity/{method}, are not here"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must not skip them")
        pytest.skip(reason)
    return Cases(folder)


def pack_photo(photo: np.ndarray) -> np.ndarray:
    """The same numbers, as differences that zip packs a third smaller."""
    colours = photo.copy()
    colours[..., ::2] -= photo[..., 1:2]
    return np.diff(colours.transpose(2, 0, 1), axis=2, prepend=np.uint8(0))


def unpack_photo(packed: np.ndarray) -> np.ndarray:
    """The photograph that ``pack_photo`` was given."""
    colours = np.cumsum(packed, axis=2, dtype=np.uint8).transpose(1, 2, 0)
    colours[..., ::2] += colours[..., 1:2]
    return np.ascontiguousarray(colours)


def pack_photos(photos: np.ndarray) -> np.ndarray:
    """The same numbers of B x H x W x 3, as differences both ways; noise packs better so."""
    packed = np.stack([pack_photo(photo) for photo in photos])
    return np.diff(packed, axis=2, prepend=np.uint8(0))


def unpack_photos(packed: np.ndarray) -> np.ndarray:
    """The photographs that ``pack_photos`` was given."""
    rows = np.cumsum(packed, axis=2, dtype=np.uint8)
    return np.stack([unpack_photo(each) for each in rows])


def _unpacked(key: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """The name and the numbers of an array as they were recorded."""
    if key.endswith(PACKED_BATCH):
        return key.removesuffix(PACKED_BATCH), unpack_photos(array)
    if key.endswith(PACKED):
        return key.removesuffix(PACKED), unpack_photo(array)
    return key, array


def once(run: Run) -> Run:
    """Keep what a function gave for the tests that follow, until ``forget``."""
    kept = lru_cache(maxsize=16)(run)
    _kept.append(kept)
    return cast(Run, kept)


def forget() -> None:
    """Let go of models and recordings, which are more than a gigabyte."""
    for kept in (*_kept, _weights):
        kept.cache_clear()


@lru_cache(maxsize=2)
def _weights(folder: Path, rows: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, row in json.loads(rows).items():
        if "stored" in row:
            with np.load(folder / row["stored"]) as file:
                state[name] = torch.from_numpy(np.array(file[name]))
        elif row.get("fill", True):
            values = fill(name, tuple(row["shape"])) * np.float32(row.get("scale", 1))
            state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that belong to a parameter's name: noise of a size that suits its role."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = generator.standard_normal(shape)
    last = name.split(".")[-1]
    if last == "num_batches_tracked":
        values = 0 * noise
    elif last == "running_var":
        values = np.exp(0.1 * noise)
    elif last == "running_mean":
        values = 0.1 * noise
    elif last == "logit_scale":
        values = 0 * noise + math.log(1 / 0.07)
    elif last == "bias" or last.endswith("_bias"):
        values = 0.02 * noise
    elif last.endswith("embedding") or "embed" in name or last == "relative_position_bias_table":
        values = 0.1 * noise
    elif len(shape) > 1:
        values = noise / math.sqrt(math.prod(shape[1:]))
    else:
        values = 1 + 0.1 * noise
    return np.asarray(values, np.float32)
