"""Segmenter: a picture and labels in, a Segmentation out; or expressions in, a Referral out."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt, UInt8
from torch import Tensor

from lexiseg import hub, registry
from lexiseg.explanation import ExplainedView, Explanation
from lexiseg.images import MAX_PIXELS, ImageError, ImageSource, read_image, source_name
from lexiseg.methods.base import Protocol, SegmentationModel, Texts, View
from lexiseg.onnx import OnnxSegmenter
from lexiseg.prompts import (
    Background,
    BackgroundLike,
    LabelSet,
    LabelsLike,
    build_prompts,
    check_name,
    template_set,
)
from lexiseg.referral import Referral
from lexiseg.result import Segmentation, none_index
from lexiseg.text_cache import encode_once
from lexiseg.tiling import protocol_scores
from lexiseg.weights import read_metadata

# Of scores at full size, so many numbers are held at a time: 64 MB.
_CHUNK_NUMBERS = 16_000_000
_CACHED_PROMPTS = 20_000
_Prompts = tuple[tuple[str, ...], ...]


class Segmenter:
    """A model with all around it: pictures from anywhere, any labels, results at their size.

    Calls from several threads at once are allowed, with labels of their own each.

    Attributes:
        model: the model, in evaluation mode on ``device``.
        protocol: how it is run.
        templates: the sentences into which labels are put.
        device: where it runs.
        max_pixels: larger pictures are refused.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        protocol: str = "default",
        templates: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Moves the model to the device.

        Args:
            model: what :func:`lexiseg.create_model` made, or another SegmentationModel.
            protocol: the name of one of the model's protocols.
            templates: sentences with ``{}`` for the label, or the name of a set of them
                ("plain", "clip", "imagenet", "imagenet_select"); by default the model's own.
            device: "cpu", "cuda", "cuda:1", "mps"; None or "auto": a GPU where there is one.
            max_pixels: larger pictures are refused, files before they are decoded.
        """
        if not isinstance(model, SegmentationModel):
            raise TypeError(
                f"the model came as {type(model).__name__}; give what create_model made, or use "
                "Segmenter.from_pretrained(NAME)"
            )
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.protocol = _protocol(model, protocol)
        self.templates = _templates(model, templates)
        self.max_pixels = max_pixels
        self._cache: OrderedDict[tuple[int, _Prompts], Texts] = OrderedDict()
        self._cache_lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        protocol: str = "default",
        device: str | torch.device | None = None,
    ) -> "Segmenter":
        """A segmenter with a model's published or bundled weights.

        Args:
            name: ``arch.tag``, such as "catseg_vitb16.coco_stuff", or ``arch`` alone where it has
                one set of weights; :func:`lexiseg.list_models` names all. Or the path of a
                ``.safetensors`` file that this library's training wrote, or a repository of the
                Hugging Face hub that holds one: ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@REVISION``.
                Any other checkpoint: ``Segmenter(create_model(arch, weights=path))``.
            protocol: as in the constructor.
            device: as in the constructor.

        Raises:
            ValueError: there are no such weights, they are damaged, or they do not fit.
            ConnectionError: they cannot be downloaded.
        """
        if isinstance(name, str) and hub.is_address(name):
            name = hub.download(name)
        if isinstance(name, os.PathLike) or name.endswith(".safetensors"):
            model = registry.create_model(_arch_of_file(name), weights=name)
        else:
            model = registry.create_model(registry.pretrained_name(name))
        return cls(model, protocol=protocol, device=device)

    @staticmethod
    def from_onnx(
        folder: str | os.PathLike[str], *, templates: str | Sequence[str] | None = None
    ) -> OnnxSegmenter:
        """What ``lexiseg export`` wrote, run by ONNX Runtime.

        It is called as a Segmenter is. Where torch must not even be imported, take
        :class:`lexiseg.onnx.OnnxSegmenter` itself.

        Args:
            folder: of the export.
            templates: as in the constructor.

        Raises:
            ValueError: the folder holds no export, or a damaged one.
            ImportError: onnxruntime is not installed.
        """
        return OnnxSegmenter(folder, templates=templates)

    def __call__(
        self,
        image: ImageSource,
        labels: LabelsLike | LabelSet,
        *,
        background: BackgroundLike | Background = None,
        scores: bool = False,
    ) -> Segmentation:
        """Segment one picture.

        Args:
            image: a path, bytes, an open file, a PIL image, an array or a tensor.
            labels: a list of names, a mapping of each label to its synonyms, a text such as
                "dog, sofa|couch", or the name of a standard list such as "voc20".
            background: None: each pixel gets the best label, unless the model judges each label
                alone, and then only one that passes its threshold. A number: a pixel whose best
                score is below it gets none. Names, such as "wall|floor": they compete with the
                labels, and what they win gets none.
            scores: keep the scores of every label at every pixel, which takes
                labels x height x width x 4 bytes.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: the labels or the background are not as they must be.
        """
        return next(self.segment_many([image], labels, background=background, scores=scores))

    def segment_many(
        self,
        images: Iterable[ImageSource],
        labels: LabelsLike | LabelSet,
        *,
        background: BackgroundLike | Background = None,
        scores: bool = False,
        batch_size: int = 1,
    ) -> Iterator[Segmentation]:
        """Segment pictures one after the other, as they are asked for.

        Args:
            images: as in a call, each of any size.
            labels: as in a call.
            background: as in a call.
            scores: as in a call.
            batch_size: so many pictures in a row, if of one size when prepared, run together; more
                than 1 only pays on a GPU.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} came; it must be at least 1")
        label_set, mode = LabelSet.of(labels), Background.of(background)
        prompts = self.prompts(label_set, mode)
        return self._run(images, label_set, mode, prompts, scores, batch_size)

    def refer(
        self,
        image: ImageSource,
        expressions: Sequence[str],
        *,
        background: BackgroundLike | Background = None,
    ) -> Referral:
        """Find what each expression names in one picture, each by itself; masks may overlap.

        A model that judges each text alone, such as CRIS, looks at the picture once. Where texts
        compete, each expression is a call of its own.

        Args:
            image: as in a call.
            expressions: such as "the dog on the left"; commas and bars mean nothing special.
            background: None: the pixels that reach the model's threshold, or, where labels compete
                by softmax, those where the expression wins against "background". A number: those
                that reach it. Names: those where the expression wins against them.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: an expression or the background is not as it must be.
        """
        if isinstance(expressions, str):
            raise TypeError(f"one string came, {expressions!r}; give a list of expressions")
        rule = expression_background(self.model, Background.of(background))
        tidy = tuple(expression.strip() for expression in expressions)
        if not tidy:
            raise ValueError(
                "no expressions came; give at least one, such as 'the dog on the left'"
            )
        for expression in tidy:
            check_name(expression, kind="expression")
        once: dict[str, str] = {}
        for expression in tidy:
            once.setdefault(expression.casefold(), expression)
        asked = LabelSet(tuple(once.values()), tuple((each,) for each in once.values()))
        pixels = read_image(image, max_pixels=self.max_pixels)
        found = dict(self._refer(pixels, asked, rule))
        masks = [found[once[expression.casefold()]] for expression in tidy]
        return Referral(
            expressions=tidy,
            masks=np.stack([mask for mask, _ in masks]),
            scores=np.array([score for _, score in masks], dtype=np.float32),
            image=pixels,
            source=source_name(image),
        )

    def explain(self, image: ImageSource, labels: LabelsLike | LabelSet) -> Explanation:
        """What the model saw on the way to its masks, step by step and label by label.

        The whole picture is looked at once, without windows. Methods differ in what they can tell;
        every one gives at least its logits.

        Args:
            image: as in a call.
            labels: as in a call.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: the labels are not as they must be.
        """
        label_set = LabelSet.of(labels)
        pixels = read_image(image, max_pixels=self.max_pixels)
        self._check_prepared_size(pixels.shape[0], pixels.shape[1])
        with torch.inference_mode():
            texts = self._asked(self.prompts(label_set, Background()), Background())
            prepared = self.protocol.preprocess(pixels)[None].to(self.device)
            views = tuple(_as_arrays(view) for view in self.model.views(prepared, texts))
        return Explanation(label_set.labels, views, pixels)

    def prompts(self, labels: LabelSet, background: Background) -> list[list[str]]:
        """The sentences that are encoded, of each label and then of each background name."""
        named = background.join(labels)
        if self.protocol.first_synonym:
            named = named.first_names()
        return build_prompts(named, self.templates)

    def _run(
        self,
        images: Iterable[ImageSource],
        labels: LabelSet,
        background: Background,
        prompts: list[list[str]],
        keep_scores: bool,
        batch_size: int,
    ) -> Iterator[Segmentation]:
        for batch in self._batches(images, batch_size):
            with torch.inference_mode():
                texts = self._asked(prompts, background)
                prepared = torch.stack([view for _, _, view in batch]).to(self.device)
                views = protocol_scores(self.model, self.protocol, prepared, texts)
            for (source, image, _), view in zip(batch, views, strict=True):
                with torch.inference_mode():
                    label_map, best, kept = self._result(
                        view, image.shape[:2], len(labels), background, keep_scores
                    )
                yield Segmentation(
                    labels=labels.labels,
                    label_map=label_map,
                    confidence=best,
                    scores=kept,
                    image=image,
                    source=source,
                )

    def _refer(
        self, pixels: UInt8[np.ndarray, "H W 3"], asked: LabelSet, rule: Background
    ) -> Iterator[tuple[str, tuple[Bool[np.ndarray, "H W"], float]]]:
        """Each expression with its mask and its score."""
        if not self.model.exclusive and not rule.names:
            threshold = self.model.threshold if rule.threshold is None else rule.threshold
            result = self(pixels, asked, background=rule, scores=True)
            assert result.scores is not None
            for expression, scores in zip(asked.labels, result.scores, strict=True):
                yield expression, _held(scores >= threshold, scores)
            return
        for expression in asked.labels:
            names = tuple(n for n in rule.names if n.casefold() != expression.casefold())
            alone = LabelSet((expression,), ((expression,),))
            result = self(pixels, alone, background=replace(rule, names=names))
            yield expression, _held(result.mask(expression), result.confidence)

    def _batches(
        self, images: Iterable[ImageSource], batch_size: int
    ) -> Iterator[list[tuple[str | None, UInt8[np.ndarray, "H W 3"], Float[Tensor, "3 h w"]]]]:
        """Neighbours that are of one size when prepared, with their names and pixels."""
        batch: list[tuple[str | None, np.ndarray, Tensor]] = []
        for source in images:
            image = read_image(source, max_pixels=self.max_pixels)
            self._check_prepared_size(image.shape[0], image.shape[1])
            view = self.protocol.preprocess(image)
            if batch and (len(batch) == batch_size or batch[-1][2].shape != view.shape):
                yield batch
                batch = []
            batch.append((source_name(source), image, view))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _check_prepared_size(self, height: int, width: int) -> None:
        """A strip of 1 x 10000 pixels must not grow beyond the limit when it is resized."""
        prepared = self.protocol.preprocess.resized_size(height, width)
        if prepared[0] * prepared[1] > self.max_pixels:
            raise ImageError(
                f"an image of {height} x {width} pixels is too narrow for this model, which would "
                f"work at {prepared[0]} x {prepared[1]}; cut it into pieces"
            )

    def _texts(self, prompts: list[list[str]]) -> Texts:
        """The label set's features, computed once for these weights and these prompts."""
        key = (_weights_state(self.model), tuple(tuple(each) for each in prompts))
        with self._cache_lock:
            if key not in self._cache:
                self._cache[key] = encode_once(self.model, prompts)
            self._cache.move_to_end(key)
            held = sum(len(each) for _, cached in self._cache for each in cached)
            while held > _CACHED_PROMPTS and len(self._cache) > 1:
                (_, dropped), _ = self._cache.popitem(last=False)
                held -= sum(len(each) for each in dropped)
            return self._cache[key]

    def _asked(self, prompts: list[list[str]], background: Background) -> Texts:
        """The label set's features, and what the protocol says of their use."""
        inside = self.protocol.background_inside
        return replace(
            self._texts(prompts),
            at_most=self.protocol.texts_at_most,
            rule=self.protocol.rule,
            background=background.threshold if inside else None,
        )

    def _result(
        self,
        view: Float[Tensor, "T h w"],
        size: tuple[int, ...],
        count: int,
        background: Background,
        keep_scores: bool,
    ) -> tuple[
        UInt[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "_ H W"] | None
    ]:
        """Label map, confidence, scores; the first ``count`` texts are labels, not background."""
        best, winner, kept = self._winners(view, size, count if keep_scores else 0)
        threshold = None if self.protocol.background_inside else background.threshold
        if threshold is None and not self.model.exclusive:
            threshold = self.model.threshold
        is_none = winner >= count
        if threshold is not None:
            is_none |= best < threshold
        winner[is_none] = none_index(count)
        dtype = np.uint8 if none_index(count) == 255 else np.uint16
        return winner.cpu().numpy().astype(dtype), best.cpu().numpy(), kept

    def _winners(
        self, view: Float[Tensor, "T h w"], size: tuple[int, ...], keep: int
    ) -> tuple[Float[Tensor, "H W"], Int64[Tensor, "H W"], Float[np.ndarray, "_ H W"] | None]:
        """Best score, who has it, and the first ``keep`` maps, some texts at a time."""
        height, width = size
        restore = self.protocol.preprocess.restore
        blended = self.protocol.logits_blended
        total = torch.full((height, width), -torch.inf, device=view.device)
        kept = np.empty((keep, height, width), dtype=np.float32) if keep else None
        best = torch.full((height, width), -torch.inf, device=view.device)
        winner = torch.zeros((height, width), dtype=torch.int64, device=view.device)
        step = max(1, _CHUNK_NUMBERS // (height * width))
        for start in range(0, len(view), step):
            full = restore(view[start : start + step].float(), (height, width))
            if kept is not None and start < keep:
                kept[start : start + step] = full[: keep - start].cpu().numpy()
            score, position = full.max(dim=0)
            winner = torch.where(score > best, position + start, winner)
            best = torch.maximum(score, best)
            if blended:
                total = torch.logaddexp(total, full.logsumexp(dim=0))
        if blended:  # a text's score is its part of the softmax over all texts
            best = (best - total).exp()
            if kept is not None:
                kept = np.exp(kept - total.cpu().numpy())
        return best, winner, kept


def _as_arrays(view: View) -> ExplainedView:
    return ExplainedView(
        view.name,
        view.maps.float().cpu().numpy(),
        tuple(points.cpu().numpy() for points in view.points),
        tuple(masks.cpu().numpy() for masks in view.masks),
        view.regions,
    )


def expression_background(model: SegmentationModel, given: Background) -> Background:
    """When a pixel is none of an expression's: what was given, or what the kind of model needs."""
    if given != Background() or not model.exclusive:
        return given
    if model.activation == "softmax":
        return Background(names=("background",))
    return Background(threshold=model.threshold)


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device that is asked for; None and "auto" are CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device is None or device == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    here = ", ".join(kind for kind, there in available.items() if there)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; here are auto, {here}") from error
    if not available.get(chosen.type, True):
        raise ValueError(f"device {str(device)!r} is not available; here are auto, {here}")
    return chosen


def _held(
    mask: Bool[np.ndarray, "H W"], scores: Float[np.ndarray, "H W"]
) -> tuple[Bool[np.ndarray, "H W"], float]:
    """A mask, and the mean score of its pixels."""
    return mask, float(scores[mask].mean()) if mask.any() else 0.0


def _arch_of_file(path: str | os.PathLike[str]) -> str:
    """The model that a file of weights names in its metadata."""
    if not os.path.isfile(path):
        raise ValueError(f"no weights at {os.fspath(path)!r}; give a model's name or a file")
    arch = read_metadata(os.fspath(path)).get("model")
    if arch is None:
        raise ValueError(
            f"{os.fspath(path)!r} does not say which model it belongs to; "
            "use Segmenter(create_model(ARCH, weights=PATH))"
        )
    return arch


def _protocol(model: SegmentationModel, name: str) -> Protocol:
    if name not in model.protocols:
        known = sorted(model.protocols)
        raise ValueError(registry.unknown("protocol", name, known, f"known are {', '.join(known)}"))
    return model.protocols[name]


def _templates(model: SegmentationModel, templates: str | Sequence[str] | None) -> tuple[str, ...]:
    if templates is None:
        return tuple(model.templates)
    if not isinstance(templates, str):
        return tuple(templates)
    if "{}" in templates:
        return (templates,)
    return template_set(templates)


def _weights_state(model: SegmentationModel) -> int:
    """A number that changes when weights are loaded, trained or moved."""
    tensors = [*model.parameters(), *model.buffers()]
    return hash(tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors))
