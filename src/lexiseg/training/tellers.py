"""Data sets of photographs of which something is known, and what they tell of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from lexiseg.data.captions import CaptionDataset
from lexiseg.images import read_image

TEMPLATES = ("{}", "a photo of {}", "a picture that shows {}", "{} in a photo")
MOST_NAMES = 3  # of a sentence


@dataclass(frozen=True)
class Told:
    """A photograph with one thing said of it.

    Attributes:
        image: as it is stored.
        sentence: what is said.
        mentioned: the names in a sentence made of names; none in a caption.
        shown: all names that are known of the photograph.
    """

    image: UInt8[np.ndarray, "H W 3"]
    sentence: str
    mentioned: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


@runtime_checkable
class Teller(Protocol):
    """A data set of photographs of which something is known."""

    def draw(self, generator: np.random.Generator) -> Told:
        """A random photograph with a sentence."""
        ...

    def fingerprint(self) -> str:
        """What tells its files and words from others."""
        ...


class Named:
    """Photographs of which names are known; a sentence mentions up to three of them.

    Args:
        photographs: file and names; those without a name are left out.
    """

    def __init__(self, photographs: Sequence[tuple[Path, tuple[str, ...]]]) -> None:
        self.photographs = [row for row in photographs if row[1]]

    def draw(self, generator: np.random.Generator) -> Told:
        """A random photograph, and a sentence of random names of it."""
        path, names = self.photographs[int(generator.integers(len(self.photographs)))]
        count = min(len(names), int(generator.integers(1, MOST_NAMES + 1)))
        mentioned = tuple(names[i] for i in generator.permutation(len(names))[:count])
        template = TEMPLATES[int(generator.integers(len(TEMPLATES)))]
        return Told(read_image(path), template.format(listed(mentioned)), mentioned, names)

    def fingerprint(self) -> str:
        """Names and sizes of the photographs, and their names."""
        return repr([(p.name, p.stat().st_size, names) for p, names in self.photographs])


class Captioned:
    """Photographs with captions, each of which is a sentence."""

    def __init__(self, captions: CaptionDataset) -> None:
        self.captions = captions

    def draw(self, generator: np.random.Generator) -> Told:
        """A random caption with its photograph."""
        sample = self.captions[int(generator.integers(len(self.captions)))]
        return Told(sample.image, sample.caption)

    def fingerprint(self) -> str:
        """That of the captions."""
        return self.captions.fingerprint()


def listed(names: Sequence[str]) -> str:
    """The names as English lists them: "tree, cow and sky"."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
