"""Published checkpoints as safetensors under our names, with a report on every key."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg import registry
from lexiseg.weights import (
    FileState,
    KeyFate,
    metadata_of,
    read_checkpoint,
    save_weights,
    trace_keys,
)

SEED = 0  # of what no file fills
NO_PLACE = "no parameter of the model"
WRAPPED = "module."  # what a data-parallel wrapper puts before every name


@dataclass(frozen=True)
class Conversion:
    """What became of every key, of the files and of the model.

    Attributes:
        model: name of the architecture.
        fates: where each tensor of the files went, or why it went nowhere.
        filled: names in the model that no file holds: the bundled encoder of a head, or what is
            drawn at random because the files only start a model.
        missing: names in the model that lack a tensor.
        unexpected: names, after renaming, that the model does not have.
        misshaped: names of another shape, with both shapes.
    """

    model: str
    fates: tuple[KeyFate, ...]
    filled: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the file was written."""
        return not (self.missing or self.unexpected or self.misshaped)

    @property
    def loaded(self) -> tuple[KeyFate, ...]:
        """The tensors that have a place."""
        return tuple(fate for fate in self.fates if fate.places)

    @property
    def ignored(self) -> tuple[KeyFate, ...]:
        """The tensors that have none."""
        return tuple(fate for fate in self.fates if not fate.places)

    def as_dict(self) -> dict[str, Any]:
        """The report for machines."""
        return {
            "model": self.model,
            "fits": self.fits,
            "loaded": [
                {"part": fate.part, "key": fate.key, "places": list(fate.places)}
                for fate in self.loaded
            ],
            "ignored": [
                {"part": fate.part, "key": fate.key, "reason": fate.reason} for fate in self.ignored
            ],
            "filled": list(self.filled),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "misshaped": list(self.misshaped),
        }


def convert(
    source: str | Path | Mapping[str, str | Path],
    out: str | Path,
    *,
    model: str | None = None,
) -> Conversion:
    """Write a published checkpoint as safetensors that ``Segmenter.from_pretrained`` takes.

    Nothing that a file holds is run. Values stay as they are, bit for bit; what is the same in half
    precision is stored so. A file that does not fit is not written: the report says why.

    Args:
        source: a checkpoint; or, for a model that starts from several, one for each part, such as
            ``{"clip": "ViT-B-16.pt", "sam": "sam_vit_b.pth"}``.
        out: where the safetensors are written.
        model: name of the architecture; None finds the one that the keys fit.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file asks for code, is damaged, or is of no known format.
        ValueError: no such model, or the files fit none, or several.
    """
    if Path(out).suffix != ".safetensors":
        raise ValueError(f"{str(out)!r} came to write to; give a name that ends in .safetensors")
    if isinstance(source, Mapping):
        if model is None:
            raise ValueError(f"parts {sorted(source)} came without a model; name it")
        report, state = _of_parts(model, dict(source))
        metadata = {"model": model}
    else:
        read = read_checkpoint(source)
        wrapped = bool(read) and all(key.startswith(WRAPPED) for key in read)
        prefix = WRAPPED if wrapped else ""
        bare = {key.removeprefix(prefix): value for key, value in read.items()}
        read = FileState(bare, metadata_of(read))
        model = model or _model_of(read)
        report, state = _of_file(model, read, prefix)
        metadata = {**metadata_of(read), "model": model}
    if report.fits:
        save_weights(out, {key: _narrow(value) for key, value in state.items()}, metadata)
    return report


def _model_of(state: FileState) -> str:
    """The model that a file names, or the only one that its keys fit."""
    named = metadata_of(state).get("model")
    if named is not None:
        return named
    fitting = [name for name in registry.registered() if _fits(name, state)]
    if len(fitting) == 1:
        return fitting[0]
    kind = f"fits {' and '.join(fitting)}" if fitting else "fits no model as it is"
    raise ValueError(
        f"a checkpoint with keys such as {sorted(state)[:3]} {kind}; name the model it is for"
        + ("" if fitting else ", to see what is missing")
    )


def _fits(name: str, state: FileState) -> bool:
    """Whether a file alone fills a model."""
    with _untrained(name, on_meta=True) as built, _quiet():
        try:
            renamed = built.from_published(state)
        except (ValueError, KeyError, IndexError, RuntimeError):
            return False  # not the names that this method reads
    report = _compared(name, built.state_dict(), renamed)
    return report.fits and not any(value.is_meta for value in renamed.values())


def _of_file(name: str, state: FileState, prefix: str) -> tuple[Conversion, Mapping[str, Tensor]]:
    with _untrained(name, on_meta=True) as built:
        renamed = built.from_published(state)
    if any(value.is_meta for value in renamed.values()):  # the file only starts this model
        with _untrained(name, on_meta=False) as built:
            renamed = built.from_published(state)

    def of_the_file(numbered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is filled from elsewhere is no float64, as numbers are."""
        converted = built.from_published(numbered)
        return {k: v for k, v in converted.items() if v.dtype == torch.float64}

    with _quiet():
        places = trace_keys(of_the_file, state)
    fates = tuple(
        KeyFate("weights", prefix + key, tuple(places[key]), "" if places[key] else NO_PLACE)
        for key in state
    )
    return _compared(name, built.state_dict(), renamed, fates), renamed


def _of_parts(
    name: str, files: Mapping[str, str | Path]
) -> tuple[Conversion, Mapping[str, Tensor]]:
    with _untrained(name, on_meta=False) as built:
        wrong = sorted(files.keys() - set(built.parts))
        if wrong:
            takes = " and ".join(map(repr, built.parts)) or "one file alone"
            raise ValueError(f"parts {wrong} came, but {name} takes {takes}")
        states = {part: built.read_part(part, file) for part, file in files.items()}
        for part, state in states.items():
            if not isinstance(state, Mapping):
                raise ValueError(f"part {part!r} holds no tensors of the model; leave it out")
        fates = tuple(built.initialise(states))
    own = built.state_dict()
    placed = {place for fate in fates for place in fate.places}
    return Conversion(name, fates, filled=tuple(sorted(own.keys() - placed))), own


def _compared(
    name: str,
    own: Mapping[str, Tensor],
    renamed: Mapping[str, Tensor],
    fates: Sequence[KeyFate] = (),
) -> Conversion:
    placed = {place for fate in fates for place in fate.places}
    return Conversion(
        name,
        tuple(fates),
        filled=tuple(sorted((own.keys() & renamed.keys()) - placed)) if fates else (),
        missing=tuple(sorted(own.keys() - renamed.keys())),
        unexpected=tuple(sorted(renamed.keys() - own.keys())),
        misshaped=tuple(
            f"{key}: {tuple(renamed[key].shape)} for {tuple(value.shape)}"
            for key, value in own.items()
            if key in renamed and renamed[key].shape != value.shape
        ),
    )


@contextlib.contextmanager
def _untrained(name: str, *, on_meta: bool) -> Iterator[Any]:
    """A model without memory for its weights, or with weights that are the same at every run."""
    build = registry.builder_of(name)
    if on_meta:
        with torch.device("meta"):
            built = build()
        yield built
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield build()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages of methods that are only tried."""
    methods = logging.getLogger("lexiseg.methods")
    before = methods.level
    methods.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        methods.setLevel(before)


def _narrow(tensor: Tensor) -> Tensor:
    """Half precision where that loses nothing; reading widens it to the same numbers."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor
