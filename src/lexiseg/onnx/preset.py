"""``fast:MODEL``: a model as int8 graphs, exported once and kept in the cache folder.

What is there already is found by the files of its weights, without torch.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.cache import cache_folder
from lexiseg.onnx.segmenter import OnnxSegmenter

if TYPE_CHECKING:
    from lexiseg.methods.base import SegmentationModel


def fast_segmenter(
    name: str,
    load: Callable[[], "SegmentationModel"],
    *,
    on_export: Callable[[Path], None] = lambda folder: None,
) -> OnnxSegmenter:
    """The model by ONNX Runtime; its graphs are written at the first call, in about a minute.

    Other weights, or another version of the library, are exported anew.

    Args:
        name: of the model, or ``ARCH=FILE``.
        load: gives the model, on the CPU; asked only where it is not exported yet.
        on_export: called with the folder before it is written.

    Raises:
        ValueError: this kind of model cannot be exported.
        ArithmeticError: the float32 graphs do not compute what the model computes.
        ImportError: the packages of the extra ``onnx`` are not installed.
        OSError: the cache folder cannot be written.
    """
    folder = fast_folder(name)
    if not folder.is_dir():
        model = load()
        from lexiseg.onnx.export import export  # torch

        on_export(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            written = Path(work) / "graphs"
            export(model, written, name=name, int8=True)
            try:
                os.rename(written, folder)
            except OSError:
                if not folder.is_dir():  # else another process was quicker
                    raise
    return OnnxSegmenter(folder)


def fast_folder(name: str) -> Path:
    """Where the graphs of a model are kept, whether they are there or not.

    Its own name says the model, the version of the library, and the checksum of all bundled weights
    and of the files that ``name`` names.
    """
    readable = re.sub(r"[^\w.-]+", "_", Path(name).name)[:64]
    digest = hashlib.sha256(name.encode())
    for file in _weight_files(name):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return cache_folder() / "fast" / f"{readable}-{version('lexiseg')}-{digest.hexdigest()[:16]}"


def _weight_files(name: str) -> list[Path]:
    bundled = Path(str(files("lexiseg") / "assets")).rglob("*.safetensors")
    words = [name, *re.split(r"[=,]", name), *name.partition("=")[2:]]
    given = {Path(word) for word in words if word and os.path.isfile(word)}
    return [*sorted(bundled), *sorted(given)]
