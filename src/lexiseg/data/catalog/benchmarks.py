"""A semantic benchmark without its files: classes, words, background, sizes, where to get it.

With a background, the label maps tell all else from the classes. Who scores it:

voc20, context59      nobody: its pixels are ignored, and every pixel judged has a class
voc21, context60,     as class 0: a pixel that gets none of the labels, by a threshold or because
object81              one of the background names wins it
voc20b                as the last class: asked for by name, the 39 other words of context59
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from lexiseg.data.catalog.layouts import Layout
from lexiseg.data.semantic import BACKGROUND, Vocabulary
from lexiseg.prompts import LabelSet, standard_list
from lexiseg.vocabularies import standard_palette

Value = TypeVar("Value")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, without its files.

    Attributes:
        name: what ``lexiseg evaluate`` calls it.
        title: what it is.
        class_list: the bundled list of its classes, without the background.
        authors: whose papers report it, and whose words it therefore has beside the default.
        counts: of each split, how many photographs those who publish count.
        layouts: where its files may lie; the first that is there is read.
        places: the folders under the root in which a layout may lie; "" is the root itself.
        images_from: where the photographs come from.
        masks_from: where the label maps come from.
        background: who scores it; "ignored" also where there is none.
        finer_list: a list with more classes of the same photographs, whose further names stand for
            the background.
    """

    name: str
    title: str
    class_list: str
    authors: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    layouts: tuple[Layout, ...]
    places: tuple[str, ...]
    images_from: str
    masks_from: str
    background: Literal["ignored", "first", "last"] = "ignored"
    finer_list: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the confusion matrix."""
        names = standard_list(self.class_list).labels
        return self._with_background(names, BACKGROUND)

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        """RGB of each class; the background is black."""
        colours = standard_palette(self.class_list)
        return None if colours is None else self._with_background(colours, (0, 0, 0))

    def vocabularies(self) -> dict[str, Vocabulary]:
        """The words for the classes: "default", and those of each of the authors."""
        return {
            "default": self._vocabulary(None),
            **{authors: self._vocabulary(authors) for authors in self.authors},
        }

    def _with_background(self, values: tuple[Value, ...], value: Value) -> tuple[Value, ...]:
        before = (value,) if self.background == "first" else ()
        after = (value,) if self.background == "last" else ()
        return before + values + after

    def _vocabulary(self, authors: str | None) -> Vocabulary:
        labels = standard_list(self.class_list, authors)
        count = len(labels)
        if self.background == "ignored":
            return Vocabulary.one_each(labels)
        others = self._finer_classes(authors)
        if self.background == "last":
            joined = LabelSet(labels.labels + others.labels, labels.names + others.names)
            return Vocabulary(joined, (*range(count), *[count] * len(others)), none=count)
        taken = {n.casefold() for names in (labels.labels, *labels.names) for n in names}
        background = tuple(n for n in others.labels if n.casefold() not in taken)
        return Vocabulary(labels, tuple(range(1, count + 1)), none=0, background=background)

    def _finer_classes(self, authors: str | None) -> LabelSet:
        """The classes of the finer list that are none of the benchmark's own."""
        if self.finer_list is None:
            raise ValueError(f"{self.name} has a background, but no list of names for it")
        # CAT-Seg writes a class alike in all its lists, and "unknown" says nothing.
        own = {names[0] for names in standard_list(self.class_list, "catseg").names} | {"unknown"}
        alike = [names[0] for names in standard_list(self.finer_list, "catseg").names]
        words = standard_list(self.finer_list, authors)
        kept = [i for i, name in enumerate(alike) if name not in own]
        return LabelSet(tuple(words.labels[i] for i in kept), tuple(words.names[i] for i in kept))
