"""How benchmarks lie on disk, in the folders that the authors' code uses, and pairing their files.

PLACE/images/NAME + image_suffix    photographs
PLACE/masks/NAME + mask_suffix      label maps
PLACE/listing                       the NAMEs of a split, one a line; not every layout has it

NAME may hold folders, as the cities of Cityscapes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt, UInt16

from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.paths import read_listing, walk
from lexiseg.images import read_label_map

# Of the 182 numbers of COCO-Stuff's maps (0 to 181), those that stand for no class.
COCO_GAPS = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
IGNORED_ID = 65535
_STRANGE_ID = 65534


@dataclass(frozen=True)
class Layout:
    """Where one author's code looks for a benchmark, and what its label maps hold.

    Attributes:
        authors: whose layout it is.
        images: the folder of the photographs, ``{}`` standing for the split's name.
        masks: the folder of the label maps, likewise.
        ids: of each number that the label maps hold, the position of its class; several numbers
            may stand for one class.
        ignored: the numbers that no score counts.
        splits: of each split, its name in the folders.
        listing: the file that names the photographs of a split; None takes all in the folder.
        image_suffix: what follows NAME in the photographs.
        mask_suffix: what follows NAME in the label maps.
        masks_decide: the folder of photographs holds other splits too, so the label maps say which
            ones are meant.
        prepared: what of "images", "masks" and "listing" has to be made by
            ``lexiseg data prepare``, because the download cannot be read as it is.
    """

    authors: str
    images: str
    masks: str
    ids: Mapping[int, int]
    ignored: frozenset[int]
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})
    listing: str | None = None
    image_suffix: str = ".jpg"
    mask_suffix: str = ".png"
    masks_decide: bool = False
    prepared: tuple[str, ...] = ()

    def paths(self, place: Path, split: str) -> dict[str, Path]:
        """The folders "images" and "masks" and, where there is such a file, the "listing"."""
        part = self.splits[split]
        patterns = {"images": self.images, "masks": self.masks}
        if self.listing is not None:
            patterns["listing"] = self.listing
        return {kind: place / pattern.format(part) for kind, pattern in patterns.items()}

    def lacking(self, place: Path, split: str) -> list[str]:
        """What of "images", "masks" and "listing" is not there; a folder without files is not."""
        suffixes = {"images": self.image_suffix, "masks": self.mask_suffix}
        return [
            kind
            for kind, path in self.paths(place, split).items()
            if not (
                path.is_file()
                if kind == "listing"
                else any(True for _ in _names(path, suffixes[kind]))
            )
        ]

    def pairs(self, place: Path, split: str) -> tuple[list[tuple[Path, Path]], list[str]]:
        """Photographs with their label maps, by name; and what lacks its other half, a line each.

        Raises:
            ValueError: the listing cannot be read.
        """
        paths = self.paths(place, split)
        images = set(_names(paths["images"], self.image_suffix))
        masks = set(_names(paths["masks"], self.mask_suffix))
        if self.listing is not None:
            names = set(read_listing(paths["listing"]))
            origin = f"{paths['listing']} names"
        elif self.masks_decide:
            names, origin = masks, f"{paths['masks']} holds"
        else:
            names, origin = images | masks, f"{place} holds"
        image_of = {name: paths["images"] / f"{name}{self.image_suffix}" for name in names}
        mask_of = {name: paths["masks"] / f"{name}{self.mask_suffix}" for name in names}
        faults = [
            f"{origin} {len(lacking)} names {whose}, the first {where[min(lacking)]}; {rule}"
            for lacking, whose, where, rule in (
                (names - images, "without a photograph", image_of, "each label map has one"),
                (names - masks, "without a label map", mask_of, "each photograph has one"),
            )
            if lacking
        ]
        both = sorted(names & images & masks)
        return [(image_of[name], mask_of[name]) for name in both], faults


@dataclass(frozen=True, eq=False)
class Renumbering:
    """Of each number that a file can hold the class's position.

    Attributes:
        table: by number; ``IGNORED_ID`` where nobody judged, or a mark that the number is strange.
    """

    table: UInt16[np.ndarray, "65536"] = field(repr=False)

    @classmethod
    def of(cls, layout: Layout) -> "Renumbering":
        """What the numbers of a layout stand for."""
        table = np.full(65536, _STRANGE_ID, np.uint16)
        table[list(layout.ids)] = list(layout.ids.values())
        table[list(layout.ignored)] = IGNORED_ID
        return cls(table)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the table."""
        return hashlib.sha256(self.table.tobytes()).hexdigest()


@dataclass(frozen=True)
class RenumberedMask:
    """A label map in a file in which several numbers stand for one class.

    Attributes:
        file: the label map.
        numbers: what they stand for; one for all masks of a layout.
    """

    file: Path
    numbers: Renumbering

    @property
    def name(self) -> str:
        """The path."""
        return str(self.file)

    def read(self) -> UInt[np.ndarray, "H W"]:
        """Positions of classes, and ``IGNORED_ID``.

        Raises:
            ValueError: the file holds a number that the layout does not know.
        """
        stored = read_label_map(self.file)
        positions = self.numbers.table[stored]
        if (positions == _STRANGE_ID).any():
            strange = np.unique(stored[positions == _STRANGE_ID]).tolist()
            raise ValueError(
                f"{self.file}: ids {strange[:12]} are no classes of this benchmark; "
                "was the file made for another one?"
            )
        return positions

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """Name and content of the file, and what its numbers stand for."""
        return (self.file.name, files.content(self.file), self.numbers.digest)


def _names(folder: Path, suffix: str) -> Iterator[str]:
    """The names of the files with a suffix, without it; files beside them are passed over."""
    for file in walk(folder):
        name = file.name.removesuffix(suffix)
        # COCO-Stuff's maps and what GroupViT's and mmsegmentation's scripts make of them lie in one
        # folder, NAME.png beside NAME_labelTrainIds.png.
        if name in ("", file.name) or name.endswith("TrainIds") or name.startswith("."):
            continue
        yield file.with_name(name).as_posix()
