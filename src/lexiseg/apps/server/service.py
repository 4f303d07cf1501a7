"""What the endpoints and the page ask for: results by one model thread, within limits."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from lexiseg.apps.server.metrics import Metrics
from lexiseg.apps.server.settings import Refusal, Settings
from lexiseg.apps.server.worker import Worker
from lexiseg.pictures.reading import MAX_PIXELS, ImageError, read_picture
from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike, check_name
from lexiseg.registry import unknown


class Service:
    """Segmenters behind one queue.

    Attributes:
        segmenters: by name; the first is the default.
        settings: the limits.
        metrics: what is counted.
        worker: the thread.
    """

    def __init__(self, segmenters: Mapping[str, Any], settings: Settings) -> None:
        """Starts nothing yet.

        Args:
            segmenters: by name, :class:`lexiseg.Segmenter` or what is called like one.
            settings: the limits.
        """
        if not segmenters:
            raise ValueError("no models came; give at least one, such as catseg_lite")
        self.segmenters, self.settings, self.metrics = dict(segmenters), settings, Metrics()
        self.worker = Worker(max_batch=settings.max_batch, observe=self.metrics.batch.observe)
        self._admitted = 0
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place in the queue, taken before a body is read.

        Raises:
            Refusal: 429 where none is free, 503 where the server stops.
        """
        if not self.worker.alive:
            raise Refusal(503, "not_ready", "the server is starting or stopping; try again later")
        with self._lock:
            if self._admitted > self.settings.queue:
                wait = max(1, min(60, math.ceil(self._admitted * self.worker.seconds)))
                raise Refusal(
                    429,
                    "queue_full",
                    f"{self.settings.queue} requests wait already; try again in {wait} s",
                    {"Retry-After": str(wait)},
                )
            self._admitted += 1
            self.metrics.waiting.set(self._admitted)
        try:
            yield
        finally:
            with self._lock:
                self._admitted -= 1
                self.metrics.waiting.set(self._admitted)

    def segmenter(self, name: str | None) -> tuple[str, Any]:
        """A model and its name; the first where None is given."""
        if name is None:
            return next(iter(self.segmenters.items()))
        if name not in self.segmenters:
            known = ", ".join(self.segmenters)
            message = unknown("model", name, self.segmenters, f"This server runs {known}")
            raise Refusal(422, "unknown_model", message)
        return name, self.segmenters[name]

    def segment(
        self, image: bytes, labels: LabelsLike, background: BackgroundLike, model: str | None
    ) -> "tuple[str, Future[Any]]":
        """The model's name, and a Segmentation to come."""
        name, segmenter = self.segmenter(model)
        label_set, rule = self.label_set(labels, background)

        def run(images: list[bytes]) -> Sequence[Any]:
            return _each(
                segmenter,
                images,
                lambda pictures: segmenter.segment_many(
                    pictures, label_set, background=rule, batch_size=len(pictures)
                ),
            )

        return name, self.worker.submit(run, image, key=(name, label_set, rule))

    def refer(
        self,
        image: bytes,
        expressions: Sequence[str],
        background: BackgroundLike,
        model: str | None,
    ) -> "tuple[str, Future[Any]]":
        """The model's name, and a Referral to come."""
        if model is None:  # the first that reads sentences, rather than take them for labels
            readers = (name for name, each in self.segmenters.items() if reads_sentences(each))
            model = next(readers, None)
        name, segmenter = self.segmenter(model)
        if not hasattr(segmenter, "refer"):
            raise Refusal(422, "unknown_model", f"model {name!r} takes labels, not expressions")
        rule = self.expressions(expressions, background)

        def run(images: list[bytes]) -> Sequence[Any]:
            return [segmenter.refer(each, expressions, background=rule) for each in images]

        return name, self.worker.submit(run, image)

    def explain(self, image: bytes, labels: LabelsLike, model: str | None) -> "Future[Any]":
        """An Explanation to come."""
        name, segmenter = self.segmenter(model)
        if not hasattr(segmenter, "explain"):
            raise Refusal(422, "unknown_model", f"model {name!r} cannot tell what it saw")
        label_set, _ = self.label_set(labels, None)
        return self.worker.submit(
            lambda images: [segmenter.explain(each, label_set) for each in images], image
        )

    def label_set(
        self, labels: LabelsLike, background: BackgroundLike
    ) -> tuple[LabelSet, Background]:
        """Labels and background as the library has them, within the limits."""
        try:
            label_set, rule = LabelSet.of(labels), Background.of(background)
            names = sum(len(each) for each in rule.join(label_set).names)
        except (ValueError, TypeError) as error:
            raise Refusal(422, "invalid_labels", str(error)) from error
        self._check(len(label_set), self.settings.max_labels, "labels")
        self._check(names, self.settings.max_names, "labels, synonyms and background names")
        return label_set, rule

    def expressions(self, expressions: Sequence[str], background: BackgroundLike) -> Background:
        """Checks expressions as the library will, and reads the background."""
        self._check(len(expressions), self.settings.max_expressions, "expressions")
        try:
            for expression in expressions:
                check_name(expression.strip(), kind="expression")
            rule = Background.of(background)
        except ValueError as error:
            raise Refusal(422, "invalid_expressions", str(error)) from error
        self._check(len(rule.names), self.settings.max_labels, "background names")
        return rule

    def _check(self, count: int, limit: int, what: str) -> None:
        if count > limit:
            raise Refusal(422, "too_many", f"{count} {what} came; at most {limit} go")


def _each(
    segmenter: Any, images: list[bytes], run: Callable[[list[Any]], Iterator[Any]]
) -> list[Any]:
    """A result for each picture, or why it cannot be read."""
    limit = getattr(segmenter, "max_pixels", MAX_PIXELS)
    answers: list[Any] = []
    for image in images:
        try:
            answers.append(read_picture(image, max_pixels=limit))
        except ImageError as error:
            answers.append(error)
    readable = [each for each in answers if not isinstance(each, ImageError)]
    results = run(readable) if readable else iter(())
    return [each if isinstance(each, ImageError) else next(results) for each in answers]


def reads_sentences(segmenter: Any) -> bool:
    """Whether each text is judged alone, as referring models do."""
    return hasattr(segmenter, "refer") and not segmenter.model.exclusive
