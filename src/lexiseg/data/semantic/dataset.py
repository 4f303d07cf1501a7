"""Photographs with label maps, their classes, and the words that a model is asked for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt, UInt8

from lexiseg.data.fingerprints import FileDigests
from lexiseg.images import read_image, read_label_map
from lexiseg.prompts import LabelSet
from lexiseg.result import none_index

BACKGROUND = "background"  # the name of what is none of the classes
IGNORE_INDEX = 255
LARGEST_ID = 65535


@dataclass(frozen=True)
class Vocabulary:
    """What a model is asked for on a data set, and which class each answer is.

    Attributes:
        labels: the words.
        classes: of each label, the position of its class in the data set's ``class_names``.
        none: the class of a pixel that gets none of the labels; None where every pixel has one.
        background: names that compete with the labels and, where they win, leave a pixel without
            one; used where ``none`` is a class and no threshold is given.
    """

    labels: LabelSet
    classes: tuple[int, ...]
    none: int | None = None
    background: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels came with {len(self.classes)} classes")

    @classmethod
    def one_each(cls, labels: LabelSet) -> "Vocabulary":
        """Label ``i`` is class ``i``."""
        return cls(labels, tuple(range(len(labels))))

    def to_classes(self, label_map: UInt[np.ndarray, "H W"], nothing: int) -> np.ndarray:
        """A label map in positions of classes.

        Args:
            label_map: positions in ``labels``, and ``none_index`` where there is none.
            nothing: the id of a pixel without a class.
        """
        table = np.full(none_index(len(self.labels)) + 1, nothing, np.int64)
        table[: len(self.classes)] = self.classes
        if self.none is not None:
            table[-1] = self.none
        return table[label_map]


@runtime_checkable
class Truth(Protocol):
    """Where the label map of one photograph comes from."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def read(self) -> Integer[np.ndarray, "H W"]:
        """The class ids as they are stored."""
        ...

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """What changes whenever what is read may change."""
        ...


@dataclass(frozen=True)
class MaskFile:
    """A label map in a file of its own."""

    file: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.file)

    def read(self) -> UInt[np.ndarray, "H W"]:
        """The class ids, 8 or 16 bits."""
        return read_label_map(self.file)

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """Name and content of the file."""
        return (self.file.name, files.content(self.file))


@dataclass(frozen=True)
class SemanticSample:
    """One photograph, its label map (positions in ``class_names``) and name."""

    image: UInt8[np.ndarray, "H W 3"]
    label_map: UInt[np.ndarray, "H W"]
    name: str


@dataclass(frozen=True)
class SemanticDataset:
    """Photographs with label maps; index it to read one pair.

    Attributes:
        name: what tables call it.
        split: which part of it this is.
        class_names: the classes, in the order of the confusion matrix.
        class_ids: the number that stands for each of them in the stored label maps.
        ignored_ids: the numbers there that no score counts.
        images: the photographs.
        truths: the label map of each.
        vocabularies: the words for the classes; "default", and others by the name of the authors
            who use them.
        palette: RGB of each class as the benchmark's authors draw it; None where they do not.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    ignored_ids: frozenset[int]
    images: tuple[Path, ...]
    truths: tuple[Truth, ...]
    vocabularies: Mapping[str, Vocabulary] = field(repr=False)
    palette: tuple[tuple[int, int, int], ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.images) != len(self.truths):
            raise ValueError(f"{len(self.images)} photographs, but {len(self.truths)} label maps")
        if len(self.class_ids) != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} classes, but {len(self.class_ids)} ids")
        if "default" not in self.vocabularies:
            raise ValueError(f"{self.name} has no default vocabulary")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ignore_index(self) -> int:
        """What a sample's label map holds where nobody judged: 255, or 65535 with 16 bits."""
        return none_index(len(self.class_names))

    def vocabulary(self, authors: str | None = None) -> Vocabulary:
        """The words of these authors, where they have some for this data set; else the default."""
        return self.vocabularies.get(authors or "default", self.vocabularies["default"])

    def __getitem__(self, index: int) -> SemanticSample:
        """Read one pair.

        Raises:
            ValueError: the mask has another size than the photograph, or an id without a name.
        """
        image = read_image(self.images[index])
        truth = self.truths[index]
        stored = truth.read()
        if stored.shape != image.shape[:2]:
            raise ValueError(
                f"{truth.name}: {stored.shape} (height, width), but the photograph "
                f"{self.images[index].name} is {image.shape[:2]}; a mask has exactly its "
                "photograph's size"
            )
        lowest, highest = int(stored.min()), int(stored.max())
        if lowest < 0 or highest > LARGEST_ID:
            raise ValueError(
                f"{truth.name}: ids {lowest} to {highest}; they lie in 0 to {LARGEST_ID}"
            )
        positions = self._positions[stored]
        if int(positions.max()) == _NO_NAME:
            strange = np.unique(stored[positions == _NO_NAME]).tolist()
            raise ValueError(
                f"{truth.name}: class ids {few(strange)} have no name; {self.name} has "
                f"{few(self.class_ids)} and ignores {few(sorted(self.ignored_ids))}"
            )
        dtype = np.uint8 if self.ignore_index == IGNORE_INDEX else np.uint16
        positions = np.where(positions == _IGNORED, self.ignore_index, positions)
        label_map = positions.astype(dtype)
        return SemanticSample(image, label_map, self.images[index].stem)

    def fingerprint(self) -> str:
        """A digest of the classes, of the content of the label maps, and of the photographs.

        Photographs are told apart by name, size and time of the last change.

        Raises:
            ValueError: a file cannot be read.
        """
        digest = hashlib.sha256()
        for part in (self.class_names, self.class_ids, sorted(self.ignored_ids)):
            digest.update(repr(part).encode())
        files = FileDigests()
        for image, truth in zip(self.images, self.truths, strict=True):
            digest.update(repr((files.stamp(image), truth.identity(files))).encode())
        return digest.hexdigest()

    @cached_property
    def _positions(self) -> UInt[np.ndarray, "65536"]:
        """Of each id that can be stored, the position of its class, or what is wrong with it."""
        positions = np.full(LARGEST_ID + 1, _NO_NAME, np.uint16)
        positions[list(self.class_ids)] = np.arange(len(self.class_ids))
        positions[list(self.ignored_ids)] = _IGNORED
        return positions


_NO_NAME, _IGNORED = 65535, 65534


def few(ids: Sequence[int], most: int = 12) -> str:
    """A list of numbers that does not fill the screen."""
    shown = ", ".join(map(str, ids[:most]))
    return f"[{shown}, ... {ids[-1]}]" if len(ids) > most else f"[{shown}]"
