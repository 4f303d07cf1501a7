"""Names held out of training, to measure how a model does on words that it was never taught."""

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np

from lexiseg.data import augment
from lexiseg.data.mixture.mixture import Teacher
from lexiseg.data.mixture.sources import CaptionSource, Drawn, ImageLabelSource, Source
from lexiseg.data.semantic import BACKGROUND


def is_held_out(name: str, share: float) -> bool:
    """Whether a name is among the ``share`` that its hash holds out; "background" never is."""
    if name == BACKGROUND:
        return False
    digest = hashlib.sha256(_plain(name).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class HeldOut:
    """Names that are held out, with all that would teach them.

    ``name in held_out`` holds for a data set's name that its hash chooses, for its synonyms, and
    for every name that contains one of these as a word, in the plural too.

    Args:
        class_names: every name of the data sets.
        share: of these, from 0 to 1.
        synonyms: other words for a name.
    """

    def __init__(
        self, class_names: Iterable[str], share: float, synonyms: Mapping[str, Sequence[str]]
    ) -> None:
        chosen = {name for name in class_names if is_held_out(name, share)}
        for name, words in synonyms.items():
            if chosen.intersection((name, *words)):
                chosen |= {name, *words}
        self.words = tuple(sorted({_plain(name) for name in chosen}))
        any_of = "|".join(map(re.escape, self.words))
        self._contains = re.compile(rf"\b(?:{any_of})(?:s|es)?\b") if any_of else None

    def __contains__(self, name: object) -> bool:
        if self._contains is None or name == BACKGROUND or not isinstance(name, str):
            return False
        return self._contains.search(_plain(name)) is not None


class Without:
    """A source without some names: pixels that have them are nobody's.

    Args:
        source: what is drawn from; a picture whose whole-image name is left out is drawn again.
        held_out: names that are left out.
    """

    def __init__(self, source: Source, held_out: Container[str]) -> None:
        self.source = source
        self.held_out = held_out
        self.class_names = tuple(name for name in source.class_names if name not in held_out)

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph with what may be known of it."""
        drawn = self.source.draw(generator)
        while drawn.image_label is not None and (
            drawn.class_names[drawn.image_label] in self.held_out
        ):
            drawn = self.source.draw(generator)
        kept = [i for i, name in enumerate(drawn.class_names) if name not in self.held_out]
        return Drawn(
            image=drawn.image,
            label_map=_keep(drawn.label_map, kept),
            class_names=tuple(drawn.class_names[i] for i in kept),
            image_label=None if drawn.image_label is None else kept.index(drawn.image_label),
        )

    def fingerprint(self) -> str:
        """That of the source, and the names."""
        return repr((self.source.fingerprint(), self.class_names))


def without(source: Source, held_out: Container[str], *, masks_only: bool = False) -> Source:
    """The source without some names.

    Args:
        source: what is drawn from.
        held_out: names that are left out.
        masks_only: leave captions, and names of whole pictures that have no mask, as they are.
    """
    whole_pictures = isinstance(source, CaptionSource | ImageLabelSource)
    return source if masks_only and whole_pictures else Without(source, held_out)


class TeacherWithout:
    """A teacher that does not know some names.

    Args:
        teacher: the teacher.
        held_out: names that are left out.
    """

    def __init__(self, teacher: Teacher, held_out: Container[str]) -> None:
        self.teacher = teacher
        self.kept = [i for i, name in enumerate(teacher.names) if name not in held_out]
        self.names = tuple(teacher.names[i] for i in self.kept)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Ids that index ``names``; 255, or 65535 in 16 bits, where it is not sure."""
        return _keep(self.teacher(image), self.kept)


def _keep(label_map: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """Positions in ``kept``; what is not there is ignored."""
    ignored = augment.ignored_id(label_map)
    table = np.full(ignored + 1, ignored, label_map.dtype)
    table[list(kept)] = np.arange(len(kept))
    return table[label_map]


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")
