"""OnnxSegmenter: a picture and labels in, a Segmentation out; ONNX Runtime instead of torch."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lexiseg._extras import need
from lexiseg.encoders.byte_pairs import token_rows
from lexiseg.encoders.wordpiece import bert_wordpiece
from lexiseg.onnx import arrays
from lexiseg.onnx.description import Description
from lexiseg.pictures.preparation import Preparation
from lexiseg.pictures.reading import (
    MAX_PIXELS,
    PictureSource,
    read_picture,
    source_name,
)
from lexiseg.prompts import (
    Background,
    BackgroundLike,
    LabelSet,
    LabelsLike,
    build_prompts,
)
from lexiseg.result import Segmentation, settled
from lexiseg.vocabularies import chosen_templates

GRAPHS = ("image", "text", "head")
PROMPTS_AT_ONCE = 256
_CACHED_LABEL_SETS = 16


class OnnxSegmenter:
    """An exported model with all around it; torch is not loaded.

    It takes what :class:`lexiseg.Segmenter` takes, tensors excepted, and gives the same results.
    Calls from several threads at once are allowed.

    Attributes:
        folder: of the export.
        description: of the model.
        templates: the sentences into which labels are put.
        max_pixels: larger pictures are refused.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        templates: str | Sequence[str] | None = None,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Opens the graphs.

        Args:
            folder: of ``lexiseg export MODEL --onnx FOLDER``.
            templates: sentences with ``{}`` for the label, or the name of a set of them; by default
                the model's own.
            threads: that ONNX Runtime may use; None leaves it to OMP_NUM_THREADS, or all cores.
            max_pixels: larger pictures are refused, files before they are decoded.

        Raises:
            ValueError: the folder holds no export, or a damaged one.
            ImportError: onnxruntime is not installed.
        """
        runtime = need("onnxruntime", extra="onnx", purpose="An exported model")
        self.folder = folder = Path(folder)
        self.description = Description.read(folder)
        self.templates = chosen_templates(templates, self.description.templates)
        self.max_pixels = max_pixels
        self._preparation = _preparation(self.description.preparation)
        self._sessions = {name: _session(runtime, folder, name, threads) for name in GRAPHS}
        self._texts: OrderedDict[tuple[tuple[str, ...], ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(
        self,
        image: PictureSource,
        labels: LabelsLike | LabelSet,
        *,
        background: BackgroundLike | Background = None,
        scores: bool = False,
    ) -> Segmentation:
        """Segment one picture; the arguments are those of :class:`lexiseg.Segmenter`.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: the labels or the background are not as they must be.
        """
        return next(self.segment_many([image], labels, background=background, scores=scores))

    def segment_many(
        self,
        images: Iterable[PictureSource],
        labels: LabelsLike | LabelSet,
        *,
        background: BackgroundLike | Background = None,
        scores: bool = False,
        batch_size: int = 1,
    ) -> Iterator[Segmentation]:
        """Segment pictures one after the other, as they are asked for.

        Args:
            images: of any size.
            labels: as in a call.
            background: as in a call.
            scores: as in a call.
            batch_size: as for :class:`lexiseg.Segmenter`, but the graphs take pictures one by one.
        """
        label_set, mode = LabelSet.of(labels), Background.of(background)
        texts = self.encode_texts(build_prompts(mode.join(label_set), self.templates))
        threshold = mode.threshold
        if threshold is None and not self.description.exclusive:
            threshold = self.description.threshold
        for source in images:
            image = read_picture(source, max_pixels=self.max_pixels)
            self._preparation.check_size(*image.shape[:2], max_pixels=self.max_pixels)
            view = self._activated(self.logits(arrays.prepared(self._preparation, image), texts))
            keep = len(label_set) if scores else 0
            best, winner, kept = arrays.winners(
                view, (image.shape[0], image.shape[1]), self._preparation, keep=keep
            )
            yield Segmentation(
                labels=label_set.labels,
                label_map=settled(winner, best, len(label_set), threshold),
                confidence=best,
                scores=kept,
                image=image,
                source=source_name(source),
            )

    @property
    def model(self) -> None:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "an exported model has graphs and no module; give photos one by one, or use the model"
        )

    def explain(self, *_: object) -> None:
        """Not from graphs.

        Raises:
            ValueError: always.
        """
        raise ValueError("an exported model does not tell what it saw; use the model itself")

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Float[np.ndarray, "T D"]:
        """One vector of length one for each label, from its sentences; kept for the next call."""
        key = tuple(tuple(each) for each in prompts)
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
                return self._texts[key]
        flat = [prompt for of_label in key for prompt in of_label]
        parts = [
            self._sessions["text"].run(None, {"ids": self._ids(flat[i : i + PROMPTS_AT_ONCE])})[0]
            for i in range(0, len(flat), PROMPTS_AT_ONCE)
        ]
        texts = arrays.mean_directions(np.concatenate(parts), [len(each) for each in key])
        with self._lock:
            self._texts[key] = texts
            while len(self._texts) > _CACHED_LABEL_SETS:
                self._texts.popitem(last=False)
        return texts

    def fingerprint(self) -> str:
        """SHA-256 of all files of the export."""
        digest = hashlib.sha256()
        for path in sorted(path for path in self.folder.iterdir() if path.is_file()):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def forget(self) -> None:
        """Encode every label set anew at its next call."""
        with self._lock:
            self._texts.clear()

    def logits(
        self, image: Float[np.ndarray, "3 h w"], texts: Float[np.ndarray, "T D"]
    ) -> Float[np.ndarray, "T _ _"]:
        """Logits of a prepared image, on the model's own grid."""
        features = self._sessions["image"].run(None, {"images": image[None]})
        head = self._sessions["head"]
        names = [each.name for each in head.get_inputs()]
        return head.run(None, dict(zip(names, [texts, *features], strict=True)))[0][0]

    def _ids(self, prompts: Sequence[str]) -> Int[np.ndarray, "P L"]:
        length = self.description.context_length
        if self.description.tokenizer == "wordpiece":
            return bert_wordpiece()(prompts, context_length=length)
        rows = token_rows(prompts, context_length=length)
        table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        for place, row in zip(table, rows, strict=True):
            place[: len(row)] = row
        return table

    def _activated(self, logits: Float[np.ndarray, "T h w"]) -> Float[np.ndarray, "T h w"]:
        softmax = self.description.activation == "softmax"
        return (arrays.softmax if softmax else arrays.sigmoid)(logits)


def _preparation(content: dict[str, Any]) -> Preparation:
    for name in ("mean", "std"):
        content = {**content, name: tuple(content[name])}
    return Preparation(**content)


def _session(runtime: Any, folder: Path, name: str, threads: int | None) -> Any:
    path = folder / f"{name}.onnx"
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is missing; export the model again")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is of nested teams
    options.intra_op_num_threads = threads or (int(given) if given.isdecimal() else 0)
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        why = str(error).splitlines()[0]
        raise ValueError(f"{str(path)!r} is damaged ({why}); export the model again") from error
