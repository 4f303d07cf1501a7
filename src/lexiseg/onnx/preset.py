"""``fast:MODEL``: a model as int8 graphs, exported once and kept in the cache folder."""

import os
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx.export import export
from lexiseg.onnx.segmenter import OnnxSegmenter
from lexiseg.weights import cache_folder, state_sha256


def fast_segmenter(
    model: SegmentationModel, name: str, *, on_export: Callable[[Path], None] = lambda folder: None
) -> OnnxSegmenter:
    """The model by ONNX Runtime; its graphs are written at the first call, in about a minute.

    Other weights, or another version of the library, are exported anew.

    Args:
        model: as for :func:`lexiseg.onnx.export.export`, on the CPU.
        name: of the model, for the description and for the folder.
        on_export: called with the folder before it is written.

    Raises:
        ValueError: this kind of model cannot be exported.
        ArithmeticError: the float32 graphs do not compute what the model computes.
        ImportError: the packages of the extra ``onnx`` are not installed.
        OSError: the cache folder cannot be written.
    """
    folder = fast_folder(model, name)
    if not folder.is_dir():
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


def fast_folder(model: SegmentationModel, name: str) -> Path:
    """Where the graphs of these weights are kept, whether they are there or not."""
    readable = re.sub(r"[^\w.-]+", "_", Path(name).name)[:64]
    tag = f"{version('lexiseg')}-{state_sha256(model.state_dict())[:16]}"
    return cache_folder() / "fast" / f"{readable}-{tag}"
