"""Export: a model to three ONNX graphs, checked against torch, and their matrices to int8."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import UInt8

from lexiseg._extras import need
from lexiseg.atomic import write_atomically, written_whole
from lexiseg.encoders.clip import CLIP
from lexiseg.encoders.clip_vit import VisionTransformer
from lexiseg.encoders.lite import Lite
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol, SegmentationModel
from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.maskclip import MaskCLIP
from lexiseg.onnx.description import DESCRIPTION, Description
from lexiseg.onnx.graphs import OpenGraph, open_graphs
from lexiseg.onnx.parity import CHECKED_LABELS, compare, made_up_pictures
from lexiseg.onnx.segmenter import OnnxSegmenter

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of logits, ONNX Runtime against torch
QUANTISED = ("MatMul", "Gemm")  # convolutions of int8 are slower than those of float32 here
# The text encoder keeps float32: with int8 the bundled one turns by 0.01 in cosine, which costs 3 %
# of the labels, to save what is computed once for a set of labels.
QUANTISED_GRAPHS = ("image", "head")


def export(
    model: SegmentationModel,
    folder: str | Path,
    *,
    name: str,
    int8: bool = False,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
) -> Description:
    """Write ``image.onnx``, ``text.onnx``, ``head.onnx`` and ``model.json`` into a folder.

    Sizes of the picture, number and length of prompts and number of labels stay open.

    Args:
        model: a CATSeg or a MaskCLIP, on the bundled encoder or on a CLIP ViT.
        folder: made if need be.
        name: of the model, for the description.
        int8: store matrices of image encoder and head as int8 and quantise what they are multiplied
            with as it comes (dynamic quantisation of ONNX Runtime); what that changes is measured.
        pictures: on which the graphs are compared with the model; by default made up ones.

    Returns:
        What was written into ``model.json``; its ``parity`` has ``logits``, the largest difference
        of a logit, and ``agreement``, the part of cells that get the same label.

    Raises:
        ValueError: this kind of model, or its way to prepare a picture, cannot be exported.
        ArithmeticError: the float32 graphs do not compute what the model computes.
        ImportError: the packages of the extra are not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, extra="onnx", purpose="The export")
    description = _described(model, name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)  # no half of an export looks like a whole one
    model.eval()
    with torch.no_grad(), _quiet():
        exportable = cast(CATSeg | MaskCLIP, model)  # or it would not have been described
        for graph in open_graphs(exportable, description.context_length):
            written = folder / f"{graph.name}.onnx"
            logger.info("writing %s", written)
            _write(graph, written)
    pictures = pictures or made_up_pictures()
    description = replace(description, parity=_measured(model, folder, description, pictures))
    assert description.parity is not None  # it was measured
    if not description.parity["logits"] <= TOLERANCE:
        (folder / DESCRIPTION).unlink()
        raise ArithmeticError(
            f"logits of the graphs differ by {description.parity['logits']:.2g} from the model's, "
            f"more than {TOLERANCE:g}; report it with the versions of torch and onnxruntime"
        )
    if int8:
        (folder / DESCRIPTION).unlink()
        description = replace(description, int8=quantise(folder))
        description = replace(description, parity=_measured(model, folder, description, pictures))
    return description


def quantise(folder: str | Path) -> tuple[str, ...]:
    """Matrices of image encoder and head to int8, a scale a column; the graphs that had some."""
    need("onnxruntime", extra="onnx", purpose="The export")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    changed = []
    for name in QUANTISED_GRAPHS:
        path = Path(folder) / f"{name}.onnx"
        graph = onnx.load(path)
        del graph.graph.value_info[:]  # shapes of matrices that the quantiser is about to turn
        with written_whole(path) as temporary, _quiet():
            quantize_dynamic(
                graph,
                temporary,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        operators = {node.op_type for node in onnx.load(path).graph.node}
        if operators & {"MatMulInteger", "DynamicQuantizeMatMul"}:
            changed.append(name)
    return tuple(changed)


def _described(model: SegmentationModel, name: str) -> Description:
    if not isinstance(model, (CATSeg, MaskCLIP)):
        raise ValueError(
            f"{type(model).__name__} has no graphs; those that can be exported are CATSeg and "
            "MaskCLIP, such as catseg_lite and maskclip_lite"
        )
    encoder, protocol = model.encoder, model.protocols["default"]
    is_clip = isinstance(encoder, CLIP) and isinstance(encoder.visual, VisionTransformer)
    if not is_clip and not isinstance(encoder, Lite):
        raise ValueError(f"the encoder {type(encoder).__name__} has no graph; Lite and CLIP's ViT")
    preprocess = protocol.preprocess
    if replace(protocol, preprocess=preprocess) != Protocol(preprocess) or (
        type(preprocess) is not Preprocess or preprocess.squash is not None
    ):
        raise ValueError(f"the default protocol of {name} is more than a resize; not exported")
    tokenizer: Literal["wordpiece", "byte_pairs"] = "wordpiece"
    if isinstance(encoder, CLIP):
        tokenizer, length = "byte_pairs", encoder.text.context_length
    else:
        length = cast(Lite, encoder).text.config.context_length
    return Description(
        model=name,
        activation=model.activation,
        exclusive=model.exclusive,
        threshold=model.threshold,
        templates=tuple(model.templates),
        tokenizer=tokenizer,
        context_length=length,
        preparation=asdict(preprocess),
        version=version("lexiseg"),
    )


def _write(graph: OpenGraph, path: Path) -> None:
    program = torch.export.export(
        graph.module.eval(),
        graph.example,
        dynamic_shapes=graph.sizes,
        strict=False,
        # What holds at the example alone, such as "more than one window", is no limit of the graph.
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        verbose=False,
    )
    assert exported is not None  # it is with dynamo
    with written_whole(path) as temporary:
        exported.save(temporary)


def _measured(
    model: SegmentationModel,
    folder: Path,
    description: Description,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> dict[str, float]:
    """Writes the description, measures, and writes it again with what was measured."""
    path = folder / DESCRIPTION
    write_atomically(path, description.as_json().encode())
    parity = compare(model, OnnxSegmenter(folder), pictures, CHECKED_LABELS)
    write_atomically(path, replace(description, parity=parity).as_json().encode())
    return parity


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporter and quantiser say of themselves: deprecations, missing torchvision."""
    talkers = [logging.getLogger("torch.onnx"), logging.getLogger()]
    levels = [talker.level for talker in talkers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for talker in talkers:
                talker.setLevel(logging.ERROR)
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
