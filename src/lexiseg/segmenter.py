"""Segmenter: a picture and labels in, a Segmentation out; or expressions in, a Referral out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from lexiseg import registry
from lexiseg.devices import choose_device
from lexiseg.explanation import ExplainedView, Explanation
from lexiseg.expressions import expression_background, find, tidy_expressions
from lexiseg.images import MAX_PIXELS, ImageSource, prepared_batches, read_image, source_name
from lexiseg.methods.base import Protocol, SegmentationModel, Texts, View
from lexiseg.onnx import OnnxSegmenter
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike, build_prompts
from lexiseg.referral import Referral
from lexiseg.result import Segmentation, settled
from lexiseg.text_cache import TextCache
from lexiseg.tiling import protocol_scores
from lexiseg.vocabularies import chosen_templates
from lexiseg.winners import winners


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
        self.templates = chosen_templates(templates, model.templates)
        self.max_pixels = max_pixels
        self._cache = TextCache()

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
        return cls(registry.create_pretrained(name), protocol=protocol, device=device)

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
        asked = tidy_expressions(expressions)
        rule = expression_background(self.model, Background.of(background))
        pixels = read_image(image, max_pixels=self.max_pixels)
        found = find(self, self.model, pixels, asked, rule)
        return Referral(
            expressions=asked,
            masks=np.stack([mask for mask, _ in found]),
            scores=np.array([score for _, score in found], dtype=np.float32),
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
        self.protocol.preprocess.check_size(*pixels.shape[:2], max_pixels=self.max_pixels)
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
        threshold = None if self.protocol.background_inside else background.threshold
        if threshold is None and not self.model.exclusive:
            threshold = self.model.threshold
        keep = len(labels) if keep_scores else 0
        for batch in prepared_batches(
            images, self.protocol.preprocess, size=batch_size, max_pixels=self.max_pixels
        ):
            with torch.inference_mode():
                texts = self._asked(prompts, background)
                stacked = torch.stack([each.view for each in batch]).to(self.device)
                views = protocol_scores(self.model, self.protocol, stacked, texts)
            for each, view in zip(batch, views, strict=True):
                size = (each.image.shape[0], each.image.shape[1])
                best, winner, kept = winners(view, size, self.protocol, keep=keep)
                label_map = settled(winner, best, len(labels), threshold)
                yield Segmentation(labels.labels, label_map, best, kept, each.image, each.source)

    def _asked(self, prompts: list[list[str]], background: Background) -> Texts:
        """The label set's features, and what the protocol says of their use."""
        inside = self.protocol.background_inside
        return replace(
            self._cache(self.model, prompts),
            at_most=self.protocol.texts_at_most,
            rule=self.protocol.rule,
            background=background.threshold if inside else None,
        )


def _as_arrays(view: View) -> ExplainedView:
    return ExplainedView(
        view.name,
        view.maps.float().cpu().numpy(),
        tuple(points.cpu().numpy() for points in view.points),
        tuple(masks.cpu().numpy() for masks in view.masks),
        view.regions,
    )


def _protocol(model: SegmentationModel, name: str) -> Protocol:
    if name not in model.protocols:
        known = sorted(model.protocols)
        raise ValueError(registry.unknown("protocol", name, known, f"known are {', '.join(known)}"))
    return model.protocols[name]
