"""Referring segmentation: a photograph, expressions for one object in it, and the object's mask."""

import hashlib
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.masks import RunLengths
from lexiseg.images import read_image, read_label_map
from lexiseg.prompts import check_name


@dataclass(frozen=True, eq=False)
class ReferringSample:
    """One object: the photograph, what people call the object there, where it is, and a name."""

    image: UInt8[np.ndarray, "H W 3"]
    expressions: tuple[str, ...]
    mask: Bool[np.ndarray, "H W"]
    name: str


@runtime_checkable
class Reference(Protocol):
    """One object, wherever it is stored."""

    def read_expressions(self) -> tuple[str, ...]:
        """What people call it."""
        ...

    def read(self) -> ReferringSample:
        """The photograph and the mask too."""
        ...

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """What changes when another object, or other files, are meant."""
        ...


@dataclass(frozen=True)
class ReferringDataset:
    """Objects with expressions; index it to read one.

    Attributes:
        name: what tables call it.
        split: which part of it this is.
        references: the objects, in the order of the file.
    """

    name: str
    split: str
    references: tuple[Reference, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.references:
            raise ValueError(f"{self.name} has no references in the split {self.split!r}")

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, index: int) -> ReferringSample:
        """Read one object.

        Raises:
            ValueError: a file of it is damaged, or the mask has another size than the photograph.
        """
        return self.references[index].read()

    def fingerprint(self) -> str:
        """A digest of which objects, expressions, masks and photographs these are.

        Of masks the content counts; photographs and databases are told apart by name, size and time
        of the last change.

        Raises:
            ValueError: a file cannot be read.
        """
        digest, files = hashlib.sha256(), FileDigests()
        for reference in self.references:
            digest.update(repr(reference.identity(files)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class MaskPicture:
    """A mask in a picture of its own, where numbers other than 0 are the object."""

    file: Path

    @property
    def source(self) -> str:
        """What messages call it."""
        return str(self.file)

    def read(self, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """The mask, of whatever size it has."""
        return read_label_map(self.file) != 0

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """Name and content of the file."""
        return (self.file.name, files.content(self.file))


@dataclass(frozen=True)
class Outline:
    """A mask as COCO's polygons or run lengths, painted whenever it is read.

    Attributes:
        source: what messages call it.
        segmentation: as in COCO's annotations.
        size: (height, width) for which it was drawn; None: the photograph's.
    """

    source: str
    segmentation: Any = field(repr=False)
    size: tuple[int, int] | None = None

    def read(self, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """The mask, for a photograph of this (height, width) where no size was declared."""
        try:
            return RunLengths.of_segmentation(self.segmentation, self.size or size).mask()
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """The outline itself."""
        return (self.segmentation, self.size)


@dataclass(frozen=True)
class FileReference:
    """One object whose photograph is a file."""

    name: str
    image: Path
    expressions: tuple[str, ...]
    mask: MaskPicture | Outline

    def read_expressions(self) -> tuple[str, ...]:
        """What people call it."""
        return self.expressions

    def read(self) -> ReferringSample:
        """The photograph and the mask too."""
        image = read_image(self.image)
        mask = self.mask.read((image.shape[0], image.shape[1]))
        check_mask_size(mask, image, source=f"{self.mask.source} ({self.image.name})")
        return ReferringSample(image, self.expressions, mask, self.name)

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """Its name, expressions, photograph and mask."""
        stamp = files.stamp(self.image)
        return (self.name, self.expressions, stamp, self.mask.identity(files))


def check_mask_size(mask: np.ndarray, image: np.ndarray, *, source: str) -> None:
    """A mask has its photograph's size.

    Raises:
        ValueError: it has not; the message begins with ``source``.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"{source}: a mask of {mask.shape} (height, width), but the photograph is "
            f"{image.shape[:2]}; a mask has exactly its photograph's size"
        )


def check_expressions(expressions: Any, *, source: str) -> tuple[str, ...]:
    """Expressions without spaces around them.

    Args:
        expressions: what a file holds.
        source: where it stands, for the message.

    Raises:
        ValueError: there are none, or one is no text, empty, longer than 256 characters, or has
            control characters.
    """
    if not isinstance(expressions, Sequence) or isinstance(expressions, str | bytes):
        raise ValueError(
            f"{source}: its expressions are {reprlib.repr(expressions)}; give a list of texts"
        )
    if not expressions:
        raise ValueError(f"{source}: has no expression; give at least one")
    for expression in expressions:
        if not isinstance(expression, str) or not expression.strip():
            raise ValueError(
                f"{source}: an expression is {reprlib.repr(expression)}; give it words"
            )
    tidy = tuple(expression.strip() for expression in expressions)
    for expression in tidy:
        try:
            check_name(expression, kind="expression")
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
    return tidy
