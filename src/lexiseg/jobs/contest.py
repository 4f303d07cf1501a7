"""Who has a pixel, decided from scores that were blended first: over tiles, or over frames.

Letters beyond the library's: T counts the labels and the names of the background.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt, UInt8

from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.result import Segmentation, settled


@runtime_checkable
class AnySegmenter(Protocol):
    """What segments pictures: a :class:`lexiseg.Segmenter`, or an exported model."""

    max_pixels: int

    def __call__(
        self,
        image: Any,
        labels: LabelsLike | LabelSet,
        *,
        background: BackgroundLike | Background = None,
        scores: bool = False,
    ) -> Segmentation:
        """One picture's result."""
        ...

    def explain(self, image: Any, labels: Any, /) -> Any:
        """What the model saw on the way to it."""
        ...


class Contest:
    """Labels and background names, scored together by one segmenter.

    Attributes:
        segmenter: what scores.
        labels: what is looked for.
    """

    def __init__(
        self,
        segmenter: AnySegmenter,
        labels: LabelsLike | LabelSet,
        background: BackgroundLike | Background = None,
    ) -> None:
        """Checks labels and background.

        Raises:
            ValueError: they are not as they must be, or the model tells the background by itself,
                which cannot be blended.
        """
        self.segmenter = segmenter
        self.labels, mode = LabelSet.of(labels), Background.of(background)
        self._all = mode.join(self.labels)
        self._threshold = mode.threshold
        given: Any = segmenter
        protocol = getattr(given, "protocol", None)  # an exported model has the default alone
        if mode.threshold is not None and protocol and protocol.background_inside:
            raise ValueError(
                "this model's own rule for a background threshold does not go with tiles or video; "
                "give names, such as 'wall|floor', or another protocol"
            )
        facts = getattr(given, "description", None) or given.model
        if self._threshold is None and not facts.exclusive:
            self._threshold = facts.threshold

    def scores(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "T H W"]:
        """The scores of all, 0 to 1."""
        scores = self.segmenter(image, self._all, scores=True).scores
        assert scores is not None  # they were asked for
        return scores

    def decide(
        self, scores: Float[np.ndarray, "T H W"]
    ) -> tuple[UInt[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        """The label map, and each winner's score."""
        best = scores.max(axis=0)
        return settled(scores.argmax(axis=0), best, len(self.labels), self._threshold), best
