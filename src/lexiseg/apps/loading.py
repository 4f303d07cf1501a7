"""The model that a word on the command line means."""

import os
from pathlib import Path
from typing import Any

from lexiseg.apps.terminal import fail, misuse, note

FAST = "fast:"  # before a model's name: its int8 graphs, see onnx/preset.py


def load_segmenter(model: str, *, protocol: str = "default") -> Any:
    """The Segmenter of a model's name; complains and ends where there is none.

    ``ARCH=FILE`` is a model with weights from a file, such as the authors' checkpoint, and
    ``ARCH=PART=FILE,PART=FILE`` one that begins from several, such as FreeDA's bank. A process of
    several that a launcher started on one machine takes the GPU of its number. A folder of
    ``lexiseg export`` gives an OnnxSegmenter, and so does ``fast:MODEL``.
    """
    if os.path.isdir(model):
        return _load_export(model, protocol)
    if model.startswith(FAST):
        return _load_fast(model.removeprefix(FAST), protocol)
    if os.path.isfile(model) and not model.endswith(".safetensors"):
        misuse(
            f"{model} does not say which model it is for; give ARCH=FILE, as in cris_r50={model}"
        )
    from lexiseg.devices import choose_device
    from lexiseg.registry import create_model, registered
    from lexiseg.segmenter import Segmenter

    arch, _, file = model.partition("=")
    if arch not in registered() or Path(model).is_file():  # the sign is a part of a path
        file = ""
    try:
        device = choose_device()
        if device.type == "cuda" and "LOCAL_RANK" in os.environ:
            device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        if file:
            return Segmenter(
                create_model(arch, weights=_weights(file)), protocol=protocol, device=device
            )
        return Segmenter.from_pretrained(model, protocol=protocol, device=device)
    except ValueError as error:
        misuse(str(error))
    except (OSError, ImportError) as error:
        fail(f"model {model!r}: {error}")


def _weights(file: str) -> str | dict[str, str]:
    """A file, or files by the part that they are for."""
    pairs = [each.partition("=") for each in file.split(",")]
    if os.path.exists(file) or not all(sign and part.isidentifier() for part, sign, _ in pairs):
        return file
    return {part: path for part, _, path in pairs}


def _load_export(folder: str, protocol: str) -> Any:
    from lexiseg.onnx import OnnxSegmenter

    _check_exported(protocol)
    try:
        return OnnxSegmenter(folder)
    except ValueError as error:
        misuse(str(error))
    except ImportError as error:
        fail(str(error))


def _load_fast(model: str, protocol: str) -> Any:
    _check_exported(protocol)
    if os.path.isdir(model):
        misuse(f"{model} is exported already; give it without {FAST!r}")
    from lexiseg.onnx.preset import fast_segmenter

    def tell(folder: Path) -> None:
        note(f"{FAST}{model} is exported once, in about a minute, to {folder}")

    try:
        return fast_segmenter(model, lambda: load_segmenter(model).model.cpu(), on_export=tell)
    except ValueError as error:
        misuse(str(error))
    except (ImportError, OSError, ArithmeticError) as error:
        fail(f"model {FAST + model!r}: {error}")


def _check_exported(protocol: str) -> None:
    if protocol != "default":
        misuse(f"an exported model has one protocol, default; {protocol!r} came")
