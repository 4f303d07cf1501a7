"""Who has a pixel, decided from scores that were blended first: over tiles, or over frames.

Letters beyond the library's: T counts the labels and the names of the background.
"""

import numpy as np
from jaxtyping import Float, UInt, UInt8

from lexiseg.prompts import Background, BackgroundLike, LabelSet, LabelsLike
from lexiseg.result import none_index
from lexiseg.segmenter import Segmenter


class Contest:
    """Labels and background names, scored together by one segmenter.

    Attributes:
        segmenter: what scores.
        labels: what is looked for.
    """

    def __init__(
        self,
        segmenter: Segmenter,
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
        if mode.threshold is not None and segmenter.protocol.background_inside:
            raise ValueError(
                "this model's own rule for a background threshold does not go with tiles or video; "
                "give names, such as 'wall|floor', or another protocol"
            )
        if self._threshold is None and not segmenter.model.exclusive:
            self._threshold = segmenter.model.threshold

    def scores(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "T H W"]:
        """The scores of all, 0 to 1."""
        scores = self.segmenter(image, self._all, scores=True).scores
        assert scores is not None  # they were asked for
        return scores

    def decide(
        self, scores: Float[np.ndarray, "T H W"]
    ) -> tuple[UInt[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        """The label map, and each winner's score."""
        count = len(self.labels)
        winner, best = scores.argmax(axis=0), scores.max(axis=0)
        is_none = winner >= count
        if self._threshold is not None:
            is_none |= best < self._threshold
        winner[is_none] = none_index(count)
        return winner.astype(np.uint8 if none_index(count) == 255 else np.uint16), best
