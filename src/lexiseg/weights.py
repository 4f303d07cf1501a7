"""Weights: their records, and the way from a file or URL into a module.

Reading never runs code that a file holds; see ``_checkpoint/``.
"""

import hashlib
import http.client
import logging
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int8
from safetensors.torch import save as pack_safetensors
from torch import Tensor, nn

from lexiseg._checkpoint.containers import WRAPPERS, read_pickled, unwrap
from lexiseg._checkpoint.machine import UnsafeCheckpointError
from lexiseg._checkpoint.packed import is_packed, read_header, read_packed, with_metadata

__all__ = [
    "FileState",
    "KeyFate",
    "Source",
    "UnsafeCheckpointError",
    "Weights",
    "add_metadata",
    "dequantise",
    "fetch",
    "load_state",
    "metadata_of",
    "parts_of",
    "quantise_rows",
    "read_checkpoint",
    "read_metadata",
    "read_weights",
    "rename_keys",
    "save_weights",
    "state_sha256",
    "trace_keys",
    "written_whole",
]

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "LEXISEG_CACHE"
SHOWN_KEYS = 10
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Weights:
    """A published file of weights.

    Attributes:
        url: where it can be downloaded; None where only by hand, from ``origin``.
        sha256: checksum of the file; None where the authors state none.
        licence: of the weights.
        origin: page of the authors.
        paper: whose work it is.
        trained_on: data.
        scores: what the authors report, such as ``{"ade20k_150 mIoU": 31.8}``.
        asset: path of the file inside the package's assets where it is bundled.
        parts: of a model that starts from several files, the record of each; the asset is then one
            of them.
    """

    url: str | None
    sha256: str | None
    licence: str
    origin: str
    paper: str
    trained_on: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    asset: str | None = None
    parts: Mapping[str, "Weights"] = field(default_factory=dict)


Source = str | Path | Mapping[str, Any] | Weights


@dataclass(frozen=True)
class KeyFate:
    """Where a tensor of one of several files went.

    Attributes:
        part: what the file was given as, such as "clip".
        key: its name in the file.
        places: its names in the model; empty where it is ignored.
        reason: why it is ignored.
    """

    part: str
    key: str
    places: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        fate = f"loaded as {', '.join(self.places)}" if self.places else f"ignored: {self.reason}"
        return f"{self.part}: {self.key} {fate}"


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
    path = Path(path)
    tensors = {key: state[key].detach().cpu().contiguous().clone() for key in sorted(state)}
    packed = pack_safetensors(tensors)
    if metadata:
        packed = with_metadata(packed, metadata)
    with written_whole(path) as temporary:
        temporary.write_bytes(packed)


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


def rename_keys(
    state: Mapping[str, Tensor], table: Sequence[tuple[str, str]], *, reverse: bool = False
) -> dict[str, Tensor]:
    """The state under other names.

    Args:
        state: tensors by name.
        table: pairs (published, ours). ``{}`` stands for a number; a name that ends with a dot
            stands for all that begin so. Keys that no pair fits keep their name.
        reverse: from ours to published.

    Raises:
        ValueError: two keys get the same name.
    """
    rules = [
        (_pattern(old), new) for old, new in (pair[::-1] if reverse else pair for pair in table)
    ]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new_key = key
        for pattern, new in rules:
            if match := pattern.fullmatch(key):
                new_key = new.format(*match.groups()[:-1]) + match.groups()[-1]
                break
        if new_key in renamed:
            raise ValueError(f"two keys become {new_key!r}, one of them {key!r}; remove one")
        renamed[new_key] = value
    return renamed


def trace_keys(
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], state: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """The names that each key of a state has behind ``convert``; none where it is left out.

    A number is sent in the place of each tensor, and looked for. ``convert`` may cut tensors along
    their first axis, and put them together there.
    """
    keys = list(state)
    numbers = {
        key: torch.tensor(float(index), dtype=torch.float64).expand(state[key].shape)
        for index, key in enumerate(keys)
    }
    places: dict[str, list[str]] = {key: [] for key in keys}
    for name, numbered in convert(numbers).items():
        first = numbered.reshape(()) if not numbered.ndim else numbered
        while first.ndim > 1:
            first = first[:, 0]
        for index in first.unique().long().tolist():
            places[keys[index]].append(name)
    return places


def _pattern(name: str) -> re.Pattern[str]:
    rest = "(.+)" if name.endswith(".") else "()"
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + rest)


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> None:
    """Load every tensor into its place; nothing is loaded unless all fits.

    Raises:
        ValueError: keys are missing, unexpected, of another shape, or whole numbers in the place of
            fractions; the message lists them.
    """
    renamed = state if rename is None else rename(state)
    own = module.state_dict()
    misshaped = [
        f"{key} has {tuple(renamed[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in renamed and renamed[key].shape != value.shape
    ]
    problems = {
        "missing": sorted(own.keys() - renamed.keys()),
        "unexpected": sorted(renamed.keys() - own.keys()),
        "of another shape": misshaped,
        "of another type": [
            f"{key} has {renamed[key].dtype} for {value.dtype}"
            for key, value in own.items()
            if key in renamed and value.is_floating_point() and not renamed[key].is_floating_point()
        ],
    }
    if any(problems.values()):
        raise ValueError(_report(type(module).__name__, problems))
    module.load_state_dict(renamed, strict=True)


def _report(name: str, problems: Mapping[str, Sequence[str]]) -> str:
    lines = [f"the weights do not fit {name}:"]
    for kind, keys in problems.items():
        if keys:
            rest = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
            lines.append(f"  {len(keys)} {kind}: {', '.join(keys[:SHOWN_KEYS])}{rest}")
    lines.append("give the file that was published for this variant, unchanged")
    return "\n".join(lines)


def dequantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with each int8 ``NAME`` that has a ``NAME_scale`` multiplied out to float32."""
    packed = [
        key for key, value in state.items() if value.dtype == torch.int8 and f"{key}_scale" in state
    ]
    scales = {f"{key}_scale" for key in packed}
    result = {key: value for key, value in state.items() if key not in scales}
    for key in packed:
        rows = state[f"{key}_scale"].float()
        result[key] = state[key].float() * rows.reshape(-1, *[1] * (state[key].dim() - 1))
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


def cache_folder() -> Path:
    """Where downloads and what is costly to compute are kept; LEXISEG_CACHE names another place."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "lexiseg")


def fetch(weights: Weights, *, cache: str | Path | None = None) -> Path:
    """The local file of a record, downloaded at the first call and checked before it is kept.

    Args:
        weights: the record.
        cache: folder for downloads; by default what LEXISEG_CACHE names, else ~/.cache/lexiseg.

    Raises:
        ValueError: the file can only be had by hand, or its checksum is wrong.
        ConnectionError: the download failed.
    """
    if weights.asset is not None:
        return Path(str(files("lexiseg").joinpath("assets", weights.asset)))
    if weights.url is None or not weights.url.startswith("https://"):
        raise ValueError(
            f"these weights cannot be downloaded automatically; take them from {weights.origin} "
            "and pass the file's path"
        )
    target = cached_path(weights.url, weights.sha256, cache=cache)
    if not target.is_file():
        logger.info("downloading %s to %s", weights.url, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as temporary:
            _download(weights.url, weights.sha256, temporary, target)
    return target


def cached_path(url: str, sha256: str | None, *, cache: str | Path | None = None) -> Path:
    """Where a download is kept, whether it is there or not."""
    tag = sha256 or hashlib.sha256(url.encode()).hexdigest()
    return (Path(cache) if cache else cache_folder()) / tag[:16] / url.rsplit("/", 1)[-1]


def _download(url: str, sha256: str | None, temporary: Path, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,
            temporary.open("wb") as file,
        ):
            while chunk := answer.read(2**20):
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"could not download {url}: {error}; without a network, put the file at {target}"
        ) from error
    if sha256 is not None and digest.hexdigest() != sha256:
        raise ValueError(
            f"{url} gave a file with SHA-256 {digest.hexdigest()}, but {sha256} was published; "
            "it was not kept: try again, or report it if this repeats"
        )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place only when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
