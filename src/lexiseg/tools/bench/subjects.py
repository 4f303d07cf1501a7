"""What is measured: a model in torch, the same compiled, and its graphs in ONNX Runtime."""

import copy
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx import OnnxSegmenter
from lexiseg.tiling import protocol_scores
from lexiseg.tools.bench.machine import CPU

TextKind = Literal["labels", "sentences"]


@runtime_checkable
class Subject(Protocol):
    """A model under one of the engines.

    Attributes:
        name: of the model.
        engine: "eager" (torch), "compiled" (torch.compile), "onnx" (ONNX Runtime) or "int8".
        unit: sides of images are multiples of it, in pixels.
        texts: what the model takes texts for.
        templates: sentences into which a label is put.
        device: where it runs.
    """

    name: str
    engine: str
    unit: int
    texts: TextKind
    templates: Sequence[str]
    device: torch.device

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels."""

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Logits or scores."""


class Eager:
    """A model in torch.

    Args:
        name: of the model.
        model: is measured as it is, whatever its weights.
        protocol: the name of one of the model's; with windows a batch is all windows of its images.
        device: to which the model is moved.
    """

    engine = "eager"

    def __init__(
        self,
        name: str,
        model: SegmentationModel,
        *,
        protocol: str = "default",
        device: torch.device = CPU,
    ) -> None:
        self.name = name
        # The counter of work wants it without gradients.
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.protocol = model.protocols[protocol]
        preparation = self.protocol.preprocess
        self.unit = max(preparation.multiple, preparation.pad_multiple)
        self.templates: Sequence[str] = model.templates
        self.texts: TextKind = "labels" if model.exclusive else "sentences"

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels."""
        with torch.inference_mode():
            return self.model.encode_texts(prompts)

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Scores."""
        protocol = self.protocol
        with torch.inference_mode():
            asked = replace(texts, at_most=protocol.texts_at_most, rule=protocol.rule)
            return protocol_scores(self.model, protocol, images, asked)


class Compiled(Eager):
    """A model through ``torch.compile``, anew for each shape of images and texts.

    So each shape has code of its own, the fastest there is. Text is encoded as in :class:`Eager`:
    most of its time goes into words, not tensors.

    Args:
        name: of the model.
        model: is not changed; its weights are shared.
        protocol: as for :class:`Eager`.
        device: likewise.

    Attributes:
        plain: the same, not compiled.
    """

    engine = "compiled"

    def __init__(
        self,
        name: str,
        model: SegmentationModel,
        *,
        protocol: str = "default",
        device: torch.device = CPU,
    ) -> None:
        super().__init__(name, model, protocol=protocol, device=device)
        self.plain = Eager(name, model, protocol=protocol, device=device)
        self.model = copy.copy(self.model)
        self.model.compile(dynamic=False)

    def forget(self) -> None:
        """Drop what was compiled before: torch keeps eight shapes, and then compiles no more."""
        torch.compiler.reset()
        _counters().clear()

    def graphs(self) -> int:
        """Into how many graphs the last compilation cut the model: 1 without a graph break."""
        return int(_counters()["stats"]["unique_graphs"])


def _counters() -> Any:
    from torch._dynamo.utils import counters  # takes a second, which others are spared

    return counters


def missing_compiler() -> str | None:
    """What to do where ``torch.compile`` would find no C++ compiler; None where there is one.

    It looks where PyTorch looks: ``CXX``, else the usual name of the platform.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = os.environ.get("CXX", usual)
    if shutil.which(name):
        return None
    return (
        f"torch.compile needs a C++ compiler, and {name!r} is not here; "
        "install g++ or clang, or name yours in the variable CXX"
    )


class Exported:
    """A model's graphs in ONNX Runtime, which take one image at a time, on the CPU."""

    device = CPU

    def __init__(self, segmenter: OnnxSegmenter) -> None:
        description = segmenter.description
        self.name = description.model
        self.engine = "int8" if description.int8 else "onnx"
        self.segmenter = segmenter
        self.templates: Sequence[str] = description.templates
        self.texts: TextKind = "labels" if description.exclusive else "sentences"
        preparation = description.preparation
        self.unit = max(preparation["multiple"], preparation["pad_multiple"])

    def encode(self, prompts: Sequence[Sequence[str]]) -> Any:
        """Features of labels, computed anew."""
        self.segmenter.forget()
        return self.segmenter.encode_texts(prompts)

    def run(self, images: Float[Tensor, "B 3 H W"], texts: Any) -> Any:
        """Logits, image by image."""
        return np.stack([self.segmenter.logits(image.numpy(), texts) for image in images])
